"""Holding one file of an export against what its manifest says of it, down to the row where it can be read.

Belongs here: sizes, digests, Merkle roots and sums. Does not: which files there are, signatures and the chain
(`verification.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa

from lakehouse.definitions import BY_NAME, PAYMENTS
from lakehouse.exports.altered_rows import rows_altered
from lakehouse.exports.canonical_rows import encoded
from lakehouse.exports.manifest import FileEntry, Manifest, Tally, root_over, rows_of
from lakehouse.exports.merkle import HASH_BYTES, Tree, leaf_hash
from lakehouse.exports.parts import plain_rows, tables_of
from lakehouse.exports.store import Store

UNREADABLE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, pa.ArrowException)
"""What reading altered bytes may raise, whatever was altered in them. UnicodeDecodeError is a ValueError."""


def wrong_in_file(store: Store, entry: FileEntry, tally: Tally) -> Iterator[str]:
    """Say what is wrong with one file; where all is right its payments are added to the tally."""
    with store.opened(entry.path) as path:
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != entry.sha256:
            yield f"{_how(size, entry.bytes)}{_rows_altered(store, entry, path)}"
        elif entry.kind == "rows":
            try:
                yield from _wrong_root(entry, path, tally)
            except (
                UNREADABLE
            ) as error:  # its bytes are as the manifest says: that one was altered, and signed
                yield f"is no file of rows: {type(error).__name__}"
        elif entry.kind == "leaves" and size % HASH_BYTES:
            yield "is no list of leaves"


def _how(size: int, wanted: int) -> str:
    if size < wanted:
        return f"truncated: {size:,} bytes of {wanted:,}"
    return "altered" if size == wanted else f"altered: {size:,} bytes instead of {wanted:,}"


def _wrong_root(entry: FileEntry, path: Path, tally: Tally) -> Iterator[str]:
    tree = Tree()
    for table in tables_of(path):
        for row in plain_rows(table):
            tree.add(leaf_hash(encoded(row)))
            if entry.table == PAYMENTS:
                tally.add_money(
                    (row["currency"], row["event_type"], row["status"]), 1, Decimal(row["amount"])
                )
    if tree.root.hex() != entry.root:
        yield "its rows have another Merkle root than the manifest says"
    if tree.size != entry.rows:
        yield f"has {tree.size:,} rows, the manifest says {entry.rows:,}"


def _rows_altered(store: Store, entry: FileEntry, path: Path) -> str:
    """Name the first rows of an altered file that are not those that its leaves tell; else nothing."""
    if entry.kind != "rows":
        return ""
    try:
        leaves = store.read(str(Path(entry.path).with_suffix(".leaves")))
    except OSError:
        return "; its leaves are gone, which would tell its rows"
    key = BY_NAME[entry.table].key if entry.table in BY_NAME else ()
    return f"; {rows_altered(path, leaves, key) or 'its rows cannot be read any more'}"


def wrong_sums(manifest: Manifest, tally: Tally | None) -> Iterator[str]:
    """Hold what the manifest says of all files against each of them; and money, where all are whole."""
    files = manifest.files.values()
    if root_over(files) != manifest.root:
        yield "its root is not that over its files"
    if rows_of(files) != manifest.value["rows"]:
        yield "its rows per table are not the sums of its files"
    if tally is not None and tally.money() != manifest.value["money"]:
        yield "its totals of money are not those of its payments"
