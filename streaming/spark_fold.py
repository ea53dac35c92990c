"""The fold on Spark: the rules of `lakehouse/fold.py` as DataFrame expressions, held to it by tests.

Belongs here: versions to events to payments, on narrow columns. Does not: which rows are read or written.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.fold import AMBIGUOUS_REFERENCE, POSSIBLE_COLLISION, REVERSAL_CONFLICT
from quality.contract import REVERSED

# What deciding needs; the wide columns join again at the end, for the row that is shown.
NARROW = (
    "event_id",
    "content_hash",
    "business_key",
    "transaction_ref",
    "status",
    "revision",
    "first_ingest_ts",
)
ARRIVAL = ("first_ingest_ts", "topic_id", "partition", "offset")
VERSION_KEY = ("event_id", "content_hash")
PAYMENT_KEY = ("business_key", "transaction_ref")


def later_copies(copies: DataFrame) -> DataFrame:
    """Find the redeliveries within a batch: coordinates of every copy but the earliest of each version."""
    window = Window.partitionBy(*VERSION_KEY).orderBy(*ARRIVAL)
    ranked = copies.select(*VERSION_KEY, *ARRIVAL, F.row_number().over(window).alias("nth"))
    return ranked.where("nth > 1").select("topic_id", "partition", "offset")


def fold_events(versions: DataFrame) -> DataFrame:
    """Fold versions (`NARROW` columns) to one row per event: its winning version, business key, reference."""
    rank = _version_order()
    live = F.when(~_is_reversed(), F.struct(*rank, "business_key"))
    original = F.coalesce(F.min(live), F.min(F.struct(*rank, "business_key")))
    referenced = F.when(F.col("transaction_ref").isNotNull(), F.struct(*rank, "transaction_ref"))
    winning = F.max(F.struct(*rank, "status"))
    return versions.groupBy("event_id").agg(
        winning["content_hash"].alias("content_hash"),
        winning["status"].alias("status"),
        original["business_key"].alias("business_key"),
        F.max(referenced)["transaction_ref"].alias("transaction_ref"),
        F.min("first_ingest_ts").alias("first_ingest_ts"),
        F.max(F.coalesce("revision", F.lit(0))).alias("highest_revision"),
        F.min(_is_reversed()).alias("is_only_reversed"),
    )


def fold_payments(events: DataFrame) -> DataFrame:
    """Fold events to one row per payment: key, the version it shows, status, members and flags."""
    of_key = Window.partitionBy("business_key")
    joined = (
        events.withColumn("least_ref", F.min("transaction_ref").over(of_key))
        .withColumn("greatest_ref", F.max("transaction_ref").over(of_key))
        .withColumn("has_unreferenced", F.max(F.col("transaction_ref").isNull()).over(of_key))
        .withColumn("transaction_ref", F.coalesce("transaction_ref", "least_ref"))
    )
    shown = F.min(
        F.struct(
            "is_only_reversed",
            (-F.col("highest_revision")).alias("by_revision"),
            "first_ingest_ts",
            "event_id",
            "content_hash",
            "status",
        )
    )
    first = F.min(F.struct("first_ingest_ts", "event_id", "status"))
    is_void = (shown["status"] == REVERSED) | (first["status"] == REVERSED) | F.max("is_only_reversed")
    live_is_reversed = F.when(~F.col("is_only_reversed"), _is_reversed())
    is_ambiguous = (
        F.max("has_unreferenced")
        & (F.min("least_ref") < F.min("greatest_ref"))
        & (F.col("transaction_ref") == F.min("least_ref"))
    )
    flags = {
        AMBIGUOUS_REFERENCE: is_ambiguous,
        POSSIBLE_COLLISION: F.col("transaction_ref").isNull() & (F.count("*") > 1),
        REVERSAL_CONFLICT: F.min(live_is_reversed) < F.max(live_is_reversed),
    }
    return joined.groupBy(*PAYMENT_KEY).agg(
        shown["event_id"].alias("event_id"),
        shown["content_hash"].alias("content_hash"),
        F.when(is_void, REVERSED).otherwise(shown["status"]).alias("status"),
        F.sort_array(F.collect_list("event_id")).alias("event_ids"),
        F.array_compact(F.array(*(F.when(is_set, name) for name, is_set in flags.items()))).alias("flags"),
    )


def _version_order() -> list[Column]:
    """The rank of a version within its event, as in `lakehouse.fold.version_order`."""
    return [
        (_is_reversed() & F.col("revision").isNull()).alias("is_last"),
        F.coalesce("revision", F.lit(0)).alias("revision"),
        _is_reversed().alias("is_reversed"),
        F.col("first_ingest_ts"),
        F.col("content_hash"),
    ]


def _is_reversed() -> Column:
    return F.col("status") == REVERSED
