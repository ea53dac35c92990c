"""Old rows for benchmarks: tables that have been in use for long, filled in without folding anything.

Belongs here: synthetic rows straight into versions, payments and raw, in hours that nothing measured touches.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.definitions import BY_NAME, PAYMENTS, VERSIONS
from lakehouse.publish import Plan, Publisher
from lakehouse.refs import Head
from lakehouse.staging import append

ROWS_PER_HOUR = 20_000
_HOURS_PER_PUBLISH = 50


def fill(
    spark: SparkSession,
    catalog: RestCatalog,
    rows: int,
    before: datetime,
    tables: tuple[str, ...] = (VERSIONS, PAYMENTS),
) -> None:
    """Publish that many rows to each table, raw too if it is named, `ROWS_PER_HOUR` for each hour before."""
    hours = max(1, rows // ROWS_PER_HOUR)
    for first in range(0, hours, _HOURS_PER_PUBLISH):
        some = min(_HOURS_PER_PUBLISH, hours - first)
        old = _rows(spark, first, some, before)
        for table in tables:
            filled = old.select(*(column.name for column in BY_NAME[table].columns))
            Publisher(catalog, "bench").publish(table, _appending(filled))


def _appending(rows: DataFrame) -> Callable[[Head], Plan]:
    return lambda _head: Plan(lambda stage: append(stage, rows), lambda _table, _snapshot: None)


def _rows(spark: SparkSession, first: int, hours: int, before: datetime) -> DataFrame:
    start = int(before.timestamp()) - (first + hours) * 3600
    ids = spark.range(first * ROWS_PER_HOUR, (first + hours) * ROWS_PER_HOUR, numPartitions=2)
    second = F.lit(start) + F.floor((F.col("id") - first * ROWS_PER_HOUR) * 3600 / ROWS_PER_HOUR)
    name = F.lpad(F.hex("id"), 64, "0")
    at = F.timestamp_seconds(second)
    texts = {"event_type": "AUTH", "card_id": "tok_old", "merchant_id": "mer_old", "currency": "EUR"}
    texts |= {"network": "VISA", "status": "APPROVED", "attributes": "{}", "source": "old"}
    texts |= {"topic_id": "old", "topic": "old"}
    return ids.select(
        name.alias("event_id"),
        name.alias("content_hash"),
        name.alias("business_key"),
        F.concat(F.lit("acct_old_"), F.col("id") % 1000).alias("account_id"),
        at.alias("event_ts"),
        at.alias("first_ingest_ts"),
        at.alias("kafka_ts"),
        F.lit(1).cast("decimal(19,4)").alias("amount"),
        *(F.lit(value).alias(column) for column, value in texts.items()),
        F.lit(None).cast("long").alias("revision"),
        F.lit(None).cast("string").alias("original_event_id"),
        F.concat(F.lit("ref_"), F.col("id")).alias("transaction_ref"),
        F.lit(0).alias("partition"),
        F.col("id").alias("offset"),
        F.array(name).alias("event_ids"),
        F.array().cast("array<string>").alias("flags"),
        F.lit(None).cast("array<struct<key:string,value:binary>>").alias("headers"),
        F.encode(name, "UTF-8").alias("key"),
        F.encode(F.concat(*(F.sha2(F.concat(name, F.lit(i)), 256) for i in range(8))), "UTF-8").alias(
            "value"
        ),
        F.lit(None).cast("string").alias("redrive_of"),
    )
