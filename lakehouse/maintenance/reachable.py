"""Which files a table's snapshots need, from its metadata down: lists, manifests, data and deletes.

Belongs here: walking there, and removing files. Does not: which are to go (`expire.py`, `orphans.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

_AT_ONCE = 16


def manifests_of(table: Table, snapshots: Iterable[Snapshot]) -> dict[str, ManifestFile]:
    """Find every manifest of some snapshots, by path."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda snapshot: snapshot.manifests(table.io), snapshots)
        return {manifest.manifest_path: manifest for manifests in found for manifest in manifests}


def files_of(table: Table, manifests: Iterable[ManifestFile]) -> set[str]:
    """Find every live data and delete file of some manifests."""

    def named(manifest: ManifestFile) -> set[str]:
        entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        return {entry.data_file.file_path for entry in entries}

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return set().union(*pool.map(named, manifests))


def lists_of(snapshots: Iterable[Snapshot]) -> set[str]:
    """Find the manifest lists of some snapshots."""
    return {snapshot.manifest_list for snapshot in snapshots}


def known_files(table: Table) -> set[str]:
    """Find every file that the table knows: of all its snapshots, those of branches and tags included."""
    metadata = table.metadata
    manifests = manifests_of(table, metadata.snapshots)
    statistics = [s.statistics_path for s in (*metadata.statistics, *metadata.partition_statistics)]
    return {
        table.metadata_location,
        *(entry.metadata_file for entry in metadata.metadata_log),
        *statistics,
        *lists_of(metadata.snapshots),
        *manifests,
        *files_of(table, manifests.values()),
    }


def remove(io: FileIO, paths: Iterable[str]) -> None:
    """Remove files; one that is gone already is fine."""

    def delete(path: str) -> None:
        with suppress(FileNotFoundError):
            io.delete(path)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(delete, paths))


def plain(path: str) -> str:
    """Write a path without its scheme: s3, s3a and s3n name the same object."""
    return path.split("://", 1)[-1]
