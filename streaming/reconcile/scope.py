"""What a reconciliation reads of raw: whole hours of Kafka time, and the offsets that belong to them.

Belongs here: finding the edges. Does not: reading what lies between (`records.py`).

A record that was removed from raw at the edge of an hour leaves nothing that tells its hour. So the offsets
of a range go from the last record before it to the first record after it, in each Kafka partition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.definitions import RAW
from lakehouse.offsets import OffsetVector
from streaming.frames import read_table
from streaming.replay.ranges import RawRange

# How far to look for a neighbour: a partition that had no record for a month is rare, and all is read for it.
_LADDER = (timedelta(hours=1), timedelta(days=1), timedelta(days=30), None)


def widened(
    spark: SparkSession, found: RawRange, end: OffsetVector
) -> tuple[RawRange, OffsetVector, OffsetVector]:
    """Widen a range of raw to its edges.

    Args:
        found: records by Kafka time (`range_of`).
        end: how far raw is folded.

    Returns:
        The range, and the vectors between which raw must have every offset.
    """
    first = OffsetVector() if found.since is None else _after_the_last_before(spark, found, found.since, end)
    last = end if found.until is None else _first_from(spark, found, found.until, end)
    # below, raw has nothing any more, and nothing is missing
    first, last = first.greatest(found.retired.below), last.greatest(found.retired.below)
    return replace(found, start=found.start.least(first), end=found.end.greatest(last)), first, last


def _after_the_last_before(
    spark: SparkSession, found: RawRange, moment: datetime, end: OffsetVector
) -> OffsetVector:
    def before(back: timedelta | None) -> Column:
        return _in_time(None if back is None else moment - back, moment)

    last = _neighbours(spark, found, before, F.max("offset") + 1, end)
    return OffsetVector({t: {p: last.get((t, p), 0) for p in parts} for t, parts in end.topics.items()})


def _first_from(spark: SparkSession, found: RawRange, moment: datetime, end: OffsetVector) -> OffsetVector:
    def after(on: timedelta | None) -> Column:
        return _in_time(moment, None if on is None else moment + on)

    first = _neighbours(spark, found, after, F.min("offset"), end)
    return OffsetVector(
        {t: {p: min(first.get((t, p), o), o) for p, o in parts.items()} for t, parts in end.topics.items()}
    )


def _neighbours(
    spark: SparkSession,
    found: RawRange,
    near: Callable[[timedelta | None], Column],
    offset: Column,
    end: OffsetVector,
) -> dict[tuple[str, int], int]:
    """Look for one offset of each partition, farther and farther away, until all have one."""
    wanted = {(topic_id, partition) for topic_id, partition, _ in end}
    neighbours: dict[tuple[str, int], int] = {}
    for distance in _LADDER:
        if wanted <= neighbours.keys():
            break
        rows: DataFrame = read_table(spark, RAW, found.snapshot_id).where(near(distance))
        for row in rows.groupBy("topic_id", "partition").agg(offset.alias("offset")).collect():
            neighbours[row["topic_id"], row["partition"]] = row["offset"]
    return neighbours


def _in_time(since: datetime | None, until: datetime | None) -> Column:
    later = F.lit(True) if since is None else F.col("kafka_ts") >= F.lit(since)
    return later if until is None else later & (F.col("kafka_ts") < F.lit(until))
