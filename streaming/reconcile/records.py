"""The Kafka side: records, redeliveries, versions and quarantine, per Kafka partition and hour.

Belongs here: adding up chunks of raw to the accounts. Does not: where a record stands (`standing.py`),
whether an offset is there at all (`offsets.py`).
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.offsets import OffsetVector
from quality.reconciliation import RECORDS, VERSION_AMOUNTS, Account
from streaming.frames import Frames
from streaming.partitions import Partition
from streaming.raw_reader import between
from streaming.reconcile.offsets import Kept, OffsetAccounts, find_missing, is_kept
from streaming.reconcile.places import Places
from streaming.reconcile.standing import OTHER_AMOUNT, QUARANTINED, REDELIVERED, VERSION, standing
from streaming.replay.expected import judged
from streaming.replay.pinned import Pinned, count_by_partition
from streaming.replay.ranges import RawRange

_RIGHT = frozenset({VERSION, REDELIVERED, QUARANTINED})
_ZERO = Decimal(0)


class RecordAccounts:
    """The accounts of the Kafka side, and which partitions of the curated tables their records speak of."""

    def __init__(self, kept: Kept | None) -> None:
        self.offsets = OffsetAccounts(kept, Places())
        self.records = Account(RECORDS)
        self.amounts = Account(VERSION_AMOUNTS)
        self.touched: set[Partition] = set()
        self.count = 0

    def add(
        self,
        spark: SparkSession,
        catalog: RestCatalog,
        pinned: Pinned,
        chunk: RawRange,
        dense: tuple[OffsetVector, OffsetVector],
    ) -> None:
        """Add a chunk of raw.

        Args:
            dense: the vectors between which raw says that it has every offset.
        """
        start, end = chunk.start.greatest(dense[0]), chunk.end.least(dense[1])
        with Frames() as keep:
            decoded = keep(judged(spark, catalog, chunk))
            touched, _ = count_by_partition(decoded, pinned.buckets)
            found = keep(standing(decoded, pinned, chunk, touched))
            sums = _summed(found, self.offsets.kept, start, end)
            is_dense = sum(row["dense"] for row in sums) == start.records_to(end)
            missing = [] if is_dense else find_missing(found.where("records > 0"), start, end)
        self.touched |= touched.keys()
        self._add(sums)
        self.offsets.add(sums, missing, start, end)

    def _add(self, sums: list[dict[str, Any]]) -> None:
        by_place: dict[tuple[str, int, int | None], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for row in sums:
            self.offsets.places.topics[row["topic_id"]] = row["topic"]
            redelivered = row["coordinates"] if row["what"] == REDELIVERED else 0
            counts = (row["records"], redelivered, row["told"], row["held"])
            place = row["topic_id"], row["partition"], row["hour"]
            by_place[place] = [a + b for a, b in zip(by_place[place], counts, strict=True)]
            self._add_amounts(row)
            if row["what"] not in _RIGHT:
                self._name(row)
            self.count += row["records"]
        for place, totals in by_place.items():
            self.records.add(self.offsets.places.place(*place), *totals)

    def _add_amounts(self, row: dict[str, Any]) -> None:
        if row["amount"] is not None or row["told_amount"] is not None:
            kind = {"currency": row["currency"], "event_type": row["event_type"]}
            self.amounts.add(kind, row["amount"] or _ZERO, row["told_amount"] or _ZERO)

    def _name(self, row: dict[str, Any]) -> None:
        place = row["topic_id"], row["partition"], row["first"], row["hour"]
        found = self.offsets.places.record(row["what"], *place)
        if row["what"] != OTHER_AMOUNT:
            self.records.name(found, row["coordinates"])
        if row["told_amount"] is not None:
            self.amounts.name(found, row["coordinates"])


def _summed(
    found: DataFrame, kept: Kept | None, start: OffsetVector, end: OffsetVector
) -> list[dict[str, Any]]:
    """Add up coordinates by partition, hour, where they stand, and their money's kind."""
    is_dense = (F.col("records") > 0) & between(start, end)
    grouped = found.groupBy("topic_id", "topic", "partition", "hour", "what", "currency", "event_type")
    rows = grouped.agg(
        F.count("*").alias("coordinates"),
        F.min("offset").alias("first"),
        F.sum("records").alias("records"),
        F.sum("told").alias("told"),
        F.sum("held").alias("held"),
        F.sum("amount").alias("amount"),
        F.sum("told_amount").alias("told_amount"),
        F.count_if(is_dense).alias("dense"),
        F.count_if(is_dense & is_kept(kept)).alias("kept"),
    )
    return [row.asDict() for row in rows.collect()]
