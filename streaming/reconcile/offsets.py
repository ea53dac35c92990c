"""Offsets against rows: does raw hold what it says that it consumed, and what Kafka still keeps?

Belongs here: finding gaps in raw, and both accounts. Does not: asking Kafka (`streaming/topic_state.py`).

A row that was deleted from raw leaves no trace in raw. But raw's stamps say which offsets were staged, each
once, and audited; so whatever is missing between them was there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.offsets import OffsetVector, Range
from quality.reconciliation import KAFKA, RAW, Account, Gap, Run, gaps
from streaming.raw_reader import between
from streaming.reconcile.places import Places

NOT_IN_RAW = "not in raw, which had consumed it"
KEPT_NOT_IN_RAW = "not in raw, and still in Kafka"
NOT_IN_KAFKA = "in raw, and beyond the end of the topic"
REMOVED_TOO_EARLY = "removed from Kafka before raw had it"


@dataclass(frozen=True)
class Kept:
    """What Kafka holds now: offsets of one topic between two vectors."""

    topic: str
    start: OffsetVector
    end: OffsetVector


class Missing(NamedTuple):
    """Offsets that are not in raw, and the range in which they were looked for."""

    range: Range
    gap: Gap


@dataclass
class OffsetAccounts:
    """The accounts of offsets; `kept` is None where Kafka was not asked."""

    kept: Kept | None
    places: Places
    raw: Account = field(default_factory=lambda: Account(RAW))
    kafka: Account = field(default_factory=lambda: Account(KAFKA))

    def add(
        self, sums: list[dict[str, Any]], missing: list[Missing], start: OffsetVector, end: OffsetVector
    ) -> None:
        """Add a chunk: sums of its coordinates (`records.py`), and what is missing between two vectors."""
        by_place: dict[tuple[str, int, int | None], list[int]] = defaultdict(lambda: [0, 0])
        for row in sums:
            of_place = by_place[row["topic_id"], row["partition"], row["hour"]]
            of_place[0] += row["coordinates"] if row["records"] else 0
            of_place[1] += row["records"]
        for r, gap in missing:
            by_place[r.topic_id, r.partition, gap.hour][0] += gap.records
            found = self.places.record(NOT_IN_RAW, r.topic_id, r.partition, gap.first, gap.hour)
            self.raw.name(found, gap.records)
        for place, (consumed, records) in by_place.items():
            self.raw.add(self.places.place(*place), consumed, records, 0)
        if self.kept is not None:
            self._add_kept(self.kept, sums, missing, start, end)

    def _add_kept(
        self,
        kept: Kept,
        sums: list[dict[str, Any]],
        missing: list[Missing],
        start: OffsetVector,
        end: OffsetVector,
    ) -> None:
        """Hold what Kafka still keeps against raw. What retention has removed is nobody's claim."""
        here = kept.start.greatest(start).ranges_to(kept.end.least(end))
        by_partition: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
        for r in here:
            by_partition[r[:2]][0] += r.end - r.start
        for row in sums:
            if row["topic_id"] in kept.start.topics:
                by_partition[row["topic_id"], row["partition"]][1] += row["kept"]
        for partition, (left, right) in by_partition.items():
            self.kafka.add(self.places.partition(*partition), left, right)
        for lost, gap in missing:
            for r in (r for r in here if r[:2] == lost[:2]):
                first, last = max(r.start, gap.first), min(r.end - 1, gap.last)
                if first <= last:
                    found = self.places.record(KEPT_NOT_IN_RAW, r.topic_id, r.partition, first, gap.hour)
                    self.kafka.name(found, last - first + 1)
        for r in kept.end.greatest(start).ranges_to(end):
            if r.topic_id in kept.end.topics:
                found = self.places.record(NOT_IN_KAFKA, r.topic_id, r.partition, r.start, None)
                self.kafka.name(found, r.end - r.start)

    def add_retired(self, below: OffsetVector, dropped: Mapping[tuple[str, int], int]) -> None:
        """Add what retention dropped: the offsets below a vector, and how many rows the ledger says.

        A gap that was there before is a difference ever after: nothing can put it right any more.
        """
        for topic_id, partition, end in below:
            place = self.places.partition(topic_id, partition)
            self.raw.add({**place, "hour": "retired"}, end, 0, dropped.get((topic_id, partition), 0))

    def add_lost(self, reached: OffsetVector) -> None:
        """Add what retention removed before raw, which stands at `reached`, had it."""
        if self.kept is None:
            return
        for r in reached.ranges_to(self.kept.start):
            self.kafka.add(self.places.partition(r.topic_id, r.partition), r.end - r.start, 0)
            found = self.places.record(REMOVED_TOO_EARLY, r.topic_id, r.partition, r.start, None)
            self.kafka.name(found, r.end - r.start)


def is_kept(kept: Kept | None) -> Column:
    """Build the condition for records that retention has not removed, those beyond the end included."""
    keep = F.lit(False)
    for topic_id, partition, first in kept.start if kept is not None else ():
        of_partition = (F.col("topic_id") == topic_id) & (F.col("partition") == partition)
        keep = keep | (of_partition & (F.col("offset") >= first))
    return keep


def find_missing(records: DataFrame, start: OffsetVector, end: OffsetVector) -> list[Missing]:
    """Find the gaps between two vectors in rows with `COORDINATES` and `hour`, each offset once."""
    runs = _runs(records.where(between(start, end)))
    return [Missing(r, gap) for r in start.ranges_to(end) for gap in gaps(runs[r[:2]], r.start, r.end)]


def _runs(records: DataFrame) -> dict[tuple[str, int], list[Run]]:
    """Find the unbroken runs of offsets: within one, offset and row number go up together."""
    in_order = Window.partitionBy("topic_id", "partition").orderBy("offset")
    rows: Iterable[Any] = (
        records.withColumn("run", F.col("offset") - F.row_number().over(in_order))
        .groupBy("topic_id", "partition", "run")
        .agg(
            F.min("offset").alias("first"),
            F.max("offset").alias("last"),
            F.min_by("hour", "offset").alias("first_hour"),
            F.max_by("hour", "offset").alias("last_hour"),
        )
        .collect()
    )
    found: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for row in rows:
        run = Run(row["first"], row["last"], row["first_hour"], row["last_hour"])
        found[row["topic_id"], row["partition"]].append(run)
    return found
