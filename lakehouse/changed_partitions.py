"""Which partitions of a table differ between two of its snapshots, told by their files alone.

Belongs here: comparing the manifests of two snapshots. Does not: reading rows, or what a change means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from pyiceberg.manifest import DataFileContent, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot


def changed_partitions(table: Table, before: Snapshot, after: Snapshot) -> set[tuple[Any, ...]]:
    """Find the partitions whose data or delete files are not the same in both snapshots.

    A partition that is not among them holds the same rows in both, whatever came between: appends, merges,
    deletes, compaction, a rollback. Neither need be an ancestor of the other. Manifests that the two share
    are not read.

    Returns:
        The partitions' values, in the order of the spec's fields.
    """
    if before.snapshot_id == after.snapshot_id:
        return set()
    old, new = ({m.manifest_path: m for m in s.manifests(table.io)} for s in (before, after))
    gone = Counter(_files(table, (old[path] for path in old.keys() - new.keys())))
    come = Counter(_files(table, (new[path] for path in new.keys() - old.keys())))
    return {partition for partition, _ in (come - gone) + (gone - come)}


def _files(
    table: Table, manifests: Iterable[ManifestFile]
) -> Iterator[tuple[tuple[Any, ...], tuple[str, DataFileContent]]]:
    """List the live files of manifests, each with its partition.

    One Puffin file may hold several deletion vectors of a partition. They are counted, not told apart: no
    commit adds to a file that is there.
    """
    width = len(table.spec().fields)
    for manifest in manifests:
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            file = entry.data_file
            yield tuple(file.partition[i] for i in range(width)), (file.file_path, file.content)
