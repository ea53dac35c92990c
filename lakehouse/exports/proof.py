"""Proving one row of an export without the rest: the row, its path to the root, and the signed manifest.

Belongs here: finding the row and making the proof. Does not: verifying it (`verifier.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lakehouse.errors import ExportError
from lakehouse.exports.manifest import MANIFEST, SIGNATURE, FileEntry, Manifest
from lakehouse.exports.merkle import HASH_BYTES, path_of, root_of
from lakehouse.exports.parts import plain_rows, tables_of
from lakehouse.exports.store import Store


def prove(store: Store, table: str, key: str) -> dict[str, Any]:
    """Make the proof of the row with a key: its columns' values joined by `/`, the last ones may lack.

    Raises `ExportError` where there is no such table, no such row, or more than one.
    """
    try:
        manifest = Manifest.read(store.read(MANIFEST))
    except FileNotFoundError:
        raise ExportError(f"there is no export in {store}", "`paywave audit list` names them") from None
    files = [f for f in manifest.files.values() if f.kind == "rows"]
    there = sorted({f.table for f in files if f.table})
    if table not in there:
        raise ExportError(
            f"the export has no rows of {table}", f"it has rows of: {', '.join(there) or 'none'}"
        )
    columns = manifest.value["schemas"][table]["key"]
    found = [hit for f in files if f.table == table for hit in _rows_with(store, f, columns, key)]
    if len(found) != 1:
        how_many = "no row" if not found else f"{len(found):,} rows"
        raise ExportError(
            f"the export has {how_many} of {table} with the key {key!r}",
            f"a key is written {'/'.join(c.upper() for c in columns)}, with - for null",
        )
    entry, index, row = found[0]
    return {
        "format": 1,
        "table": table,
        "file": entry.path,
        "index": index,
        "row": row,
        "path": [node.hex() for node in _path(store, entry, index)],
        "manifest": manifest.data.decode(),
        "signature": store.read(SIGNATURE).hex(),
    }


def _rows_with(
    store: Store, entry: FileEntry, columns: Sequence[str], key: str
) -> Iterator[tuple[FileEntry, int, dict[str, Any]]]:
    with store.opened(entry.path) as path:
        first = 0
        for keys in tables_of(path, list(columns)):
            for i, row in enumerate(plain_rows(keys)):
                text = "/".join("-" if row[column] is None else str(row[column]) for column in columns)
                if text == key or text.startswith(f"{key}/"):
                    yield entry, first + i, _row(path, first + i)
            first += keys.num_rows


def _row(path: Path, index: int) -> dict[str, Any]:
    for table in tables_of(path):
        if index < table.num_rows:
            return next(plain_rows(table.slice(index, 1)))
        index -= table.num_rows
    raise AssertionError("the row was there a moment ago")


def _path(store: Store, entry: FileEntry, index: int) -> list[bytes]:
    """Read the path out of the leaves. Raises `ExportError` where these are not those of the manifest."""
    with store.opened(str(Path(entry.path).with_suffix(".leaves"))) as path, path.open("rb") as file:

        def leaves(first: int, last: int) -> Iterator[bytes]:
            file.seek(first * HASH_BYTES)
            for _ in range(first, last):
                yield file.read(HASH_BYTES)

        size = entry.rows or 0
        if root_of(leaves(0, size)).hex() != entry.root:
            raise ExportError(f"the leaves of {entry.path} were altered", "`paywave audit verify` tells more")
        return path_of(index, size, lambda first, last: root_of(leaves(first, last)))
