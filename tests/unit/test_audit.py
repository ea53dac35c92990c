"""The checks on staged rows: exactly the offsets of the range, no key twice, sums that hold."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import NestedField, StringType

from lakehouse.audit import check_count, check_dense, check_readable, check_unique
from lakehouse.definitions import BY_NAME, PAYMENTS
from lakehouse.errors import AuditFailed
from lakehouse.offsets import OffsetVector
from quality.policy import CONSERVATION, DUPLICATE_KEY, FOREIGN_STAGE, OFFSET_GAP

BEFORE = OffsetVector({"t": {0: 5, 1: 2}})
AFTER = OffsetVector({"t": {0: 8, 1: 4, 2: 1}})
WHOLE = [("t", 0, 5), ("t", 0, 6), ("t", 0, 7), ("t", 1, 2), ("t", 1, 3), ("t", 2, 0)]
Row = tuple[str, int, int]


def staged(rows: list[Row]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
    names = ("topic_id", "partition", "offset")
    types = (pa.string(), pa.int32(), pa.int64())
    return pa.table({n: pa.array(c, type=t) for n, c, t in zip(names, columns, types, strict=True)})


@given(st.permutations(WHOLE))
def test_just_the_range_passes_in_any_order(rows: list[Row]) -> None:
    check_dense(staged(rows), BEFORE, AFTER, "raw")


def test_an_empty_range_wants_no_rows() -> None:
    check_dense(staged([]), AFTER, AFTER, "raw")
    with pytest.raises(AuditFailed, match="1 rows staged where the source range has 0"):
        check_dense(staged([("t", 0, 8)]), AFTER, AFTER, "raw")


@pytest.mark.parametrize("missing", WHOLE, ids=str)
def test_a_gap_is_found_wherever_it_is(missing: Row) -> None:
    with pytest.raises(AuditFailed, match=f"{missing[0]}-{missing[1]} the offsets"):
        check_dense(staged([row for row in WHOLE if row != missing]), BEFORE, AFTER, "raw")


@pytest.mark.parametrize("repeated", WHOLE, ids=str)
def test_a_repeat_is_found_wherever_it_is(repeated: Row) -> None:
    with pytest.raises(AuditFailed):
        check_dense(staged([*WHOLE, repeated]), BEFORE, AFTER, "raw")


@pytest.mark.parametrize("repeated", WHOLE[:5], ids=str)
def test_a_repeat_does_not_make_up_for_a_gap(repeated: Row) -> None:
    rows = [row for row in WHOLE if row != repeated]
    other = next(row for row in rows if row[1] == repeated[1])
    with pytest.raises(AuditFailed):
        check_dense(staged([*rows, other]), BEFORE, AFTER, "raw")


@pytest.mark.parametrize("stray", [("t", 0, 4), ("t", 0, 8), ("t", 3, 0), ("u", 0, 5)], ids=str)
def test_a_row_from_elsewhere_is_found(stray: Row) -> None:
    with pytest.raises(AuditFailed):
        check_dense(staged([*WHOLE, stray]), BEFORE, AFTER, "raw")
    with pytest.raises(AuditFailed):
        check_dense(staged([*WHOLE[1:], stray]), BEFORE, AFTER, "raw")


def test_nothing_staged_where_rows_are_due_is_a_gap() -> None:
    for nothing in (staged([]), pa.table({"topic_id": [], "partition": [], "offset": []})):
        with pytest.raises(AuditFailed, match="found 0 rows"):
            check_dense(nothing, BEFORE, AFTER, "raw")


def test_keys_are_unique_as_a_whole_with_nulls_as_values() -> None:
    keys = pa.table({"key": ["a", "a", "b", "b"], "ref": ["x", None, "x", None]})
    check_unique(keys, ("key", "ref"), "payments")
    check_unique(keys.slice(0, 0), ("key", "ref"), "payments")
    with pytest.raises(AuditFailed, match="2 staged rows repeat their key"):
        check_unique(keys, ("key",), "payments")
    with pytest.raises(AuditFailed, match="1 staged rows repeat"):
        check_unique(pa.concat_tables([keys, keys.slice(1, 1)]), ("key", "ref"), "payments")


def test_each_check_names_its_gate_and_table() -> None:
    failing: list[tuple[str, Callable[[], None]]] = [
        (OFFSET_GAP, lambda: check_dense(staged(WHOLE[1:]), BEFORE, AFTER, "raw")),
        (OFFSET_GAP, lambda: check_dense(staged([*WHOLE, ("u", 0, 5)]), BEFORE, AFTER, "raw")),
        (DUPLICATE_KEY, lambda: check_unique(staged([*WHOLE, WHOLE[0]]), ("offset",), "raw")),
        (CONSERVATION, lambda: check_count(2, 3, "rows", "raw")),
        (OFFSET_GAP, lambda: check_count(2, 3, "records read", "raw", OFFSET_GAP)),
    ]
    for gate, check in failing:
        with pytest.raises(AuditFailed) as failed:
            check()
        assert (failed.value.gate, failed.value.table) == (gate, "raw")
    assert AuditFailed("nothing was staged").gate == FOREIGN_STAGE


def test_a_count_names_both_sides() -> None:
    check_count(3, 3, "versions", "v")
    with pytest.raises(AuditFailed, match="table v: 2 versions, 3 expected"):
        check_count(2, 3, "versions", "v")


def of_payments(version: int = 3, *more: NestedField) -> TableMetadata:
    schema = Schema(*BY_NAME[PAYMENTS].schema().fields, *more)
    return new_table_metadata(
        schema,
        UNPARTITIONED_PARTITION_SPEC,
        UNSORTED_SORT_ORDER,
        "s3://b/t",
        {"format-version": str(version)},
    )


def with_deletes(count: int) -> Snapshot:
    summary = Summary(Operation.OVERWRITE, **{"total-equality-deletes": str(count)})
    return Snapshot(**{"snapshot-id": 1, "timestamp-ms": 0, "manifest-list": "m", "summary": summary})


def test_deletes_that_snowflake_does_not_read_are_refused() -> None:
    check_readable(PAYMENTS, with_deletes(0), of_payments())
    with pytest.raises(AuditFailed, match="2 equality deletes"):
        check_readable(PAYMENTS, with_deletes(2), of_payments())


def test_a_table_that_was_given_another_format_is_not_published_to() -> None:
    with pytest.raises(AuditFailed, match="made format v2, and is defined as v3"):
        check_readable(PAYMENTS, with_deletes(0), of_payments(2))


def test_a_column_that_was_made_required_stops_publishing_and_an_optional_one_does_not() -> None:
    check_readable(PAYMENTS, with_deletes(0), of_payments(3, NestedField(99, "note", StringType())))
    with pytest.raises(AuditFailed, match="note was made required"):
        added = NestedField(99, "note", StringType(), required=True)
        check_readable(PAYMENTS, with_deletes(0), of_payments(3, added))
