"""Deriving an export again from its pinned snapshots, and naming what the lake tells otherwise.

Belongs here: that comparison. Does not: deriving (`derive.py`), holding an export against its own manifest
(`verification.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog

from lakehouse.exports.derive import Derivation
from lakehouse.exports.manifest import MANIFEST, FileEntry, Manifest, Tally, reconciled
from lakehouse.exports.pins import Pins
from lakehouse.exports.request import Request
from lakehouse.offsets import OffsetVector


def wrong_by_lake(
    manifest: Manifest, catalog: RestCatalog, memory_mb: int, remarks: list[str]
) -> Iterator[tuple[str, str]]:
    """Derive every file, the sums and the columns again; name what differs, by file.

    Not derived again: what the manifest says of the whole lake, and its contract version. Raises
    `UnknownMoment` where a snapshot is not kept any more, and what reading an altered request raises
    (`file_checks.UNREADABLE`).
    """
    listed = {name: f for name, f in manifest.files.items() if f.kind != "other"}
    derived: dict[str, FileEntry] = {}
    tally, request = Tally(), Request.from_json(manifest.value["request"])
    with tempfile.TemporaryDirectory(prefix="paywave-audit-") as folder:
        pins = Pins(manifest.snapshots, OffsetVector())
        derivation = Derivation(catalog, pins, request, Path(folder), memory_mb, request.csv)
        for part, _ in derivation.parts(()):
            tally.add(part.tally)
            for entry in part.files:
                derived[entry.path] = entry
                (derivation.files / entry.path).unlink()
    wrong = [(n, _differs(listed.get(n), derived.get(n))) for n in sorted({*listed, *derived})]
    wrong += [(MANIFEST, what) for what in _wrong_words(manifest, tally, derivation.schemas())]
    yield from ((name, what) for name, what in wrong if what is not None)
    others = [n for n in set(listed) & set(derived) if listed[n].sha256 != derived[n].sha256]
    if others and not any(what for _, what in wrong):
        written_by = manifest.value["tool"]["pyarrow"]
        remarks.append(
            f"{len(others)} files hold the same rows in other bytes: pyarrow {written_by} wrote them, "
            f"and pyarrow {pa.__version__} is here"
        )


def _wrong_words(manifest: Manifest, tally: Tally, schemas: Mapping[str, Any]) -> Iterator[str]:
    """Hold what the manifest says of the exported rows against what was derived."""
    if manifest.value["money"] != tally.money():
        yield "the lake gives other totals of money at the pinned snapshots"
    if manifest.value["reconciliation"]["exported"] != reconciled(tally.counts):
        yield "the lake gives another reconciliation of the exported rows at the pinned snapshots"
    if manifest.value["schemas"] != schemas:
        yield "the tables have other columns at the pinned snapshots"


def _differs(listed: FileEntry | None, derived: FileEntry | None) -> str | None:
    """Compare a file with what the lake gives; other bytes of the same rows are no difference."""
    if derived is None:
        return "the lake gives no such file at the pinned snapshots"
    if listed is None:
        return "the lake gives this file too at the pinned snapshots"
    if listed.sha256 == derived.sha256 or (listed.root is not None and listed.root == derived.root):
        return None
    return "the lake gives other rows at the pinned snapshots"
