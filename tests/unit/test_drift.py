"""What counts as carried beside the contract, and how counts are added up."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.drift import HIDDEN, MAX_NAME, unknown_fields
from streaming.schemas.drift_count import MAX_FIELDS, MORE, SCHEMA, TALLY, _count_batches
from tests.events import KAFKA_TS, valid, wire


def found(data: bytes | None) -> set[tuple[str, str]]:
    return {(name, kind) for name, kind in unknown_fields(data)}


def test_an_event_as_the_contract_wants_it_carries_nothing_beside_it() -> None:
    known = {"channel": "pos", "merchant": {"anything": [1]}, "device": None}
    assert found(wire(attributes=known, revision=1, transaction_ref="T", original="e0")) == set()


def test_unknown_fields_are_named_with_their_json_type() -> None:
    data = wire(tier="gold", score=1.5, count=7, flag=True, tags=[1], extra={"a": 1}, gone=None)
    assert found(data) == {
        ("tier", "string"),
        ("score", "number"),
        ("count", "number"),
        ("flag", "boolean"),
        ("tags", "array"),
        ("extra", "object"),
        ("gone", "null"),
    }


def test_attributes_are_known_by_name_and_type() -> None:
    assert found(wire(attributes={"channel": 7, "loyalty": {"tier": 1}, "gone": None})) == {
        ("attributes.channel", "number"),
        ("attributes.loyalty", "object"),
        ("attributes.gone", "null"),
    }


def test_a_record_that_breaks_the_contract_is_looked_at_too() -> None:
    assert found(wire(account_id=7, tier="gold")) == {("tier", "string")}
    assert found(wire(attributes=[1], tier="gold")) == {("tier", "string")}


@pytest.mark.parametrize("data", [None, b"", b"[1]", b"{", b"\xff", b'{"a":1,"a":2}', b"NaN"])
def test_what_is_no_object_carries_nothing(data: bytes | None) -> None:
    assert found(data) == set()


def test_names_are_kept_short_whole_and_free_of_card_numbers() -> None:
    names = {"x" * 500: 1, "card 4111 1111 1111 1111": 1, "half \ud800": 1}
    shown = {name for name, _ in found(wire(**names))}
    assert shown == {"x" * MAX_NAME, HIDDEN, "half ?"}


@given(st.dictionaries(st.text("abc", max_size=4), st.integers() | st.text() | st.none(), max_size=4))
def test_every_unknown_field_of_a_good_event_is_kept_and_counted(extra: dict[str, Any]) -> None:
    names = {f"x{name}": value for name, value in extra.items()}
    data = wire(attributes={}, **names)
    assert set(json.loads(valid(data).attributes)) == names.keys()
    assert {name for name, _ in found(data)} == names.keys()


def counted(*records: tuple[datetime, str | None, bytes]) -> pa.Table:
    times, sources, values = zip(*records, strict=True)
    batch = pa.RecordBatch.from_pydict(
        {
            "kafka_ts": pa.array(times, pa.timestamp("us", "UTC")),
            "source": pa.array(sources, pa.string()),
            "value": pa.array(values, pa.binary()),
        }
    )
    (result,) = _count_batches([batch])
    return pa.table(result).cast(SCHEMA)


def test_counts_are_per_hour_partner_field_and_type_whatever_the_batches() -> None:
    later = KAFKA_TS + timedelta(minutes=5)
    next_hour = KAFKA_TS + timedelta(hours=1)
    records = [
        (later, "bank", wire(tier="gold")),
        (KAFKA_TS, "bank", wire(tier="gold", score=1)),
        (next_hour, "bank", wire(tier="gold")),
        (KAFKA_TS, None, wire(tier="gold")),
    ]
    whole = counted(*records)
    parts = TALLY.total(*(counted(record) for record in records))
    assert sorted(whole.to_pylist(), key=str) == sorted(parts.to_pylist(), key=str)
    hour = datetime(2026, 11, 20, 13, tzinfo=UTC)
    assert {
        "kafka_hour": hour,
        "source": "bank",
        "field": "tier",
        "json_type": "string",
        "first_seen": KAFKA_TS,
        "last_seen": later,
        "records": 2,
    } in whole.to_pylist()
    assert whole.num_rows == 4
    assert {row["source"] for row in whole.to_pylist()} == {"bank", ""}
    assert TALLY.same_keys(whole, counted(records[2])).to_pylist() == counted(records[2]).to_pylist()


def test_a_partner_that_uses_ids_for_names_does_not_fill_the_memory() -> None:
    table = counted(*((KAFKA_TS, "bank", wire(**{f"id{n}": n})) for n in range(MAX_FIELDS + 500)))
    assert table.num_rows == MAX_FIELDS + 1
    assert {row["field"]: row["records"] for row in table.to_pylist()}[MORE] == 500
