"""The JSON Schemas say what the judge does, both ways; their files and page are those of the code."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from quality.canonical import UnreadableJson, parse_json
from quality.contract import HISTORY, Contract, Event, Violation, contract
from quality.contract_page import contract_page
from quality.event_schema import BEYOND_SCHEMA, Schema, event_schema
from quality.judge import judge
from streaming.schemas.files import FOLDER, PAGE, find_drift, read_schemas
from streaming.simulate import Mix, Plan
from tests.events import wire
from tests.streams import steady

# So late that no event is of the future; an archive may be as old as it likes.
DOOMSDAY = datetime(9999, 12, 31, tzinfo=UTC)
DIRTY = Mix(duplicates=0.1, reversals=0.1, corrections=0.1, unknown_fields=0.1, malformed=0.3)
VALIDATORS = {c.version: jsonschema_rs.validator_for(event_schema(c)) for c in HISTORY}
each_version = pytest.mark.parametrize("version", list(VALIDATORS))


def fits(fragment: Schema) -> st.SearchStrategy[Any]:
    """Values that fit a part of our schemas: just the keywords that these use."""
    if "anyOf" in fragment:
        return st.one_of([fits(part) for part in fragment["anyOf"]])
    if isinstance(fragment["type"], list):
        return st.one_of([fits({**fragment, "type": kind}) for kind in fragment["type"]])
    if "enum" in fragment:
        return st.sampled_from(fragment["enum"])
    if "pattern" in fragment and fragment["type"] == "string":
        return st.from_regex(re.compile(fragment["pattern"].replace("$", r"\Z"), re.ASCII))
    return {
        "null": st.none(),
        "object": st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2),
        "integer": st.integers(fragment.get("minimum"), fragment.get("maximum")),
        "number": st.integers(0, 10**6) | st.floats(0, 1e14),
        "string": st.text(min_size=1, max_size=fragment.get("maxLength")),
    }[fragment["type"]]


PROPERTIES = event_schema(HISTORY[-1])["properties"]
# Of all that the pattern of times allows, few are in the calendar.
MOMENTS = st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")
EVENTS = st.fixed_dictionaries(
    {
        name: MOMENTS | fits(field) if name.endswith("_ts") else fits(field)
        for name, field in PROPERTIES.items()
    }
)
ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4),
    st.just([]), st.just({}),
    st.sampled_from(["-1", "1e400", "1.00001", "0", "-0.0", "+1", "1.", "x" * 129, "JPY", "AUTH\n"]),
    st.sampled_from(["2026-11-20T12:00:00", "2026-13-20T12:00:00Z", "2026-11-20T25:00:00Z"]),
)  # fmt: skip


# Where a rule has no words in JSON Schema; elsewhere the same rule must be in the schema.
FIELDS = {
    "format": {"event_ts", "ingest_ts"},
    "length": {"account_id", "card_id", "merchant_id", "transaction_ref"},
    "range": {"amount"},
    "scale": {"amount"},
    "type": {"revision"},
}


def broken(fields: Any, by: Contract) -> list[Violation]:
    verdict = judge(json.dumps(fields).encode(), DOOMSDAY, by, archive=True)
    return [] if isinstance(verdict, Event) else verdict


def is_beyond(violation: Violation) -> bool:
    """Whether the schema cannot have known."""
    if violation.rule == "format" and not violation.message.endswith("no such moment"):
        return False
    return violation.rule in BEYOND_SCHEMA and violation.field in FIELDS.get(
        violation.rule, {violation.field}
    )


def assert_agree(fields: Any, version: int) -> None:
    found = broken(fields, contract(version))
    if VALIDATORS[version].is_valid(fields):
        assert all(map(is_beyond, found)), (fields, found)
    else:
        assert found, fields


@each_version
@given(fields=EVENTS)
def test_what_the_schema_describes_the_judge_accepts(version: int, fields: dict[str, Any]) -> None:
    assert_agree(fields, version)


@each_version
@given(fields=EVENTS, name=st.sampled_from(list(PROPERTIES)), value=ANYTHING)
def test_what_is_wrong_for_one_is_wrong_for_the_other(
    version: int, fields: dict[str, Any], name: str, value: Any
) -> None:
    assert_agree({**fields, name: value}, version)
    assert_agree({key: fields[key] for key in fields if key != name}, version)


@each_version
def test_the_events_that_were_tried_are_not_all_refused(version: int) -> None:
    is_good = VALIDATORS[version].is_valid
    any_at_all = settings(phases=[Phase.generate])  # the first will do: none is smaller
    find(EVENTS, lambda f: is_good(f) and not broken(f, contract(version)), settings=any_at_all)


@each_version
def test_every_record_of_a_dirty_stream_is_judged_the_same(version: int) -> None:
    counts = {True: 0, False: 0}
    for line in steady(Plan.recent(1500, 5, DIRTY)).lines():
        try:
            parse_json(line)
            fields = json.loads(line)
        except (UnreadableJson, ValueError):
            continue
        assert_agree(fields, version)
        counts[VALIDATORS[version].is_valid(fields)] += 1
    assert min(counts.values()) > 50


def test_each_required_field_and_each_rule_of_a_currency_is_in_the_schema() -> None:
    good = VALIDATORS[2].is_valid
    fields = json.loads(wire())
    assert good(fields)
    assert not [name for name in fields if good({k: v for k, v in fields.items() if k != name})]
    assert not good(json.loads(wire(currency="JPY", amount="1.5")))
    assert not good(json.loads(wire(currency="JPY", amount=1.5)))
    assert good(json.loads(wire(currency="JPY", amount="1.00")))
    assert good(json.loads(wire(currency="KWD", amount="1.555")))


def test_only_the_second_version_refuses_a_refund_of_nothing() -> None:
    for amount in ("0", "0.00", "-0.0", "0e5", 0, 0.0):
        refund = json.loads(wire(event_type="REFUND", amount=amount))
        assert [VALIDATORS[v].is_valid(refund) for v in (1, 2)] == [True, False]
        assert VALIDATORS[2].is_valid({**refund, "status": "REVERSED"})


def test_files_and_page_are_those_of_the_code() -> None:
    assert find_drift() == []
    assert list(read_schemas()) == [c.version for c in HISTORY]
    assert FOLDER.name == "payment-event" and PAGE.exists()


def test_the_example_on_the_page_is_a_good_event() -> None:
    _, example = contract_page(HISTORY).split("```json\n")
    fields = json.loads(example.split("```")[0])
    for version, validator in VALIDATORS.items():
        assert validator.is_valid(fields)
        assert not broken(fields, contract(version))
