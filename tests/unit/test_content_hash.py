"""The content hash: the same from DuckDB and from plain Python, blind to order, to nothing else."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.types import DecimalType, DoubleType, ListType

from lakehouse.content_hash import (
    MAX_ROWS,
    Fingerprint,
    Fixed,
    Many,
    Record,
    Shape,
    Sums,
    Text,
    Time,
    Whole,
    combine,
    of_columns,
    of_lanes,
)
from lakehouse.definitions import BY_NAME, PAYMENTS, TABLES, Column, Table
from lakehouse.table_hash import NotHashable, of_arrow, shape_of, sql, sums_by_partition, sums_of_batches
from tests.rows import TEXTS, Row, arrow, edge_rows, rows_of

PAYMENT = BY_NAME[PAYMENTS]
each_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
TWO_TEXTS: Shape = (("a", Text()), ("b", Text()))


@pytest.fixture(scope="module")
def connection() -> Any:
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'America/New_York'")  # the hash must not care
        yield connection


def by_duckdb(connection: Any, table: Table, data: pa.Table, **choices: Any) -> dict[tuple[Any, ...], Sums]:
    connection.register("data", data)
    return sums_by_partition(connection.execute(sql(table, "duckdb", source="data", **choices)).fetchall())


def python(table: Table, rows: list[Row]) -> Fingerprint:
    """The fingerprint without Arrow: values as Python has them."""
    shape = shape_of(table)
    return of_columns(shape, [[row[name] for row in rows] for name, _ in shape]).fingerprint(shape)


def of_pairs(*rows: tuple[str | None, str | None]) -> Fingerprint:
    return of_columns(TWO_TEXTS, list(zip(*rows, strict=True)) or [(), ()]).fingerprint(TWO_TEXTS)


@each_table
def test_duckdb_arrow_and_python_agree_at_the_edges_of_every_type(connection: Any, table: Table) -> None:
    rows = edge_rows(table)
    data = arrow(table, rows)
    assert by_duckdb(connection, table, data)[()].fingerprint(shape_of(table)) == of_arrow(table, data)
    assert python(table, rows) == of_arrow(table, data)


@each_table
@settings(max_examples=15)
@given(data=st.data())
def test_duckdb_and_python_agree_on_random_rows(connection: Any, table: Table, data: st.DataObject) -> None:
    rows = data.draw(st.lists(rows_of(table), max_size=6))
    found = by_duckdb(connection, table, arrow(table, rows))[()]
    assert found.fingerprint(shape_of(table)) == of_arrow(table, arrow(table, rows)) == python(table, rows)


def test_neither_batches_nor_order_matter() -> None:
    rows = edge_rows(PAYMENT)
    whole = of_arrow(PAYMENT, arrow(PAYMENT, rows))
    assert of_arrow(PAYMENT, arrow(PAYMENT, rows[::-1])) == whole
    batches = arrow(PAYMENT, rows[5:] + rows[:5]).to_batches(max_chunksize=4)
    assert sums_of_batches(PAYMENT, batches).fingerprint(shape_of(PAYMENT)) == whole


@given(pool=st.lists(st.tuples(*[st.none() | st.sampled_from(TEXTS)] * 2), max_size=4), data=st.data())
def test_equal_hashes_mean_equal_multisets(pool: list[tuple[str | None, str | None]], data: Any) -> None:
    one, other = (data.draw(st.lists(st.sampled_from(pool) if pool else st.nothing())) for _ in range(2))
    assert (of_pairs(*one) == of_pairs(*other)) == (Counter(one) == Counter(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("ab", "c")], [("a", "bc")]),
        ([("a", None)], [(None, "a")]),
        ([("", "")], [(None, "")]),
        ([("-", "-")], [(None, None)]),
        ([("1:a", "b")], [("a", "1:b")]),
        ([("é", "")], [("e\u0301", "")]),
        ([("a", "b")], [("a", "b")] * 2),
        ([("a", "b")] * 2, [("a", "b")] * 3),
        ([("a", "a"), ("a", "a")], [("b", "b"), ("b", "b")]),
        ([("a", "b"), ("c", "d")], [("a", "d"), ("c", "b")]),
        ([], [(None, None)]),
    ],
)
def test_rows_that_differ_hash_differently(one: list[Any], other: list[Any]) -> None:
    assert of_pairs(*one) != of_pairs(*other)


def test_lists_keep_their_elements_apart() -> None:
    shape: Shape = (("l", Many(Text())),)
    lists = [None, [], [None], [""], ["", ""], ["a", "b"], ["b", "a"], ["ab"], ["1:a", "b"], ["a1:b"]]
    assert len({of_columns(shape, [[v]]).fingerprint(shape).hash for v in lists}) == len(lists)


def test_names_and_kinds_of_columns_count() -> None:
    shapes: list[Shape] = [
        (("a", Text()),),
        (("b", Text()),),
        (("a", Whole()),),
        (("a", Fixed(2)),),
        (("a", Fixed(4)),),
        (("a", Time()),),
        (("a", Many(Text())),),
        (("a", Many(Whole())),),
        (("a", Record((("x", Text()),))),),
        (("a", Text()), ("b", Text())),
    ]
    assert len({Sums().fingerprint(shape).hash for shape in shapes}) == len(shapes)


def test_values_are_written_by_value() -> None:
    assert Fixed(4).text(Decimal("100")) == Fixed(4).text(Decimal("1.0E+2")) == "100.0000"
    assert Fixed(4).text(Decimal("-0.0")) == "0.0000"
    assert Fixed(4).text(Decimal("-0.0001")) == "-0.0001"
    assert Time().text(datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)) == "-1"


def test_a_decimal_is_never_rounded() -> None:
    with pytest.raises(ArithmeticError):
        Fixed(4).text(Decimal("0.00001"))


@given(rows=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(TEXTS)), max_size=12))
def test_partitions_add_up_to_the_whole(rows: list[tuple[int, str]]) -> None:
    shape: Shape = (("p", Whole()), ("t", Text()))
    parts = [[row for row in rows if row[0] == p] for p in range(3)]
    sums = [of_columns(shape, [[r[i] for r in part] for i in range(2)]) for part in parts]
    whole = of_columns(shape, [[r[i] for r in rows] for i in range(2)])
    assert all(combine(order) == whole for order in permutations(sums))


def test_duckdb_sums_by_partition_and_they_add_up(connection: Any) -> None:
    data = arrow(PAYMENT, edge_rows(PAYMENT))
    hour = "epoch_us(event_ts) // 3600000000"
    parts = by_duckdb(connection, PAYMENT, data, partition={"hour": hour, "network": "network"})
    assert len(parts) > 5
    assert combine(parts.values()) == by_duckdb(connection, PAYMENT, data)[()]
    hours = by_duckdb(connection, PAYMENT, data, partition={"hour": hour})
    assert hours[(0,)] == by_duckdb(connection, PAYMENT, data, where=f"{hour} = 0")[()]


def test_chosen_columns_only(connection: Any) -> None:
    rows = edge_rows(PAYMENT)
    changed = [row | {"source": "another"} for row in rows]
    chosen = ["offset", "amount"]
    assert python(PAYMENT, rows) != python(PAYMENT, changed)
    assert of_arrow(PAYMENT, arrow(PAYMENT, rows), chosen) == of_arrow(
        PAYMENT, arrow(PAYMENT, changed), chosen
    )
    found = by_duckdb(connection, PAYMENT, arrow(PAYMENT, rows), columns=chosen)[()]
    assert found.fingerprint(shape_of(PAYMENT, chosen)) == of_arrow(PAYMENT, arrow(PAYMENT, rows), chosen)


def test_an_empty_table_has_a_hash_too(connection: Any) -> None:
    empty = arrow(PAYMENT, [])
    assert of_arrow(PAYMENT, empty) == python(PAYMENT, []) == Sums().fingerprint(shape_of(PAYMENT))
    assert by_duckdb(connection, PAYMENT, empty) == {(): Sums()}


def test_no_column_is_unknown_or_of_a_type_without_an_encoding() -> None:
    with pytest.raises(NotHashable, match="no column nope"):
        sql(PAYMENT, "spark", columns=["nope"])
    for kind in (DoubleType(), ListType(1, DoubleType(), True), DecimalType(38, 7), DecimalType(4, 4)):
        with pytest.raises(NotHashable, match="no encoding"):
            shape_of(Table("t", "m", (Column("c", kind, "meaning"),), ("c",), ()))
    with pytest.raises(ValueError, match="no columns"):
        of_columns((), [])


def test_more_rows_than_lanes_can_add_up_are_refused() -> None:
    assert of_lanes(1, [1] * 8).total == int("00000001" * 8, 16)
    with pytest.raises(ValueError, match="rows"):
        of_lanes(MAX_ROWS, [0] * 8)
    with pytest.raises(ValueError, match="lanes"):
        of_lanes(1, [0] * 7)


def test_the_encoding_is_what_the_record_says() -> None:
    """Hashes are kept and compared later: who changes this must change ENCODING with it."""
    shape: Shape = (("t", Text()), ("n", Whole()), ("d", Fixed(4)), ("l", Many(Text())))
    rows = [("é", -5, Decimal("1.5"), ["a", "", None]), (None, None, None, None)]
    written = [b"2:\xc3\xa92:-56:1.50006:1:a0:-", b"----"]
    total = sum(int(hashlib.sha256(row).hexdigest(), 16) for row in written)
    closed = b"1:11:t4:text1:n5:whole1:d8:fixed(4)1:l10:list<text>1:2"
    closed += b"%d:%d" % (len(str(total)), total)
    found = of_columns(shape, list(zip(*rows, strict=True))).fingerprint(shape)
    assert found == Fingerprint(2, hashlib.sha256(closed).hexdigest())
