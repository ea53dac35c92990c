"""What a table is made of, told by its manifests: usage by partition, and the figures of before and after.

Belongs here: reading metadata with pyiceberg. Does not: what is too much of it (`need.py`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from operator import add

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFileContent, ManifestEntry, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import IntegerType

from lakehouse.errors import LakehouseError
from lakehouse.maintenance.need import SMALL_SHARE, PartitionKey, Usage


@dataclass(frozen=True)
class Figures:
    """A table in a few numbers: main's files, bytes, deletion vectors and manifests, snapshots kept."""

    files: int
    bytes: int
    delete_files: int
    deleted_rows: int
    manifests: int
    snapshots: int


def current(table: Table) -> Snapshot:
    """Return the snapshot that main is at. Raises `LakehouseError` for a table without one."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        name = ".".join(table.name())
        raise LakehouseError(f"table {name} has no snapshot", "run `paywave up`, which completes it")
    return snapshot


def usage_of(
    table: Table, snapshot: Snapshot, target_bytes: int, hours: range | None = None
) -> dict[PartitionKey, Usage]:
    """Add up the live files of each partition, at a snapshot; `()` where a table has no partitions.

    Args:
        target_bytes: size of a file that is large enough.
        hours: only these, of a table whose partitions begin with the hour; manifests of others are not read.
    """
    found: dict[PartitionKey, Usage] = defaultdict(Usage)
    width = len(table.spec().fields)
    for manifest in snapshot.manifests(table.io):
        if hours is not None and not _reaches(manifest, hours):
            continue
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            values = entry.data_file.partition
            if hours is None or values[0] in hours:
                found[tuple(values[i] for i in range(width))] += _usage(table, entry, target_bytes)
    return dict(found)


def _reaches(manifest: ManifestFile, hours: range) -> bool:
    """Tell whether a manifest may list files of these hours."""
    first, last = hours_of(manifest)
    if first is None or last is None:
        return True
    return first < hours.stop and last >= hours.start


def hours_of(manifest: ManifestFile) -> tuple[int | None, int | None]:
    """Read from a manifest's summary the first and last hour of its files' partitions; None: not known."""
    if not manifest.partitions:
        return None, None
    bounds = manifest.partitions[0].lower_bound, manifest.partitions[0].upper_bound
    first, last = (None if bound is None else int(from_bytes(IntegerType(), bound)) for bound in bounds)
    return first, last


def figures_of(table: Table) -> Figures:
    """Take a table's figures as it was loaded."""
    snapshot = current(table)
    whole = reduce(add, usage_of(table, snapshot, 0).values(), Usage())
    manifests = len(snapshot.manifests(table.io))
    kept = len(table.metadata.snapshots)
    return Figures(whole.files, whole.bytes, whole.vectors, whole.deleted, manifests, kept)


def _usage(table: Table, entry: ManifestEntry, target_bytes: int) -> Usage:
    file, written_at = entry.data_file, _written_at(table, entry.snapshot_id)
    if file.content != DataFileContent.DATA:
        return Usage(vectors=1, deleted=file.record_count, written_at=written_at)
    size, rows = file.file_size_in_bytes, file.record_count
    if size >= target_bytes * SMALL_SHARE:
        return Usage(1, size, rows, written_at=written_at)
    return Usage(1, size, rows, small=1, small_bytes=size, written_at=written_at)


def _written_at(table: Table, snapshot_id: int | None) -> datetime | None:
    made_by = None if snapshot_id is None else table.metadata.snapshot_by_id(snapshot_id)
    return None if made_by is None else datetime.fromtimestamp(made_by.timestamp_ms / 1000, UTC)
