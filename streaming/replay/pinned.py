"""The curated tables as they stood at one offset vector, and their partitions.

Belongs here: reading pinned tables, packing partitions into units of work. Does not: comparing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.consistency import consistent
from lakehouse.offsets import OffsetVector
from lakehouse.refs import Head, retired_at
from lakehouse.retired import Retired
from streaming.curated_job import CURATED_TABLES
from streaming.frames import read_table
from streaming.partitions import Partition, bucket_sql, hour_sql, predicate


@dataclass(frozen=True)
class Pinned:
    """Snapshots of the curated tables that tell of the same records, and what retention dropped of each."""

    spark: SparkSession
    buckets: int
    vector: OffsetVector
    snapshots: Mapping[str, int]
    retired: Mapping[str, Retired]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Say what nobody will find in the tables, for people."""
        gone = max((r.before for r in self.retired.values() if r.before is not None), default=None)
        return () if gone is None else (f"curated rows of before {gone:%Y-%m-%d} went by retention",)

    def read(self, table: str, partitions: Iterable[Partition] | None = None) -> DataFrame:
        """Read a table, or some of its partitions."""
        return read_partitions(self.spark, table, self.buckets, partitions, self.snapshots[table])


def pin(spark: SparkSession, catalog: RestCatalog, buckets: int) -> Pinned:
    """Pin the curated tables at the newest vector that they have in common."""
    tables = {name: catalog.load_table(name) for name in CURATED_TABLES}
    found = consistent(tables)
    return pinned_at(spark, tables, buckets, found.vector, found.snapshots)


def pinned_at(
    spark: SparkSession,
    tables: Mapping[str, Table],
    buckets: int,
    vector: OffsetVector,
    snapshots: Mapping[str, int],
) -> Pinned:
    """Pin curated tables at snapshots that tell of the records below a vector."""
    retired = {name: retired_at(tables[name], snapshot) for name, snapshot in snapshots.items()}
    return Pinned(spark, buckets, vector, snapshots, retired)


def read_partitions(
    spark: SparkSession,
    table: str,
    buckets: int,
    partitions: Iterable[Partition] | None = None,
    snapshot_id: int | None = None,
) -> DataFrame:
    """Read a table or some of its partitions, at a snapshot or as it is now."""
    rows = read_table(spark, table, snapshot_id)
    return rows if partitions is None else rows.where(predicate(partitions, buckets))


def read_at(
    spark: SparkSession, head: Head, partitions: Iterable[Partition] | None = None, buckets: int = 0
) -> DataFrame:
    """Read a table as it stands at a head, or some of its partitions."""
    return read_partitions(spark, head.name, buckets, partitions, head.snapshot.snapshot_id)


def count_by_partition(decoded: DataFrame, buckets: int) -> tuple[dict[Partition, int], int]:
    """Count decoded records: the valid ones by the partition that they speak of, and the broken ones."""
    counted = _by_partition(decoded, buckets)
    return {p: rows for p, rows in counted.items() if p is not None}, counted.get(None, 0)


def partition_sizes(rows: DataFrame, buckets: int) -> dict[Partition, int]:
    """Count the rows of each partition that there is."""
    return {p: rows for p, rows in _by_partition(rows, buckets).items() if p is not None}


def rows_by_hour(rows: DataFrame) -> Counter[int]:
    """Count the rows of each event hour."""
    counted = rows.groupBy(F.expr(hour_sql()).alias("hour")).count().collect()
    return Counter({row["hour"]: row["count"] for row in counted})


def stored_sizes(table: Table, snapshot_id: int) -> dict[Partition, int]:
    """Count the rows of each partition by the table's metadata alone, those deleted since included."""
    found = table.inspect.partitions(snapshot_id=snapshot_id).to_pylist()
    return {Partition(*row["partition"].values()): row["record_count"] for row in found}


def _by_partition(rows: DataFrame, buckets: int) -> dict[Partition | None, int]:
    hour, bucket = F.expr(hour_sql()).alias("hour"), F.expr(bucket_sql(buckets)).alias("bucket")
    counted = rows.groupBy(hour, bucket).count().collect()
    return {None if r["hour"] is None else Partition(r["hour"], r["bucket"]): r["count"] for r in counted}


def units(sizes: Mapping[Partition, int], most_rows: int) -> Iterator[list[Partition]]:
    """Pack partitions in their order into units of at most so many rows; a larger one stands alone."""
    unit: list[Partition] = []
    rows = 0
    for partition in sorted(sizes):
        if unit and rows + sizes[partition] > most_rows:
            yield unit
            unit, rows = [], 0
        unit.append(partition)
        rows += sizes[partition]
    if unit:
        yield unit
