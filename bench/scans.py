"""Which files Spark really read: from the metrics of the queries that ran, MERGE included.

Belongs here: adding up what Iceberg's scans report, and which files lie in given partitions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pyiceberg.manifest import ManifestContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import SparkSession

from streaming.partitions import Partition

_FILES = "number of result data files"


class Scans:
    """Data files that scans read, by table, from one call of `read` to the next."""

    def __init__(self, spark: SparkSession) -> None:
        # The store behind Spark's page of SQL queries; it is kept without the page too.
        self._store: Any = spark._jsparkSession.sharedState().statusStore()
        context: Any = spark.sparkContext._jsc
        self._bus = context.sc().listenerBus()
        self._seen = -1
        self.read()

    def read(self) -> dict[str, list[int]]:
        """Return, for each table `db.name`, how many data files each scan read since the last call."""
        self._bus.waitUntilEmpty()
        found: dict[str, list[int]] = {}
        for execution in _each(self._store.executionsList()):
            if execution.executionId() > self._seen:
                self._add(execution.executionId(), found)
        self._seen = max((e.executionId() for e in _each(self._store.executionsList())), default=-1)
        return found

    def _add(self, execution: int, found: dict[str, list[int]]) -> None:
        values = self._store.executionMetrics(execution)
        for node in _each(self._store.planGraph(execution).allNodes()):
            _, is_scan, table = node.name().partition("BatchScan lake.")
            for metric in _each(node.metrics()) if is_scan else ():
                value = values.get(metric.accumulatorId())
                if metric.name() == _FILES and value.isDefined():
                    files = int(str(value.get()).replace(",", "").split()[-1])
                    found.setdefault(".".join(table.split()[0].split(".")[:2]), []).append(files)


def files_by_partition(table: Table, snapshot: Snapshot) -> Counter[Partition]:
    """Count a snapshot's data files in each (hour, bucket) partition."""
    return Counter(
        Partition(entry.data_file.partition[0], entry.data_file.partition[1])
        for manifest in snapshot.manifests(table.io)
        if manifest.content == ManifestContent.DATA
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    )


def read_too_much(
    scans: Iterable[int], files: Mapping[Partition, int], touched: Iterable[Partition]
) -> str | None:
    """Say what scans read beyond the touched partitions; None if they read nothing else.

    Args:
        scans: data files that each scan read.
        files: data files that the table has in each partition.
        touched: the partitions that the batch has rows for.
    """
    allowed, most = sum(files.get(partition, 0) for partition in set(touched)), max(scans, default=0)
    if most <= allowed:
        return None
    return (
        f"a scan read {most} files of {sum(files.values())}; the batch touches partitions of {allowed} files"
    )


def _each(sequence: Any) -> Iterator[Any]:
    """Walk a Scala sequence."""
    return (sequence.apply(i) for i in range(sequence.size()))
