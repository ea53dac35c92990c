"""The short way to a verdict and the long one: the same result, whatever a record holds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality import judge as judging
from quality.canonical import parse_json
from quality.contract import HISTORY, MAX_ID_BYTES, Event
from quality.judge import judge_fields
from quality.usual import as_usual
from streaming.simulate import PRESETS, Plan
from tests.events import KAFKA_TS, event_id, wire
from tests.streams import steady

NEARLY = [
    "", " ", "-", "\n", "\t", "T1\nT2", "é", "٣", "\x7f", "a" * MAX_ID_BYTES, "a" * (MAX_ID_BYTES + 1),
    "0", "00", "1.", ".5", "1.50", "1.500", "1.23456", "-1", "-0", "+1", "1e2", "1E400",
    "999999999999999.9999", "1000000000000000", "2026-02-30T00:00:00Z", "2026-11-20T12:00:00",
    "2026-11-20T12:00:00.1234567Z",    "2026-11-20T12:00Z", "2026-11-20T24:00:00Z",
    "0001-01-01T00:00:00+14:00", "2026-11-20T12:00:00+0130",
    "AUTH", "auth", "REVERSED", "VISA", "JPY", "BHD", "ZZZ", event_id("e1"), event_id("e1").upper(),
]  # fmt: skip
FIELDS = (*parse_json(wire()), "revision", "original_event_id", "transaction_ref", "another")
values = st.one_of(
    st.sampled_from(NEARLY), st.none(), st.booleans(), st.integers(-1, 10**16), st.text(max_size=4),
    st.decimals("-1", "1e16", places=5).map(str), st.just([]), st.just({}), st.just({"a": "\ud83d"}),
)  # fmt: skip


def the_long_way(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(judging, "as_usual", lambda _: None)
        return judge_fields(fields, KAFKA_TS, HISTORY[-1])


@given(
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=4), st.sets(st.sampled_from(FIELDS), max_size=1)
)
def test_what_is_known_at_sight_is_what_the_rules_say(changes: dict[str, Any], gone: set[str]) -> None:
    fields = {k: v for k, v in (parse_json(wire()) | changes).items() if k not in gone}
    with pytest.MonkeyPatch.context() as patch:
        assert judge_fields(fields, KAFKA_TS, HISTORY[-1]) == the_long_way(fields, patch)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [*NEARLY, None, True, 7, [], {}, {"a": "\ud83d"}], ids=repr)
def test_each_field_with_each_odd_value_is_judged_alike(
    field: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = parse_json(wire()) | {field: value}
    assert judge_fields(fields, KAFKA_TS, HISTORY[-1]) == the_long_way(fields, monkeypatch)


def test_nearly_all_records_are_known_at_sight() -> None:
    clean = list(steady(Plan.recent(500, 7, PRESETS["clean"])).lines())
    assert all(as_usual(parse_json(line)) for line in clean)


def test_a_number_is_taken_by_its_text() -> None:
    fields = parse_json(wire().replace(b'"100.00"', b"12.30"))
    assert not isinstance(fields["amount"], str), "or this looks at nothing"
    typed = as_usual(fields)
    assert typed is not None and typed["amount"] == Decimal("12.30")


def test_judging_leaves_the_fields_as_they_are() -> None:
    for changes in ({}, {"another": 1}, {"amount": "x"}):
        fields = parse_json(wire(**changes))
        before = dict(fields)
        judge_fields(fields, KAFKA_TS, HISTORY[-1])
        assert fields == before


def test_what_is_known_at_sight_is_an_event() -> None:
    assert isinstance(judge_fields(parse_json(wire()), KAFKA_TS, HISTORY[-1]), Event)
