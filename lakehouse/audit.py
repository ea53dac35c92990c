"""Looking at what was staged, with another reader than the one that wrote it, before it is published.

Belongs here: reading the files that a stage added, and the checks on them. Does not: when they run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFileContent, ManifestContent, ManifestEntryStatus
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from lakehouse.definitions import BY_NAME
from lakehouse.errors import AuditFailed
from lakehouse.offsets import OffsetVector, Range
from lakehouse.refs import ancestry, total_of
from quality.policy import CONSERVATION, DUPLICATE_KEY, OFFSET_GAP

_PART_BYTES = 64 * 1024 * 1024


def check_readable(table: str, staged: Snapshot, metadata: TableMetadata) -> None:
    """Check that no reader is left behind: Snowflake's refresh stops at each of these, and says nothing.

    Args:
        metadata: the table as it is now. `tables.py` makes none of such changes; another engine might.
    """
    if deletes := total_of(staged, "equality-deletes"):
        raise AuditFailed(
            f"table {table}: {deletes:,} equality deletes were staged, which Snowflake does not read",
            "write with Spark's merge-on-read, whose deletes are by position",
            table=table,
        )
    definition = BY_NAME.get(table)
    if definition is None:
        return
    wanted = definition.all_properties()["format-version"]
    if str(metadata.format_version) != wanted:
        raise AuditFailed(
            f"table {table}: it was made format v{metadata.format_version}, and is defined as v{wanted}",
            "find out who did it; Snowflake has to be given the table anew: `paywave snowflake plan`",
            table=table,
        )
    if strange := _required(metadata.schema()) - _required(definition.schema()):
        raise AuditFailed(
            f"table {table}: {', '.join(sorted(strange))} was made required",
            "make it optional again: rows from before have no value there",
            table=table,
        )


def _required(schema: Schema) -> set[str]:
    return {field.name for field in schema.fields if field.required}


def added_rows(table: Table, staged: Snapshot, parent_id: int, columns: Sequence[str]) -> pa.Table:
    """Read some columns of every row that the snapshots after `parent_id`, up to `staged`, appended."""
    parts = list(added_parts(table, staged, parent_id, columns))
    return pa.concat_tables(parts) if parts else pa.table({name: [] for name in columns})


def added_parts(table: Table, staged: Snapshot, parent_id: int, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Read the same rows a few files at a time, so that wide ones need not be in memory all at once."""
    files: list[pa.Table] = []
    for path in added_files(table, staged, parent_id):
        if sum(file.nbytes for file in files) > _PART_BYTES:
            yield pa.concat_tables(files)
            files = []
        files.append(pq.read_table(table.io.new_input(path).open(), columns=list(columns)))
    if files:
        yield pa.concat_tables(files)


def added_files(table: Table, staged: Snapshot, parent_id: int) -> list[str]:
    """List the data files that the snapshots after `parent_id`, up to `staged`, added."""
    ours = set()
    for snapshot in ancestry(table.metadata, staged):
        if snapshot.snapshot_id == parent_id:
            break
        ours.add(snapshot.snapshot_id)
    return [
        entry.data_file.file_path
        for manifest in staged.manifests(table.io)
        if manifest.content == ManifestContent.DATA and manifest.added_snapshot_id in ours
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        if entry.status == ManifestEntryStatus.ADDED and entry.data_file.content == DataFileContent.DATA
    ]


def check_dense(rows: pa.Table, before: OffsetVector, after: OffsetVector, table: str) -> None:
    """Check that rows (topic_id, partition, offset) are exactly the offsets between two vectors, once each.

    Raises `AuditFailed`, naming the partition and both sides.
    """
    ranges = before.ranges_to(after)
    expected = sum(r.end - r.start for r in ranges)
    for r in ranges:
        of_range = rows.filter(
            pc.and_(pc.equal(rows["topic_id"], r.topic_id), pc.equal(rows["partition"], r.partition))
        )
        _check_range(of_range["offset"], r, table)
    if rows.num_rows != expected:
        raise AuditFailed(
            f"table {table}: {rows.num_rows} rows staged where the source range has {expected}",
            gate=OFFSET_GAP,
            table=table,
        )


def check_unique(rows: pa.Table, key: Sequence[str], table: str) -> None:
    """Check that no key stands twice among the rows. Raises `AuditFailed` with the number of repeats."""
    distinct = rows.select(list(key)).group_by(list(key)).aggregate([]).num_rows
    if distinct != rows.num_rows:
        raise AuditFailed(
            f"table {table}: {rows.num_rows - distinct} staged rows repeat their key {key}",
            gate=DUPLICATE_KEY,
            table=table,
        )


def check_count(found: int, expected: int, what: str, table: str, gate: str = CONSERVATION) -> None:
    """Check one sum of the conservation law. Raises `AuditFailed` with both sides."""
    if found != expected:
        raise AuditFailed(f"table {table}: {found} {what}, {expected} expected", gate=gate, table=table)


def check_deleted(parent: Snapshot, staged: Snapshot, expected: int, table: str) -> None:
    """Check that a stage deleted as many rows as it was to. Raises `AuditFailed` with both sides."""
    before, after = (total_of(snapshot, "position-deletes") for snapshot in (parent, staged))
    check_count(after - before, expected, "rows deleted", table)


def _check_range(offsets: pa.ChunkedArray, r: Range, table: str) -> None:
    distinct = len(offsets.unique())
    low, high = (pc.min(offsets).as_py(), pc.max(offsets).as_py()) if distinct else (None, None)
    if (low, high, distinct, len(offsets)) != (r.start, r.end - 1, r.end - r.start, r.end - r.start):
        raise AuditFailed(
            f"table {table}: of {r.topic_id}-{r.partition} the offsets {r.start} to {r.end - 1} were to be "
            f"staged, found {len(offsets)} rows, {distinct} distinct, from {low} to {high}",
            "a gap or a repeat in Kafka or in the reader; nothing was published",
            gate=OFFSET_GAP,
            table=table,
        )
