"""Reading raw in batches: from an offset vector to a later one, exactly, by snapshot range where that exists.

Belongs here: choosing a batch and reading its rows. Does not: what is made of them (`curated_job.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import RAW
from lakehouse.offsets import OffsetVector
from lakehouse.refs import Head, ancestry, stamp_of
from streaming.errors import RawRetired


@dataclass(frozen=True)
class RawBatch:
    """Records of raw between two vectors.

    The snapshots tell where their files are: those after `after`, up to `until`. `consumed` is the newest
    snapshot that lies within the batch whole, and `complete_to` the Kafka time up to which raw had all then.
    """

    start: OffsetVector
    end: OffsetVector
    until: int
    after: int | None
    consumed: int | None
    complete_to: datetime | None

    @property
    def records(self) -> int:
        return self.start.records_to(self.end)


def next_batch(
    raw: Head, start: OffsetVector, hint: int | None, max_records: int, end: OffsetVector | None = None
) -> RawBatch | None:
    """Choose the next batch after `start`: whole raw snapshots of up to `max_records`, or a part of one.

    Args:
        raw: the raw table as it is now.
        start: what is consumed already.
        hint: the raw snapshot that `start` was read up to; where it has expired, the rows are found by their
            coordinates instead.
        end: go just there, however far it is.

    Returns:
        None where raw holds nothing new.

    Raises `RawRetired` where retention dropped records after `start`: none is skipped by itself.
    """
    if not start.covers(raw.retired.below):
        raise RawRetired(
            f"table {raw.name} begins at {raw.retired.below.to_json()}: retention dropped what came before "
            f"{raw.retired.before}; a reader stands at {start.to_json()}",
            "a curated table cannot be built from raw alone any more: set its branch main to a snapshot or a "
            "tag that has those rows, or restore it; raw.retention_log says what was dropped",
        )
    if start.covers(raw.offsets):
        return None
    history = list(ancestry(raw.table.metadata, raw.snapshot))
    reached = [(snapshot, stamp) for snapshot in reversed(history) if (stamp := stamp_of(snapshot))]
    wanted = end or _as_far_as(start, (s.progress for _, s in reached), max_records) or raw.offsets
    if end is None:
        wanted = start.part_way(wanted, max_records)
    within = [(n.snapshot_id, s) for n, s in reached if s.progress is not None and wanted.covers(s.progress)]
    covering = (n.snapshot_id for n, s in reached if s.progress is not None and s.progress.covers(wanted))
    consumed, noted = within[-1] if within else (None, None)
    is_kept = any(snapshot.snapshot_id == hint for snapshot in history)
    return RawBatch(
        start,
        wanted,
        until=next(covering, raw.snapshot.snapshot_id),
        after=hint if is_kept else None,
        consumed=consumed,
        complete_to=noted.complete_to if noted is not None else None,
    )


def _as_far_as(
    start: OffsetVector, ends: Iterable[OffsetVector | None], max_records: int
) -> OffsetVector | None:
    """Find the last of the snapshots' ends that is near enough; else the first that is new at all."""
    found = None
    for reached in ends:
        if reached is None or start.covers(reached):
            continue
        if found is not None and start.records_to(reached) > max_records:
            break
        found = reached
    return found


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
