"""Staging again, on a newer head, what an attempt had staged that lost its race: its files, not its rows.

Belongs here: carrying files from one stage to another. Does not: telling whether they still fit there
(`streaming/curated_batch.py`, `streaming/replay/apply.py`), writing rows (`staging.py`).

To write the rows takes many times longer than to name the files. Iceberg does the same when a commit meets
another one; the publish protocol's swap leaves that to whoever staged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import SparkSession

from lakehouse import audit
from lakehouse.maintenance.rewrite import java_table
from lakehouse.publish import Plan, Stage
from lakehouse.refs import Head, total_of


@dataclass(frozen=True)
class Staged:
    """What was staged and audited: the snapshot, its parent, the data files and deletes that lie between."""

    snapshot_id: int
    parent_id: int
    files: frozenset[str]
    deletes: int

    @classmethod
    def of(cls, table: Table, staged: Snapshot, parent: Snapshot) -> Staged:
        """Read it from the metadata of a stage."""
        files = audit.added_files(table, staged, parent.snapshot_id)
        before, after = (total_of(snapshot, "position-deletes") for snapshot in (parent, staged))
        return cls(staged.snapshot_id, parent.snapshot_id, frozenset(files), after - before)

    def check(self, table: Table, staged: Snapshot, parent: Snapshot) -> None:
        """Check that another stage holds the same files and deletes as this one did. Raises `AuditFailed`."""
        again, name = Staged.of(table, staged, parent), ".".join(table.name())
        audit.check_count(len(again.files & self.files), len(self.files), "files staged again", name)
        audit.check_count(len(again.files), len(self.files), "files staged", name)
        audit.check_count(again.deletes, self.deletes, "rows deleted", name)


class Attempts:
    """The attempts to publish the same rows: the first one writes them, the others name its files."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._first: Staged | None = None

    def plan(self, plan: Plan, head: Head) -> Plan:
        """Return a plan that stages the first attempt's files, where that came as far as its audit.

        The partitions must be at `head` as they were at the first attempt's head.
        """
        earlier: Staged | None = None

        def write(stage: Stage) -> None:
            nonlocal earlier
            earlier = self._first
            if earlier is None or not stage_again(stage, self._spark, earlier):
                earlier = self._first = None
                plan.write(stage)

        def check(table: Table, staged: Snapshot) -> None:
            if earlier is not None:
                earlier.check(table, staged, head.snapshot)
                return
            plan.audit(table, staged)
            self._first = Staged.of(table, staged, head.snapshot)

        return replace(plan, write=write, audit=check)


def stage_again(stage: Stage, spark: SparkSession, earlier: Staged) -> bool:
    """Put the files of an earlier stage on this one, as one stamped snapshot.

    The partitions that they lie in must be as they were at the earlier stage's parent: what is removed must
    still be there, which Iceberg checks. Returns False where the earlier snapshot has expired.
    """
    table = java_table(spark, stage.head.name)
    changes = [_changes(spark, table, snapshot) for snapshot in _chain(table, earlier)]
    if not changes:
        return False
    delta = table.newRowDelta().toBranch(stage.branch).validateFromSnapshot(stage.head.snapshot.snapshot_id)
    for change in changes:
        for file in change.removedDataFiles():
            delta.removeRows(file)
        for file in change.removedDeleteFiles():
            delta.removeDeletes(file)
        for file in change.addedDataFiles():
            delta.addRows(file)
        for file in change.addedDeleteFiles():
            delta.addDeletes(file)
    for name, value in stage.properties.items():
        delta.set(name, value)
    delta.commit()
    return True


def _chain(table: Any, earlier: Staged) -> list[Any]:
    """List the snapshots after the parent, up to the staged one; none if one of them has expired."""
    chain, at = [], table.snapshot(earlier.snapshot_id)
    while at is not None and at.snapshotId() != earlier.parent_id:
        chain.append(at)
        at = table.snapshot(at.parentId()) if at.parentId() is not None else None
    return [] if at is None else chain


def _changes(spark: SparkSession, table: Any, snapshot: Any) -> Any:
    jvm: Any = spark._jvm
    return jvm.org.apache.iceberg.SnapshotChanges.builderFor(table).snapshot(snapshot).build()
