"""Transactions in SQL, by DuckDB: the same as the reference for thousands of random transactions at once."""

from __future__ import annotations

import decimal
from collections.abc import Iterable

import duckdb
import pyarrow as pa
import pytest

from lakehouse.transactions import STATUSES, Transaction, fold_parts
from lakehouse.transactions_sql import READ, sql
from tests.rows import Row
from tests.transactions import part_of, random_payments, too_much

FLAGS = {
    "capture_without_auth",
    "captured_more_than_authorised",
    "chargeback_after_refund",
    "refunded_more_than_captured",
    "voids_nothing",
}


def by_duckdb(rows: Iterable[Row], amount: str = "DECIMAL(19, 4)") -> list[Transaction]:
    """Run the view's SQL over payments, with their columns as the table has them."""
    held = pa.Table.from_pylist([{**row, "amount": str(row["amount"])} for row in rows])
    with duckdb.connect() as connection:
        connection.register("held", held)
        columns = ", ".join(f"amount::{amount} AS amount" if c == "amount" else c for c in READ)
        connection.execute(f"CREATE VIEW payments AS SELECT {columns} FROM held")
        cursor = connection.execute(sql("duckdb", "payments"))
        assert [c[0] for c in cursor.description] == list(Transaction._fields)
        assert {str(c[1]) for c in cursor.description[4:9]} == {"DECIMAL(28,4)"}
        return sorted((Transaction(*row[:-1], tuple(row[-1])) for row in cursor.fetchall()), key=str)


@pytest.mark.parametrize("seed", range(3))
def test_it_gives_what_the_reference_gives(seed: int) -> None:
    rows = list(random_payments(seed, accounts=2000))
    expected = sorted(fold_parts(map(part_of, rows)), key=str)
    assert by_duckdb(rows) == expected
    assert {t.status for t in expected} == set(STATUSES)
    assert {flag for t in expected for flag in t.flags} == FLAGS


def test_no_payments_are_no_transactions() -> None:
    row = next(random_payments(0, accounts=1))
    with duckdb.connect() as connection:
        connection.register("held", pa.Table.from_pylist([row]))
        connection.execute("CREATE VIEW payments AS SELECT * FROM held WHERE false")
        assert connection.execute(sql("duckdb", "payments")).fetchall() == []


def test_a_sum_that_does_not_fit_fails_and_is_not_rounded() -> None:
    halves = too_much()
    with pytest.raises(decimal.Rounded):
        fold_parts(map(part_of, halves))
    with pytest.raises(duckdb.ConversionException):
        by_duckdb(halves, "DECIMAL(29, 4)")
    assert by_duckdb(halves[:1], "DECIMAL(29, 4)") == fold_parts([part_of(halves[0])])
