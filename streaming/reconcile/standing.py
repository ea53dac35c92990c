"""Where each record of a chunk of raw stands: in event_versions, in quarantine, redelivered, or nowhere.

Belongs here: bringing raw and the tables together by coordinates, as one frame. Does not: adding it up
(`records.py`), judging (`streaming/decode.py`).

Nothing is derived from the sum that it is to prove: a record is a redelivery because event_versions tells its
content by another copy, and unaccounted for where it does not tell it at all.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.definitions import QUARANTINE, VERSIONS
from lakehouse.retired import Retired
from streaming.fold_groups import VERSION_KEY
from streaming.partitions import Partition, hour_sql
from streaming.replay.expected import COORDINATES, is_retired
from streaming.replay.pinned import Pinned
from streaming.replay.ranges import RawRange

VERSION, REDELIVERED, QUARANTINED = "version", "redelivered", "quarantined"
# What is wrong with a record, or with a row that claims to be of one.
UNACCOUNTED = "in raw, and neither in event_versions nor in quarantine"
NOT_IN_RAW = "in event_versions or quarantine, and not in raw"
REPEATED = "more than once in raw, event_versions or quarantine"
IN_TWO_PLACES = "in event_versions or quarantine, where its bytes do not belong"
OTHER_AMOUNT = "another amount, currency or type in event_versions than in raw"
_MONEY = ("currency", "event_type", "amount")
_SAID, _BROKEN, _MISSING = "says", "broken", "missing"


def standing(decoded: DataFrame, pinned: Pinned, chunk: RawRange, touched: Iterable[Partition]) -> DataFrame:
    """Say of each coordinate of a chunk where it stands.

    Args:
        decoded: the judged records of the chunk (`judged`).
        touched: the partitions of event_versions that they speak of.

    Returns:
        `COORDINATES`, `topic`, `hour` (of Kafka time), `what` (one of the constants above), counts `records`,
        `told`, `held` of rows in raw, event_versions and quarantine, and money as event_versions tells it
        (`told_amount`) and as raw does (`amount`), by `currency` and `event_type`.
    """
    known = (
        pinned.read(VERSIONS, touched).groupBy(*VERSION_KEY).agg(F.min(F.struct(*COORDINATES)).alias("known"))
    )
    records = decoded.join(known, list(VERSION_KEY), "left").select(
        *_where("record"), _says(pinned.retired[VERSIONS]).alias(_SAID), *_MONEY
    )
    told = chunk.narrow(pinned.read(VERSIONS)).select(*_where("told"), *_MONEY)
    held = chunk.narrow(pinned.read(QUARANTINE)).select(*_where("held"))
    rows = records.unionByName(told, allowMissingColumns=True)
    return _by_coordinates(rows.unionByName(held, allowMissingColumns=True))


def _where(kind: str) -> list[Column]:
    return [*map(F.col, (*COORDINATES, "topic", "kafka_ts")), F.lit(kind).alias("kind")]


def _says(retired: Retired) -> Column:
    is_told_by_it = F.col("known") == F.struct(*COORDINATES)
    return (
        F.when(F.col("violations").isNotNull(), _BROKEN)
        # its version went by retention: like that of a redelivery, its own row is not to be there
        .when(F.col("known").isNull() & is_retired(retired), REDELIVERED)
        .when(F.col("known").isNull(), _MISSING)
        .when(is_told_by_it, VERSION)
        .otherwise(REDELIVERED)
    )


def _by_coordinates(rows: DataFrame) -> DataFrame:
    is_record, is_told = F.col("kind") == "record", F.col("kind") == "told"
    money = F.struct(*_MONEY)
    found = rows.groupBy(*COORDINATES).agg(
        F.max("topic").alias("topic"),
        F.min("kafka_ts").alias("kafka_ts"),
        F.count_if(is_record).alias("records"),
        F.count_if(is_told).alias("told"),
        F.count_if(F.col("kind") == "held").alias("held"),
        F.max(_SAID).alias(_SAID),
        F.max(F.when(is_record, money)).alias("of_record"),
        F.max(F.when(is_told, money)).alias("of_version"),
    )
    known = F.coalesce(F.when(F.col(_SAID) != _BROKEN, F.col("of_record")), F.col("of_version"))
    return found.select(
        *COORDINATES,
        "topic",
        F.expr(hour_sql("kafka_ts")).alias("hour"),
        _what().alias("what"),
        "records",
        "told",
        "held",
        known["currency"].alias("currency"),
        known["event_type"].alias("event_type"),
        F.when(F.col(_SAID) == VERSION, F.col("of_record.amount")).alias("amount"),
        F.col("of_version.amount").alias("told_amount"),
    )


def _what() -> Column:
    says, told, held = F.col(_SAID), F.col("told"), F.col("held")
    return (
        F.when(F.col("records") == 0, NOT_IN_RAW)
        .when((F.col("records") > 1) | (told > 1) | (held > 1), REPEATED)
        .when((says == VERSION) & (told == 1) & (held == 0) & ~_same_money(), OTHER_AMOUNT)
        .when((says == VERSION) & (told == 1) & (held == 0), VERSION)
        .when((says == REDELIVERED) & (told == 0) & (held == 0), REDELIVERED)
        .when((says == _BROKEN) & (told == 0) & (held == 1), QUARANTINED)
        .when(told + held == 0, UNACCOUNTED)
        .otherwise(IN_TWO_PLACES)
    )


def _same_money() -> Column:
    return F.col("of_record").eqNullSafe(F.col("of_version"))
