"""Transactions in SQL, by Spark: the same as the reference, and no sum that does not fit."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pytest
from pyspark.errors import ArithmeticException
from pyspark.sql import SparkSession

from lakehouse.transactions import Transaction, fold_parts
from lakehouse.transactions_sql import sql
from tests.rows import Row
from tests.transactions import part_of, random_payments, too_much

pytestmark = pytest.mark.integration


def by_spark(spark: SparkSession, rows: Iterable[Row], precision: int = 19) -> list[Transaction]:
    held = pa.Table.from_pylist(list(rows))
    amount = held.schema.get_field_index("amount")
    held = held.set_column(amount, "amount", held["amount"].cast(pa.decimal128(precision, 4)))
    found = spark.sql(sql("spark", "{payments}"), payments=spark.createDataFrame(held)).collect()
    return sorted((Transaction(*row[:-1], tuple(row[-1])) for row in found), key=str)


def test_it_gives_what_the_reference_gives(spark: SparkSession) -> None:
    rows = list(random_payments(seed=4, accounts=2000))
    assert by_spark(spark, rows) == sorted(fold_parts(map(part_of, rows)), key=str)


def test_a_sum_that_does_not_fit_fails_and_is_not_rounded(spark: SparkSession) -> None:
    halves = too_much()
    with pytest.raises(ArithmeticException):
        by_spark(spark, halves, precision=29)
    assert by_spark(spark, halves[:1], precision=29) == fold_parts([part_of(halves[0])])
