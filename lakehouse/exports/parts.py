"""Writing the files of an export: sorted rows in, Parquet, leaves of the Merkle tree and CSV out.

Belongs here: bytes that follow from the rows alone. Does not: which rows (`selection.py`, `engine.py`).

The same rows give the same bytes: fixed options, row groups of a fixed number of rows, no times of writing.
Another release of pyarrow may write other bytes; the Merkle root over the rows then stays the same.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.exports.canonical_rows import encoded, plain
from lakehouse.exports.manifest import FileEntry
from lakehouse.exports.merkle import Tree, leaf_hash

ROWS_PER_GROUP = 16_384
_TIME = "%Y-%m-%dT%H:%M:%SZ"  # seconds come with their microseconds, as the column has them


def write_part(
    folder: Path, table: str, name: str, rows: Iterable[pa.RecordBatch], schema: pa.Schema, as_csv: bool
) -> list[FileEntry]:
    """Write sorted rows as `TABLE/NAME.parquet` and `.leaves`, and `.csv` on request; nothing for no rows.

    Keeps one row group in memory. The files are on disk when it returns.
    """
    groups = _grouped(rows, schema)
    first = next(groups, None)
    if first is None:
        return []
    base = folder / table / name
    base.parent.mkdir(parents=True, exist_ok=True)
    tree, written = Tree(), 0
    with ExitStack() as stack:
        parquet = stack.enter_context(pq.ParquetWriter(base.with_suffix(".parquet"), schema, **_OPTIONS))
        leaves = stack.enter_context(base.with_suffix(".leaves").open("wb"))
        text = None
        if as_csv:
            file = stack.enter_context(base.with_suffix(".csv").open("w", newline="", encoding="utf-8"))
            text = csv.writer(file, lineterminator="\n")
            text.writerow(schema.names)
        for group in _chained(first, groups):
            parquet.write_table(group, row_group_size=ROWS_PER_GROUP)
            for row in plain_rows(group):
                leaf = leaf_hash(encoded(row))
                tree.add(leaf)
                leaves.write(leaf)
                if text is not None:
                    text.writerow([_cell(row[column]) for column in schema.names])
            written += group.num_rows
    return _entries(folder, base, table, written, tree.root.hex(), as_csv)


def plain_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Give the rows of a table with plain values, as `canonical_rows.plain` does one by one, but faster."""
    names = table.schema.names
    for values in zip(*(_plain_column(table.column(name)) for name in names), strict=True):
        yield dict(zip(names, values, strict=True))


def tables_of(path: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Read a Parquet file, a row group's worth at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_PER_GROUP, columns=columns):
            yield pa.Table.from_batches([batch])


def entry_of(folder: Path, path: Path, **of_rows: Any) -> FileEntry:
    """Describe a file as it lies there, once it is on disk for good."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(path.relative_to(folder).as_posix(), path.stat().st_size, digest, **of_rows)


_OPTIONS: Mapping[str, Any] = {
    "version": "2.6",
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": True,
    "write_statistics": True,
    "data_page_version": "1.0",
    "store_schema": False,  # what pyiceberg takes a type for in memory is not to be seen in the bytes
}


def _entries(folder: Path, base: Path, table: str, rows: int, root: str, as_csv: bool) -> list[FileEntry]:
    found = [
        entry_of(folder, base.with_suffix(".leaves"), kind="leaves", table=table),
        entry_of(folder, base.with_suffix(".parquet"), kind="rows", table=table, rows=rows, root=root),
    ]
    if as_csv:
        found.append(entry_of(folder, base.with_suffix(".csv"), kind="csv", table=table, rows=rows))
    return found


def _grouped(rows: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Cut a stream into tables of just `ROWS_PER_GROUP` rows, the last one of what is left."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in rows:
        start = 0
        while start < batch.num_rows:
            taken = min(batch.num_rows - start, ROWS_PER_GROUP - count)
            waiting.append(batch.slice(start, taken))
            start, count = start + taken, count + taken
            if count == ROWS_PER_GROUP:
                yield _whole(waiting, schema)
                waiting, count = [], 0
    if waiting:
        yield _whole(waiting, schema)


def _whole(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    # in one chunk: where pages of a column end must not depend on how the rows came
    return pa.Table.from_batches(batches).cast(schema).combine_chunks()


def _chained(first: pa.Table, others: Iterator[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from others


def _plain_column(column: pa.ChunkedArray) -> list[Any]:
    kind = column.type
    if pa.types.is_timestamp(kind):
        # without a zone the conversion needs no database of zones; the values are UTC either way
        column = pc.strftime(column.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us")), format=_TIME)
    elif pa.types.is_decimal(kind):
        column = column.cast(pa.string())
    values: list[Any] = column.to_pylist()
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [None if value is None else b64encode(value).decode() for value in values]
    return [plain(value) for value in values] if pa.types.is_nested(kind) else values


def _cell(value: Any) -> str:
    """Write a plain value as a cell: nothing for null, JSON for what is nested."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
