"""The state of a quarantined record: open, or redriven, as the records of raw say that stand for it.

Belongs here: finding those records, and the columns that follow. Does not: publishing (`curated_batch.py`).

The state is a part of the fold: a record is redriven if any record of raw is its redrive, whichever of the
two a batch meets first. So there is nothing to repair after a crash, and a rebuild comes to equal rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.fold import Coordinates
from lakehouse.redrive_mark import read_mark, written
from streaming.partitions import hour_sql, hours_predicate

OPEN, REDRIVEN = "open", "redriven"
STATE = ("state", "redriven_by", "redriven_at")
# The Kafka time belongs to it: a mark that names another one names no record, and it prunes whole hours.
NAMED = (*Coordinates._fields, "kafka_ts")
_SCHEMA = pa.schema(
    [
        pa.field("topic_id", pa.string()),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("kafka_ts", pa.timestamp("us", "UTC")),
        pa.field("redriven_by", pa.string()),
        pa.field("redriven_at", pa.timestamp("us", "UTC")),
    ]
)
_DDL = (
    "topic_id string, partition int, offset long, kafka_ts timestamp, "
    "redriven_by string, redriven_at timestamp"
)


def redrives(raw: DataFrame) -> DataFrame:
    """Find the records of raw that stand for others.

    Returns:
        One row per record that is stood for: `NAMED`, and `redriven_by` and `redriven_at` of the first one
        that does so. Whether it ever was quarantined, or is there at all, is not looked at.
    """
    marked = raw.where("redrive_of IS NOT NULL").select(*NAMED, "headers")
    first = F.min(F.struct("redriven_at", "redriven_by")).alias("first")
    return (
        marked.mapInArrow(_read_marks, _DDL)
        .groupBy(*NAMED)
        .agg(first)
        .select(*NAMED, "first.redriven_by", "first.redriven_at")
    )


def with_state(quarantined: DataFrame, found: DataFrame) -> DataFrame:
    """Give records that break the contract the columns `STATE`, as the redrives that were found say."""
    state = F.when(F.col("redriven_by").isNull(), OPEN).otherwise(REDRIVEN)
    return quarantined.join(found, list(NAMED), "left").withColumn("state", state)


def brought_on(rows: DataFrame, found: DataFrame) -> DataFrame:
    """Of quarantine's rows those that the redrives change, with what they say then."""
    said = found.withColumnsRenamed({"redriven_by": "by", "redriven_at": "at"})
    is_first = F.col("redriven_at").isNull() | (
        F.struct("at", "by") < F.struct(F.col("redriven_at"), F.col("redriven_by"))
    )
    now = {"state": F.lit(REDRIVEN), "redriven_by": F.col("by"), "redriven_at": F.col("at")}
    return rows.join(said, list(NAMED)).where(is_first).withColumns(now).drop("by", "at")


def in_hours_of(rows: DataFrame, alias: str = "") -> str:
    """Render SQL that is true for rows whose `kafka_ts` lies in the hours of those of these few rows."""
    hours = rows.select(F.expr(hour_sql("kafka_ts")).alias("hour")).distinct().collect()
    return hours_predicate((row["hour"] for row in hours), "kafka_ts", alias)


def _read_marks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        found = []
        for row in batch.to_pylist():
            own = Coordinates(row["topic_id"], row["partition"], row["offset"])
            mark = read_mark(row["headers"], own, row["kafka_ts"])
            if mark is not None and not mark.has_more:
                found.append((*mark.of, mark.of_time, written(own), row["kafka_ts"]))
        columns = zip(*found, strict=True) if found else [()] * len(_SCHEMA)
        arrays = [pa.array(c, field.type) for c, field in zip(columns, _SCHEMA, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)
