"""Merging manifests: many small ones make every scan's planning slow, whatever the files are like.

Belongs here: when it is worth it, its plan and audit. Does not: Iceberg's rewriting (`rewrite.py`).

Commits of the jobs merge manifests too, once there are a hundred; this one needs not wait for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.manifest import ManifestContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AssertRefSnapshotId, AssertTableUUID
from pyspark.sql import SparkSession

from lakehouse.errors import AuditFailed
from lakehouse.maintenance.measure import Figures, current, figures_of
from lakehouse.maintenance.need import MEGABYTE
from lakehouse.maintenance.rewrite import merge_manifests
from lakehouse.publish import Plan, Publisher, Stage
from lakehouse.refs import Head, branch_to, stamp_of
from lakehouse.turns import drop_abandoned, wait_for_turn

WRITER = "manifests"
SMALL_BYTES, AT_LEAST = 4 * MEGABYTE, 10
_ABANDONED_SECONDS = 600.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Merged:
    """What became of one table: how many small manifests were worth merging, and whether this run did it."""

    table: str
    small: int
    merged: bool
    before: Figures
    after: Figures

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return asdict(self)


class ManifestMerger:
    """Merges the small manifests of one table after another, where there are at least so many."""

    def __init__(
        self, catalog: RestCatalog, spark: Callable[[], SparkSession], at_least: int = AT_LEAST
    ) -> None:
        self._catalog = catalog
        self._spark = spark
        self._at_least = max(2, at_least)
        self._publisher = Publisher(catalog, WRITER)

    def run(self, name: str, dry_run: bool = False) -> Merged:
        """Merge where it is worth it. Of two at once, the second finds nothing left to merge."""
        if not dry_run:
            drop_abandoned(self._catalog, name, WRITER, _ABANDONED_SECONDS)
        table = self._catalog.load_table(name)
        small, before = small_manifests(table, current(table)), figures_of(table)
        if dry_run or len(small) < self._at_least:
            worth = len(small) if len(small) >= self._at_least else 0
            return Merged(name, worth, False, before, before)
        wait_for_turn(self._catalog, name)
        published = self._publisher.publish(name, self._plan)
        after = figures_of(self._catalog.load_table(name))
        _log.info("merged manifests", table=name, before=before.manifests, after=after.manifests)
        return Merged(name, len(small), published is not None, before, after)

    def _plan(self, head: Head) -> Plan | None:
        small = small_manifests(head.table, head.snapshot)
        if len(small) < self._at_least:
            return None

        def write(stage: Stage) -> None:
            merge_manifests(stage, self._spark(), small)
            self._put_on_branch(stage)

        return Plan(write, lambda table, staged: _audit(head, table, staged))

    def _put_on_branch(self, stage: Stage) -> None:
        """Set the stage's branch to the snapshot that was made for it, which is on no branch yet."""
        table: Table = self._catalog.load_table(stage.head.name)
        parent = stage.head.snapshot.snapshot_id
        for snapshot in table.metadata.snapshots:
            stamp = stamp_of(snapshot)
            if (
                stamp is not None
                and stamp.token == stage.stamp.token
                and snapshot.parent_snapshot_id == parent
            ):
                requirements = (
                    AssertTableUUID(uuid=table.metadata.table_uuid),
                    AssertRefSnapshotId(ref=stage.branch, snapshot_id=parent),
                )
                self._catalog.commit_table(
                    table, requirements, (branch_to(stage.branch, snapshot.snapshot_id),)
                )
                return
        # no LakehouseError: it is a lost race, and the publisher stages again
        raise RuntimeError(f"table {stage.head.name}: main moved while its manifests were merged")


def small_manifests(table: Table, snapshot: Snapshot) -> list[str]:
    """List the data manifests that are small. Those of deletes go with compaction."""
    return [
        m.manifest_path
        for m in snapshot.manifests(table.io)
        if m.content == ManifestContent.DATA and m.manifest_length < SMALL_BYTES
    ]


def _audit(head: Head, table: Table, staged: Snapshot) -> None:
    """Check that both snapshots have the same files, with the same age. Raises `AuditFailed`."""
    before, after = (_files(table, snapshot) for snapshot in (head.snapshot, staged))
    if before != after:
        raise AuditFailed(
            f"table {head.name}: merging manifests would lose {(before - after).total()} files "
            f"and bring {(after - before).total()}"
        )


def _files(table: Table, snapshot: Snapshot) -> Counter[tuple[object, ...]]:
    return Counter(
        (
            entry.data_file.file_path,
            entry.data_file.content,
            entry.sequence_number,
            entry.data_file.record_count,
        )
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    )
