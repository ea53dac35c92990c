"""The canonical bytes of a row: fixed by example, and the same from Arrow's columns and from the verifier."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.definitions import BY_NAME, PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.exports import verifier
from lakehouse.exports.canonical_rows import encoded, plain
from lakehouse.exports.merkle import leaf_hash
from lakehouse.exports.parts import plain_rows
from tests.rows import Row, arrow, edge_rows, rows_of

EXPORTED = [BY_NAME[name] for name in (PAYMENTS, VERSIONS, QUARANTINE, RAW)]


def test_a_row_by_example() -> None:
    row = {
        "z": 'é"\\\n\x7f',
        "amount": Decimal("100.0000"),
        "at": datetime(2026, 11, 20, 14, tzinfo=timezone(timedelta(hours=2))),
        "value": b"\x00\xff",
        "none": None,
        "list": [{"b": 1, "a": b"x"}],
    }
    assert encoded(plain(row)).decode() == (
        '{"amount":"100.0000","at":"2026-11-20T12:00:00.000000Z","list":[{"a":"eA==","b":1}],'
        '"none":null,"value":"AP8=","z":"é\\"\\\\\\n\x7f"}'
    )


def test_a_kind_that_no_table_has_is_refused() -> None:
    with pytest.raises(TypeError, match="float"):
        plain(1.5)


@pytest.mark.parametrize("table", EXPORTED, ids=lambda t: t.name)
def test_the_extremes_of_each_type(table) -> None:
    assert_same(table, edge_rows(table))


@pytest.mark.parametrize("table", EXPORTED, ids=lambda t: t.name)
@settings(max_examples=25)
@given(st.data())
def test_columns_rows_and_the_independent_verifier_give_the_same_bytes(table, data: st.DataObject) -> None:
    assert_same(table, data.draw(st.lists(rows_of(table), min_size=1, max_size=3)))


def assert_same(table, rows: list[Row]) -> None:
    data = arrow(table, rows)
    by_columns = [encoded(row) for row in plain_rows(data)]
    assert by_columns == [encoded(plain(row)) for row in rows]
    leaves = [leaf_hash(leaf) for leaf in by_columns]
    assert leaves == list(verifier.leaves_in(as_parquet(data)))
    for leaf in by_columns:  # the leaf's text says the same again: proofs carry the row as JSON
        assert verifier.leaf_of(json.loads(leaf)) == hashlib.sha256(b"\x00" + leaf).digest()


def as_parquet(data: pa.Table) -> pa.BufferReader:
    sink = pa.BufferOutputStream()
    pq.write_table(data, sink)
    return pa.BufferReader(sink.getvalue())


def test_a_time_that_python_does_not_have_is_text_all_the_same() -> None:
    """A partner may send any time in a header, and must not break whoever verifies an export."""
    micros = [253_402_300_800_000_000, 9_000_000_000_000_000_000, -9_000_000_000_000_000_000]
    data = pa.table({"event_ts": pa.array(micros, pa.timestamp("us", "UTC"))})
    rows = list(plain_rows(data))
    assert rows[0] == {"event_ts": "10000-01-01T00:00:00.000000Z"}
    assert [leaf_hash(encoded(row)) for row in rows] == list(verifier.leaves_in(as_parquet(data)))


def test_large_types_of_arrow_make_no_difference() -> None:
    small = pa.table({"a": pa.array(["x"]), "b": pa.array([b"\xff"])})
    large = small.cast(pa.schema([("a", pa.large_string()), ("b", pa.large_binary())]))
    assert list(plain_rows(small)) == list(plain_rows(large)) == [{"a": "x", "b": "/w=="}]


def test_times_have_a_zone() -> None:
    assert plain(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000000Z"
