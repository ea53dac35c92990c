"""Verifying curated.transactions: is it the fold of the payments that it says it was folded from?

Belongs here: that check. Does not: payments themselves (`verify.py`), keeping the table
(`streaming/transactions_job.py`).
"""

from __future__ import annotations

from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from lakehouse.definitions import BY_NAME, PAYMENTS, TRANSACTIONS
from lakehouse.refs import read_head
from lakehouse.transactions_sql import READ, sql
from streaming.frames import read_table
from streaming.replay.compare import collected, rows_that_differ
from streaming.replay.pinned import read_at
from streaming.replay.report import Difference
from streaming.table_sums import spark_sums

_COLUMNS = tuple(column.name for column in BY_NAME[TRANSACTIONS].columns)


def check_transactions(catalog: RestCatalog, spark: SparkSession, buckets: int) -> list[Difference]:
    """Compare the table with the fold of its source snapshot of payments, by content hash, then by row.

    Nothing is compared where the job never ran, or payments no longer keep that snapshot.
    """
    head = read_head(catalog, TRANSACTIONS)
    source = head.progress.source_snapshot
    if source is None or catalog.load_table(PAYMENTS).snapshot_by_id(source) is None:
        return []
    payments = read_table(spark, PAYMENTS, source).select(*READ)
    want, have = spark.sql(sql("spark", "{payments}"), payments=payments), read_at(spark, head)
    definition = BY_NAME[TRANSACTIONS]
    if spark_sums(want, definition, buckets) == spark_sums(have, definition, buckets):
        return []
    found = rows_that_differ(want, have, definition.key, _COLUMNS, definition.key)
    return collected(TRANSACTIONS, found)
