"""From a scope to offsets: which records of raw a replay reads, in which chunks.

Belongs here: finding offsets by Kafka time, and cutting the way. Does not: what is made of the records.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import RAW
from lakehouse.offsets import OffsetVector
from lakehouse.refs import ancestry, read_head, stamp_of
from lakehouse.retired import NOTHING, Retired
from streaming.errors import RawRetired
from streaming.partitions import Partition, start_of
from streaming.raw_reader import between
from streaming.replay.scope import MOST_AHEAD, Scope, WrongScope


@dataclass(frozen=True)
class RawRange:
    """Records of raw between two vectors whose Kafka time lies in a range, read at one snapshot.

    Args:
        retired: what retention had dropped at that snapshot; the range begins there or later.
        remarks: what of the scope raw no longer has, for people.
    """

    snapshot_id: int
    start: OffsetVector
    end: OffsetVector
    since: datetime | None = None
    until: datetime | None = None
    retired: Retired = NOTHING
    remarks: tuple[str, ...] = ()

    @property
    def records(self) -> int:
        """How many offsets lie between the vectors: about as many as there are records."""
        return self.start.records_to(self.end)

    def read(self, spark: SparkSession) -> DataFrame:
        """Read the rows; the Kafka time prunes whole hours, the offsets decide."""
        return self.narrow(spark.read.option("versionAsOf", self.snapshot_id).table(f"{CATALOG_NAME}.{RAW}"))

    def narrow(self, rows: DataFrame) -> DataFrame:
        """Keep the rows of any table whose coordinates and `kafka_ts` lie in the range."""
        if self.since is not None:
            rows = rows.where(F.col("kafka_ts") >= F.lit(self.since))
        if self.until is not None:
            rows = rows.where(F.col("kafka_ts") < F.lit(self.until))
        return rows.where(between(self.start, self.end))

    def chunks(self, records: int) -> Iterator[RawRange]:
        """Cut the range into parts of about so many records, in their order."""
        start = self.start
        while not start.covers(self.end):
            end = start.part_way(self.end, records)
            yield replace(self, start=start, end=end)
            start = end

    def after(self, vector: OffsetVector) -> RawRange:
        """The part of the range that lies after a vector."""
        return replace(self, start=self.start.greatest(vector))


def range_of(spark: SparkSession, catalog: RestCatalog, scope: Scope, end: OffsetVector) -> RawRange:
    """Find the records of a scope below `end`, as of raw's head.

    Raises `WrongScope` for a raw snapshot that is not kept, or brought no records, and `RawRetired` where
    retention dropped all of the scope; of a part of it the range remarks that.
    """
    head = read_head(catalog, RAW)
    everything = RawRange(head.snapshot.snapshot_id, head.retired.below, end, retired=head.retired)
    everything = replace(everything, remarks=_left_out(scope, head.retired))
    if scope.raw_snapshot is not None:
        return _brought_by(catalog, scope.raw_snapshot, everything)
    if scope.partitions:
        return speaking_of(spark, everything, scope.partitions)
    within = replace(everything, since=scope.start, until=scope.end)
    return _found(spark, within)


def speaking_of(spark: SparkSession, everything: RawRange, partitions: tuple[Partition, ...]) -> RawRange:
    """Narrow a range to the records that can speak of curated partitions: none came long before its event.

    How late one may come has no bound: a partner's archive may be sent years later.
    """
    first = start_of(min(partition.hour for partition in partitions)) - MOST_AHEAD
    return _found(spark, replace(everything, since=first))


def _found(spark: SparkSession, within: RawRange) -> RawRange:
    """Bring the vectors to the first and last offsets that the Kafka times allow."""
    if within.since is None and within.until is None:
        return within
    rows = within.read(spark).groupBy("topic_id", "partition")
    bounds = rows.agg(F.min("offset").alias("first"), F.max("offset").alias("last")).collect()
    # where no record is late enough the range is empty: it starts where it ends
    start, end = within.end, within.end if within.until is None else OffsetVector()
    for row in bounds:
        start = start.advanced(row["topic_id"], {row["partition"]: row["first"]})
        if within.until is not None:
            end = end.advanced(row["topic_id"], {row["partition"]: row["last"] + 1})
    return replace(within, start=start, end=end)


def _brought_by(catalog: RestCatalog, snapshot_id: int, everything: RawRange) -> RawRange:
    metadata = catalog.load_table(RAW).metadata
    snapshot = metadata.snapshot_by_id(snapshot_id)
    stamp = stamp_of(snapshot) if snapshot is not None else None
    if snapshot is None or stamp is None or stamp.progress is None:
        raise WrongScope(
            f"table {RAW} keeps no snapshot {snapshot_id} that brought records",
            "it has expired, or never was: give the Kafka time instead, --from and --to",
        )
    _, *before = ancestry(metadata, snapshot)
    earlier = (stamp.progress for stamp in map(stamp_of, before) if stamp is not None and stamp.progress)
    start = next(earlier, None)
    if start is None and snapshot.parent_snapshot_id is not None:
        raise WrongScope(
            f"table {RAW}: the snapshot before {snapshot_id} has expired, so what it brought is not known",
            "give the Kafka time instead, --from and --to",
        )
    start, reached = start or OffsetVector(), stamp.progress.least(everything.end)
    first = start.greatest(everything.retired.below)
    found = replace(everything, start=first, end=reached.greatest(first))
    if found.records == start.records_to(reached):
        return found
    if not found.records:
        raise _gone(f"raw snapshot {snapshot_id}", everything.retired)
    return replace(found, remarks=(_begins(everything.retired),))


def _left_out(scope: Scope, retired: Retired) -> tuple[str, ...]:
    """Say what of a scope raw no longer has. Raises `RawRetired` if that is all of it."""
    if retired.before is None or scope.raw_snapshot is not None or not retired.reaches(scope.start):
        return ()
    if scope.end is not None and scope.end <= retired.before:
        raise _gone(str(scope), retired)
    return (_begins(retired),)


def _begins(retired: Retired) -> str:
    return (
        f"raw begins at {retired.before}: retention dropped what came before, and rows that tell of it are "
        "taken as they stand"
    )


def _gone(scope: str, retired: Retired) -> RawRetired:
    return RawRetired(
        f"{scope}: raw no longer has these records, retention dropped all before {retired.before}",
        "the curated tables keep what they told; raw.retention_log says when, why and by whose leave; a tag "
        "of raw from before may still have them: `paywave query --tag`",
    )
