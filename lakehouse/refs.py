"""Refs of a table and what can be read from them: the head, its progress, the history of main.

Belongs here: reading branches and tags, building updates that move them.
Does not: when they move (`publish.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import SetSnapshotRefUpdate

from lakehouse.errors import LakehouseError, RolledBack
from lakehouse.offsets import OffsetVector
from lakehouse.retired import NOTHING, Retired
from lakehouse.stamp import Stamp

MAIN = "main"
PROGRESS_TAG = "progress"
LAST_PINNED = "last-pinned"  # moved by whoever pins an old snapshot; expiry commits only if it was not
DECIDED_BEFORE = "paywave.decided-before"  # property of the table of versions: an offset vector


@dataclass(frozen=True)
class Head:
    """A table at one moment: the parent of the next publish, and how far its source is consumed."""

    table: Table
    snapshot: Snapshot
    progress: Stamp

    @property
    def name(self) -> str:
        return ".".join(self.table.name())

    @property
    def offsets(self) -> OffsetVector:
        return self.progress.progress or OffsetVector()

    @property
    def rows(self) -> int:
        """Rows that a reader of main sees, by its metadata: those written, less those deleted since."""
        return total_of(self.snapshot, "records") - total_of(self.snapshot, "position-deletes")

    @property
    def totals(self) -> Mapping[str, int]:
        """Running counts as main has them: a replay corrects them without moving the progress."""
        return self._newest.totals

    @property
    def retired(self) -> Retired:
        """What retention has dropped from the table as main has it."""
        return self._newest.retired

    @property
    def _newest(self) -> Stamp:
        return newest_stamp(self.table, self.snapshot.snapshot_id, lambda _: True) or self.progress


def decided_before(versions: Head, raw: Head) -> OffsetVector:
    """Up to where gates decided before the table of versions was made: nothing of it is decided anew.

    Nothing, if that is not in raw: then raw was made anew too.
    """
    noted = versions.table.properties.get(DECIDED_BEFORE)
    known = OffsetVector.from_json(noted) if noted else OffsetVector()
    return known if raw.offsets.covers(known) else OffsetVector()


def read_head(catalog: RestCatalog, name: str) -> Head:
    """Read main and progress of a table in one request.

    Raises `RolledBack` if main no longer contains the snapshot that `progress` points to: rows below the
    progress are missing then, and consuming on would lose them for ever.
    """
    table = catalog.load_table(name)
    main, progress = snapshot_of(table.metadata, MAIN), snapshot_of(table.metadata, PROGRESS_TAG)
    if main is None or progress is None:
        raise LakehouseError(f"table {name} has no first snapshot", "run `paywave up`, which completes it")
    if _is_rolled_back(table.metadata, main, progress):
        raise RolledBack(
            f"table {name}: main is at snapshot {main.snapshot_id}, which does not contain snapshot "
            f"{progress.snapshot_id} that the tag `progress` points to: somebody rolled the table back",
            "roll main forward again, or move the tag `progress` to the snapshot that main was set to",
        )
    stamp = stamp_of(progress)
    if stamp is None:
        raise LakehouseError(f"table {name}: snapshot {progress.snapshot_id} carries no stamp")
    return Head(table, main, stamp)


def snapshot_of(metadata: TableMetadata, ref: str) -> Snapshot | None:
    """Return the snapshot that a branch or tag points to; None where there is no such ref."""
    found = metadata.refs.get(ref)
    return metadata.snapshot_by_id(found.snapshot_id) if found is not None else None


def total_of(snapshot: Snapshot, what: str) -> int:
    """Return a total that Iceberg keeps in a snapshot's summary, e.g. of `records`; 0 where it says none."""
    summary = snapshot.summary
    return int((summary and summary.get(f"total-{what}")) or 0)


def stamp_of(snapshot: Snapshot) -> Stamp | None:
    """Return the stamp in a snapshot's summary; None for a foreign one."""
    summary = snapshot.summary
    return None if summary is None else Stamp.from_summary(summary.additional_properties)


def ancestry(metadata: TableMetadata, snapshot: Snapshot) -> Iterator[Snapshot]:
    """Walk from a snapshot to its oldest kept ancestor, itself first."""
    current: Snapshot | None = snapshot
    while current is not None:
        yield current
        parent = current.parent_snapshot_id
        current = None if parent is None else metadata.snapshot_by_id(parent)


def newest_stamp(table: Table, snapshot_id: int, has: Callable[[Stamp], object]) -> Stamp | None:
    """Find the newest stamp at or before a snapshot that has something, as far back as it is kept."""
    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    stamps = (stamp_of(s) for s in ancestry(table.metadata, snapshot)) if snapshot else iter(())
    return next((stamp for stamp in stamps if stamp is not None and has(stamp)), None)


def retired_at(table: Table, snapshot_id: int | None = None) -> Retired:
    """Tell what retention had dropped from a table at a snapshot (None: at main), by the stamps kept."""
    main = snapshot_of(table.metadata, MAIN)
    at = snapshot_id or (main.snapshot_id if main is not None else None)
    stamp = None if at is None else newest_stamp(table, at, lambda _: True)
    if stamp is None:  # all that is kept is of others; main's progress is what we know of it
        progress = snapshot_of(table.metadata, PROGRESS_TAG)
        stamp = stamp_of(progress) if progress is not None else None
    return NOTHING if stamp is None else stamp.retired


def branch_to(name: str, snapshot_id: int) -> SetSnapshotRefUpdate:
    """Build the update that sets a branch, creating it where it is missing."""
    return _set_ref(name, SnapshotRefType.BRANCH, snapshot_id)


def tag_to(name: str, snapshot_id: int) -> SetSnapshotRefUpdate:
    """Build the update that sets a tag; tags do not expire."""
    return _set_ref(name, SnapshotRefType.TAG, snapshot_id)


def _set_ref(name: str, kind: SnapshotRefType, snapshot_id: int) -> SetSnapshotRefUpdate:
    return SetSnapshotRefUpdate(
        ref_name=name,
        type=kind,
        snapshot_id=snapshot_id,
        max_ref_age_ms=None,
        max_snapshot_age_ms=None,
        min_snapshots_to_keep=None,
    )


def _is_rolled_back(metadata: TableMetadata, main: Snapshot, progress: Snapshot) -> bool:
    """Tell whether main lost the progress snapshot.

    A chain that expiry cut off above the progress snapshot cannot tell; one that reaches below it can.
    """
    wanted = progress.sequence_number or 0
    for snapshot in ancestry(metadata, main):
        if snapshot.snapshot_id == progress.snapshot_id:
            return False
        if (snapshot.sequence_number or 0) <= wanted:
            return True
    return False
