"""Verifying curated.transactions: is it the fold of the payments that it says it was folded from?

Belongs here: that check. Does not: payments themselves (`verify.py`), keeping the table
(`streaming/transactions_job.py`).
"""

from __future__ import annotations

from typing import NamedTuple

from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import DataFrame, SparkSession

from lakehouse.definitions import BY_NAME, PAYMENTS, TRANSACTIONS
from lakehouse.refs import read_head
from lakehouse.transactions_sql import READ, sql
from streaming.frames import read_table
from streaming.replay.compare import collected, rows_that_differ
from streaming.replay.pinned import read_at
from streaming.replay.report import Difference
from streaming.table_sums import spark_sums

_COLUMNS = tuple(column.name for column in BY_NAME[TRANSACTIONS].columns)


class Sides(NamedTuple):
    """The payments that the table says it was folded from, what they come to, and what the table holds."""

    payments: DataFrame
    want: DataFrame
    have: DataFrame


def sides(catalog: RestCatalog, spark: SparkSession) -> Sides | None:
    """Read both sides; None where the job never ran, or payments no longer keep its source snapshot."""
    head = read_head(catalog, TRANSACTIONS)
    source = head.progress.source_snapshot
    if source is None or catalog.load_table(PAYMENTS).snapshot_by_id(source) is None:
        return None
    payments = read_table(spark, PAYMENTS, source).select(*READ)
    return Sides(payments, spark.sql(sql("spark", "{payments}"), payments=payments), read_at(spark, head))


def differences(both: Sides) -> list[Difference]:
    """Name the rows that differ."""
    definition = BY_NAME[TRANSACTIONS]
    found = rows_that_differ(both.want, both.have, definition.key, _COLUMNS, definition.key)
    return collected(TRANSACTIONS, found)


def check_transactions(catalog: RestCatalog, spark: SparkSession, buckets: int) -> list[Difference]:
    """Compare the table with the fold of its source snapshot of payments, by content hash, then by row."""
    both, definition = sides(catalog, spark), BY_NAME[TRANSACTIONS]
    if both is None or spark_sums(both.want, definition, buckets) == spark_sums(
        both.have, definition, buckets
    ):
        return []
    return differences(both)
