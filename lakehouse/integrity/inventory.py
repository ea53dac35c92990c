"""The files that raw's retained snapshots need, beside what the ledger says of them: on disk, not in memory.

Belongs here: walking the metadata, and the tables of this one look, in DuckDB. Does not: looking at the files
(`look.py`), what to think of them (`verdict.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import duckdb
import pyarrow as pa
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table

from lakehouse.integrity.verdict import Seen, Wanted

_BATCH = 5_000
_MEMORY = "256MB"
_WANTED = pa.schema(
    [
        ("path", pa.string()),
        ("kind", pa.string()),
        ("bytes", pa.int64()),
        ("rows", pa.int64()),
        ("snapshot_id", pa.int64()),
    ]
)
Broken = Callable[[str, Exception], None]
"""Told of metadata that cannot be read, and why: what only it lists is not known then."""


def wanted_files(table: Table, broken: Broken) -> Iterator[Wanted]:
    """List what the snapshots need, those of branches and tags included: manifest lists, manifests, files.

    A file may be listed more than once. The table's own metadata file is not: the catalog names it, and each
    commit writes another.
    """
    manifests: dict[str, ManifestFile] = {}
    for snapshot in table.metadata.snapshots:
        yield Wanted(snapshot.manifest_list, "manifest-list", None, None, snapshot.snapshot_id)
        try:
            manifests |= {m.manifest_path: m for m in snapshot.manifests(table.io)}
        except Exception as error:
            broken(snapshot.manifest_list, error)
    for path, manifest in manifests.items():
        yield Wanted(path, "manifest", manifest.manifest_length, None, manifest.added_snapshot_id or 0)
        try:
            entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        except Exception as error:
            broken(path, error)
            continue
        for entry in entries:
            file, added = entry.data_file, entry.snapshot_id or manifest.added_snapshot_id or 0
            yield Wanted(file.file_path, "data", file.file_size_in_bytes, file.record_count, added)


class Todo(NamedTuple):
    """A file to look at: what was recorded of it, and whether to read it whole."""

    file: Wanted
    recorded: Seen | None
    whole: bool


class Inventory:
    """What is wanted and what is recorded, in a database of its own that goes with the block."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="paywave-integrity-")
        folder = Path(self._folder.name)
        self._db = duckdb.connect(folder / "inventory.duckdb")
        self._db.execute(f"SET memory_limit = '{_MEMORY}'")
        self._db.execute(f"SET temp_directory = '{folder}'")
        self._db.execute("SET TimeZone = 'UTC'")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._db.close()
        self._folder.cleanup()

    def fill(
        self, wanted: Iterable[Wanted], recorded: Iterable[pa.RecordBatch], recorded_schema: pa.Schema
    ) -> None:
        """Take in what is wanted, each path once, and the ledger's rows."""
        listed = (pa.Table.from_pylist([w._asdict() for w in rows], _WANTED) for rows in _batched(wanted))
        self._load("listed", chain([_WANTED.empty_table()], listed))
        self._load("recorded", chain([recorded_schema.empty_table()], map(_as_table, recorded)))
        self._db.execute(
            "CREATE TABLE wanted AS SELECT * FROM listed QUALIFY row_number() OVER (PARTITION BY path) = 1"
        )
        self._db.execute("DROP TABLE listed")

    def _load(self, name: str, parts: Iterable[pa.Table]) -> None:
        for number, part in enumerate(parts):
            self._db.register("part", part)
            into = f"INSERT INTO {name}" if number else f"CREATE TABLE {name} AS"
            self._db.execute(f"{into} SELECT * FROM part")  # noqa: S608 - names of our own
            self._db.unregister("part")

    def unrecorded(self) -> tuple[int, int]:
        """Count files and bytes of what is not recorded yet; of manifest lists nobody knows the bytes."""
        return self._one(
            "SELECT count(*), coalesce(sum(w.bytes), 0)::BIGINT "
            "FROM wanted w ANTI JOIN recorded r USING (path)"
        )

    def new(self) -> Iterator[list[Wanted]]:
        """Read what is not recorded yet, in the order of paths, some at a time."""
        sql = "SELECT w.* FROM wanted w ANTI JOIN recorded r USING (path) ORDER BY w.path"
        for rows in self._read(sql):
            yield [Wanted(*row) for row in rows]

    def choose(self, one_in: int, day: int, sample: int | None) -> tuple[int, int]:
        """Choose what to look at: all, or a random sample of so many. Returns files, and bytes to read.

        Args:
            one_in: over so many days in a row each file is read whole once; of the others the size is asked.
            day: counted from any fixed day.
        """
        of = "" if sample is None else f"USING SAMPLE reservoir({sample} ROWS)"
        looked_at = f"(SELECT * FROM wanted {of})"  # noqa: S608 - a number of our own, as those below
        self._db.execute(
            "CREATE TABLE todo AS SELECT w.*, r.bytes AS was_bytes, r.sha256 AS was_sha256, "  # noqa: S608
            f"md5_number_lower(w.path) % {one_in} = {day % one_in} AS whole "
            f"FROM {looked_at} w LEFT JOIN recorded r USING (path)"
        )
        return self._one(
            "SELECT count(*), coalesce(sum(coalesce(was_bytes, bytes)) FILTER (whole), 0)::BIGINT FROM todo"
        )

    def todo(self) -> Iterator[list[Todo]]:
        """Read what was chosen, in the order of paths, some at a time."""
        for rows in self._read("SELECT * FROM todo ORDER BY path"):
            yield [_todo(row) for row in rows]

    def recorded(self) -> Iterator[list[dict[str, Any]]]:
        """Read the ledger's rows in the order of their numbers, some at a time."""
        cursor = self._db.cursor()
        names = [row[0] for row in cursor.execute("DESCRIBE recorded").fetchall()]
        for rows in self._read("SELECT * FROM recorded ORDER BY seq"):
            yield [dict(zip(names, row, strict=True)) for row in rows]

    def _read(self, sql: str, at_a_time: int = 500) -> Iterator[list[tuple[Any, ...]]]:
        cursor = self._db.cursor()
        cursor.execute(sql)
        while rows := cursor.fetchmany(at_a_time):
            yield rows

    def _one(self, sql: str) -> tuple[int, int]:
        row = self._db.execute(sql).fetchone()
        assert row is not None
        return row[0], row[1]


def _batched(files: Iterable[Wanted]) -> Iterator[list[Wanted]]:
    left = iter(files)
    while some := list(islice(left, _BATCH)):
        yield some


def _as_table(batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch])


def _todo(row: tuple[Any, ...]) -> Todo:
    *file, size, digest, whole = row
    return Todo(Wanted(*file), None if digest is None else Seen(size, digest), whole)
