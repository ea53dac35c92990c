"""The files of a table's oldest hours: finding them by the metadata, dropping them whole, looking what went.

Belongs here: files. Does not: which hours (`due.py`), whether anybody still needs them (`retention.py`,
`curated_retention.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from pyiceberg.manifest import DataFileContent, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import SparkSession

from lakehouse.errors import AuditFailed
from lakehouse.maintenance.measure import hours_of
from lakehouse.maintenance.reachable import files_of
from lakehouse.maintenance.rewrite import java_table
from lakehouse.publish import Stage


class OldFile(NamedTuple):
    """A live file: its path, the hour of its partition, its size, and its rows, or those that it deletes."""

    path: str
    hour: int
    bytes: int
    records: int
    is_data: bool


def files_before(table: Table, snapshot: Snapshot, hour: int) -> list[OldFile]:
    """List the files of the hours (since 1970-01-01 UTC) before one; manifests of later ones are not read."""
    manifests = (m for m in snapshot.manifests(table.io) if _first_hour(m) < hour)
    return [file for file in _listed(table, manifests) if file.hour < hour]


def drop_files(stage: Stage, spark: SparkSession, column: str, before: str) -> None:
    """Drop the files whose rows all lie before a moment (ISO 8601), as one stamped snapshot of the stage.

    Only metadata is written. Iceberg refuses where a file holds rows of both sides. SQL's DELETE would do the
    same, but takes no stamp where it need not rewrite anything.
    """
    jvm: Any = spark._jvm
    words = jvm.org.apache.iceberg.expressions.Expressions
    update = java_table(spark, stage.head.name).newDelete()
    update = update.deleteFromRowFilter(words.lessThan(column, before))
    for name, value in stage.properties.items():
        update = update.set(name, value)
    update.toBranch(stage.branch).commit()


def check_dropped(
    table: Table, parent: Snapshot, staged: Snapshot, hour: int, old: Iterable[OldFile]
) -> None:
    """Check that just these files went, whole, and no other came or went. Raises `AuditFailed`.

    Args:
        old: the files of the hours before `hour`; those that delete rows of the others go with them.
    """
    name = ".".join(table.name())
    before, after = ({m.manifest_path: m for m in s.manifests(table.io)} for s in (parent, staged))
    # counted: one Puffin file may hold several deletion vectors, which nothing here tells apart
    had = Counter(_listed(table, (m for path, m in before.items() if path not in after)))
    has = Counter(_listed(table, (m for path, m in after.items() if path not in before)))
    gone, come, wanted = had - has, has - had, Counter(old)
    if come or gone != wanted:
        raise AuditFailed(
            f"table {name}: {wanted.total()} files of old days were to go; {(gone - wanted).total()} others "
            f"would go, {(wanted - gone).total()} would stay and {come.total()} would come",
            "nothing was published",
            table=name,
        )
    if any(file.hour >= hour for file in gone):
        raise AuditFailed(f"table {name}: a file of a day that stays would go", table=name)


def check_counted(name: str, old: Collection[OldFile], records: int) -> None:
    """Check that files of a table that never deletes hold the rows that were read. Raises `AuditFailed`."""
    deletes, in_files = sum(not file.is_data for file in old), sum(file.records for file in old)
    if deletes or in_files != records:
        raise AuditFailed(
            f"table {name}: the files of old days say {in_files} rows, {records} were read there, "
            f"and {deletes} of them delete rows",
            "rows were deleted by hand: `paywave reconcile` names them; nothing was published",
            table=name,
        )


def held_by_tags(table: Table, old: Iterable[OldFile]) -> dict[str, int]:
    """Count the files among these that each tag of a table keeps, whatever main has."""
    paths, found = {file.path for file in old}, {}
    for name, ref in table.metadata.refs.items():
        snapshot = table.metadata.snapshot_by_id(ref.snapshot_id)
        if ref.snapshot_ref_type == SnapshotRefType.TAG and snapshot is not None:
            found[name] = len(paths & files_of(table, snapshot.manifests(table.io)))
    return {name: files for name, files in sorted(found.items()) if files}


def _listed(table: Table, manifests: Iterable[ManifestFile]) -> Iterator[OldFile]:
    for manifest in manifests:
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            file = entry.data_file
            is_data = file.content == DataFileContent.DATA
            yield OldFile(
                file.file_path, file.partition[0], file.file_size_in_bytes, file.record_count, is_data
            )


def newest_hour(table: Table, snapshot: Snapshot) -> int | None:
    """Read from the manifests' summaries the newest hour that a table has records of."""
    found = (hours_of(manifest)[1] for manifest in snapshot.manifests(table.io))
    return max((hour for hour in found if hour is not None), default=None)


def _first_hour(manifest: ManifestFile) -> int:
    """Tell the first hour that a manifest's files are of; nothing known: all hours."""
    first, _ = hours_of(manifest)
    return -(2**31) if first is None else first
