"""Reading raw in batches: from an offset vector to a later one, exactly, by snapshot range where that exists.

Belongs here: choosing a batch and reading its rows. Does not: what is made of them (`curated_job.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import RAW
from lakehouse.offsets import OffsetVector
from lakehouse.refs import Head, ancestry, stamp_of


@dataclass(frozen=True)
class RawBatch:
    """Records of raw between two vectors; the snapshots `after` and `until` tell where their files are."""

    start: OffsetVector
    end: OffsetVector
    until: int
    after: int | None

    @property
    def records(self) -> int:
        return self.start.records_to(self.end)


def next_batch(raw: Head, start: OffsetVector, hint: int | None, max_records: int) -> RawBatch | None:
    """Choose the next batch: whole raw snapshots after `start`, up to about `max_records`.

    `hint` is the raw snapshot that `start` was read up to; where it has expired, the rows are found by their
    coordinates instead. Returns None where raw holds nothing new.
    """
    end, until = start, None
    for snapshot in reversed(list(ancestry(raw.table.metadata, raw.snapshot))):
        reached = _progress(snapshot)
        if reached is None or start.covers(reached):
            continue
        if until is not None and start.records_to(reached) > max_records:
            break
        end, until = reached, snapshot.snapshot_id
    if until is None:
        return None
    is_kept = hint is not None and any(
        s.snapshot_id == hint for s in ancestry(raw.table.metadata, raw.snapshot)
    )
    return RawBatch(start, end, until, hint if is_kept else None)


def read_batch(spark: SparkSession, batch: RawBatch) -> DataFrame:
    """Read the rows of a batch; offsets decide, the snapshots only spare files."""
    reader = spark.read.format("iceberg")
    if batch.after is not None and batch.after != batch.until:
        reader = reader.option("start-snapshot-id", batch.after).option("end-snapshot-id", batch.until)
    else:
        reader = reader.option("versionAsOf", batch.until)
    return reader.load(f"{CATALOG_NAME}.{RAW}").where(between(batch.start, batch.end))


def between(start: OffsetVector, end: OffsetVector) -> Column:
    """Build the condition for coordinates from `start` (inclusive) to `end` (exclusive)."""
    keep = F.lit(False)
    for r in start.ranges_to(end):
        of_partition = (F.col("topic_id") == r.topic_id) & (F.col("partition") == r.partition)
        keep = keep | (of_partition & (F.col("offset") >= r.start) & (F.col("offset") < r.end))
    return keep


def _progress(snapshot: Snapshot) -> OffsetVector | None:
    stamp = stamp_of(snapshot)
    return None if stamp is None else stamp.progress
