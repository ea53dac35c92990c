"""Verifying exports: each altered, missing or extra part is named, down to the row where it can be read.

Belongs here: holding an export, or a whole chain, against its manifests, and against the lake. Does not: the
independent verifier that lies in each export (`verifier.py`), proofs of one row (`proof.py`).
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog

from lakehouse.definitions import BY_NAME, PAYMENTS
from lakehouse.errors import ExportError, LakehouseError
from lakehouse.exports.canonical_rows import encoded
from lakehouse.exports.chain import FOLDER, link_of, links_in, wrong_in_chain
from lakehouse.exports.derive import Derivation
from lakehouse.exports.manifest import (
    MANIFEST,
    PUBLIC_KEY,
    SIGNATURE,
    FileEntry,
    Manifest,
    Tally,
    root_over,
    rows_of,
    statement_of,
)
from lakehouse.exports.merkle import HASH_BYTES, Tree, leaf_hash
from lakehouse.exports.parts import plain_rows, tables_of
from lakehouse.exports.pins import Pins
from lakehouse.exports.request import Request
from lakehouse.exports.signing import is_signed, public_key_of
from lakehouse.exports.store import Store
from lakehouse.offsets import OffsetVector

Report = Callable[[float, float, str], None]
_ROWS_NAMED = 5
_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True)
class Finding:
    """What is wrong, and where: a file's name, within the store that was looked at."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass
class Verified:
    """The outcome: findings, and remarks that are none. `exports` are the names of those looked at."""

    exports: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    files: int = 0
    rows: int = 0

    @property
    def whole(self) -> bool:
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {
            "whole": self.whole,
            "exports": self.exports,
            "files": self.files,
            "rows": self.rows,
            "findings": [{"where": f.where, "what": f.what} for f in self.findings],
            "remarks": self.remarks,
        }


class Verifier:
    """Verifies what lies in a store: one export, or the folder of all of them with their chain.

    Args:
        key: the signer's public key; without it the one beside the manifest is taken, and that is remarked.
        lake: catalog and folder for scratch, to derive every file again; None: the export alone is looked at.
    """

    def __init__(
        self,
        store: Store,
        key: Ed25519PublicKey | None,
        lake: tuple[RestCatalog, int] | None = None,
        report: Report = lambda _done, _total, _note: None,
    ) -> None:
        self._store, self._key, self._lake, self._report = store, key, lake, report

    def run(self) -> Verified:
        """Look at everything there is. Raises `ExportError` where there is no export at all."""
        with _tracer.start_as_current_span("verify"):
            names, found = self._store.names(), Verified()
            if any(name.startswith(f"{FOLDER}/") for name in names):
                self._folder(names, found)
            elif {MANIFEST, SIGNATURE} & names:
                self._export(self._store, "", names, found)
            else:
                raise ExportError(
                    f"there is no export in {self._store}",
                    "give the folder of an export, or that of all exports",
                )
            return found

    def _folder(self, names: set[str], found: Verified) -> None:
        """Verify a chain, and each export of it."""
        links = self._links({name for name in names if name.startswith(f"{FOLDER}/")}, found)
        found.findings += [Finding(*wrong) for wrong in wrong_in_chain(links)]
        there = {name.split("/")[0] for name in names if "/" in name} - {FOLDER}
        for number, link in sorted(links.items()):
            if link.name not in there:
                found.findings.append(Finding(link.name, f"missing: the export of {link_of(number)} is gone"))
        linked = {link.name for link in links.values()}
        for name in sorted(there):
            if f"{name}/{MANIFEST}" not in names and name not in linked:
                found.remarks.append(f"{name}: begun and not finished: it has no manifest, nor has the chain")
                continue
            inner = {n.removeprefix(f"{name}/") for n in names if n.startswith(f"{name}/")}
            manifest = self._export(self._store.under(name), f"{name}/", inner, found)
            if manifest is not None:
                self._chained(name, manifest, links, found)

    def _links(self, names: set[str], found: Verified) -> dict[int, Manifest]:
        """Read the chain's copies, and hold their signatures against the signer's key where that is given."""
        links: dict[int, Manifest] = {}
        numbers = links_in({name.removeprefix(f"{FOLDER}/") for name in names})
        known = {name for number in numbers for name in (link_of(number), f"{link_of(number)}.sig")}
        found.findings += [Finding(name, "is no part of the chain") for name in sorted(names - known)]
        found.findings += [Finding(name, "missing") for name in sorted(known - names)]
        for number in numbers:
            name = link_of(number)
            try:
                links[number] = Manifest.read(self._store.read(name))
            except ExportError as error:
                found.findings.append(Finding(name, str(error)))
                continue
            if self._key is None or f"{name}.sig" not in names:
                continue
            signature = self._store.read(f"{name}.sig")
            if not is_signed(self._key, statement_of(links[number].data), signature):
                what = f"wrong: {name} or its signature was altered, or another key signed"
                found.findings.append(Finding(f"{name}.sig", what))
        return links

    def _chained(self, name: str, manifest: Manifest, links: Mapping[int, Manifest], found: Verified) -> None:
        link = links.get(manifest.sequence)
        if link is None:
            what = f"{link_of(manifest.sequence)} is missing or cannot be read: the chain does not have it"
            found.findings.append(Finding(f"{name}/{MANIFEST}", what))
        elif link.data != manifest.data:
            what = f"differs from its copy {link_of(manifest.sequence)}: one of the two was altered"
            found.findings.append(Finding(f"{name}/{MANIFEST}", what))

    def _export(self, store: Store, prefix: str, names: set[str], found: Verified) -> Manifest | None:
        """Verify one export; where its manifest cannot be read there is nothing to hold its files against."""
        found.exports.append(prefix.rstrip("/") or str(store))

        def add(where: str, what: str) -> None:
            found.findings.append(Finding(f"{prefix}{where}", what))

        try:
            manifest = Manifest.read(store.read(MANIFEST))
        except FileNotFoundError:
            add(MANIFEST, "missing")
            return None
        except ExportError as error:
            add(MANIFEST, f"altered: {error}")
            return None
        for where, what in _wrong_signature(store, manifest, self._key, found.remarks, prefix):
            add(where, what)
        self._files(store, manifest, prefix, names, found)
        if self._lake is not None:
            try:
                self._against_lake(manifest, prefix, found)
            except LakehouseError as error:
                add(MANIFEST, f"cannot be derived from the lake again: {error}")
        return manifest

    def _files(self, store: Store, manifest: Manifest, prefix: str, names: set[str], found: Verified) -> None:
        """Hold the files of an export against its manifest."""
        files, tally = manifest.files, Tally()
        wrong = [(name, "missing") for name in sorted(set(files) - names)]
        others = sorted(names - set(files) - {MANIFEST, SIGNATURE})
        wrong += [(name, "not in the manifest: it was put there later") for name in others]
        for number, name in enumerate(sorted(set(files) & names), start=1):
            wrong += [(name, what) for what in _wrong_in_file(store, files[name], tally)]
            found.files += 1
            found.rows += (files[name].rows or 0) if files[name].root is not None else 0
            self._report(number, len(files), f"{prefix}{name}")
        wrong += [(MANIFEST, what) for what in _wrong_sums(manifest, None if wrong else tally)]
        found.findings += [Finding(f"{prefix}{name}", what) for name, what in wrong]

    def _against_lake(self, manifest: Manifest, prefix: str, found: Verified) -> None:
        """Derive every file again from the pinned snapshots."""
        assert self._lake is not None
        catalog, memory_mb = self._lake
        pins = Pins(manifest.snapshots, OffsetVector())
        request = Request.from_json(manifest.value["request"])
        listed = {name: f for name, f in manifest.files.items() if f.kind != "other"}
        derived: dict[str, FileEntry] = {}
        with tempfile.TemporaryDirectory(prefix="paywave-audit-") as folder:
            derivation = Derivation(catalog, pins, request, Path(folder), memory_mb, request.csv)
            for part in derivation.parts(()):
                for entry in part.files:
                    derived[entry.path] = entry
                    (derivation.files / entry.path).unlink()
        for name in sorted(set(listed) | set(derived)):
            what = _differs(listed.get(name), derived.get(name))
            if what is not None:
                found.findings.append(Finding(f"{prefix}{name}", what))
        written_by = manifest.value["tool"]["pyarrow"]
        others = [n for n in set(listed) & set(derived) if listed[n].sha256 != derived[n].sha256]
        if others and not found.findings:
            found.remarks.append(
                f"{len(others)} files hold the same rows in other bytes: pyarrow {written_by} wrote them, "
                f"and pyarrow {pa.__version__} is here"
            )


def _wrong_signature(
    store: Store, manifest: Manifest, key: Ed25519PublicKey | None, remarks: list[str], prefix: str
) -> Iterator[tuple[str, str]]:
    try:
        signature = store.read(SIGNATURE)
    except FileNotFoundError:
        yield SIGNATURE, "missing"
        return
    if key is None:
        remarks.append(
            f"{prefix}{PUBLIC_KEY}: the signature was held against the key that lies beside it, which "
            "whoever alters an export can replace; give the signer's own with --public-key"
        )
        try:
            key = public_key_of(store.read(PUBLIC_KEY), f"{prefix}{PUBLIC_KEY}")
        except (FileNotFoundError, ExportError) as error:
            yield PUBLIC_KEY, f"no key to verify by: {error}"
            return
    if not is_signed(key, statement_of(manifest.data), signature):
        yield SIGNATURE, f"wrong: {MANIFEST} or its signature was altered, or another key signed"


def _wrong_in_file(store: Store, entry: FileEntry, tally: Tally) -> Iterator[str]:
    """Say what is wrong with one file; where all is right its payments are added to the tally."""
    with store.opened(entry.path) as path:
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != entry.sha256:
            yield f"{_how(size, entry.bytes)}{_rows_altered(store, entry, path)}"
        elif entry.kind == "rows":
            yield from _wrong_root(entry, path, tally)
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
    named: list[str] = []
    count = 0
    try:
        leaves = store.read(str(Path(entry.path).with_suffix(".leaves")))
        known = (leaves[i : i + HASH_BYTES] for i in range(0, len(leaves), HASH_BYTES))
        rows = (row for table in tables_of(path) for row in plain_rows(table))
        for number, (row, leaf) in enumerate(zip_longest(rows, known)):
            if row is None or leaf_hash(encoded(row)) != leaf:
                count += 1
                if len(named) < _ROWS_NAMED:
                    named.append(f"row {number}{_key_of(entry, row)}")
    except (FileNotFoundError, OSError, pa.ArrowException, KeyError, TypeError):
        return "; its rows cannot be read any more"
    if not count:
        return "; its rows read as they were"
    more = f" and {count - len(named):,} more" if count > len(named) else ""
    return f"; {', '.join(named)}{more} altered or missing"


def _key_of(entry: FileEntry, row: Mapping[str, Any] | None) -> str:
    if row is None or entry.table not in BY_NAME:
        return ""
    return f" ({'/'.join(str(row.get(column)) for column in BY_NAME[entry.table].key)})"


def _wrong_sums(manifest: Manifest, tally: Tally | None) -> Iterator[str]:
    """Hold what the manifest says of all files against each of them; and money, where all are whole."""
    files = manifest.files.values()
    if root_over(files) != manifest.root:
        yield "its root is not that over its files"
    if rows_of(files) != manifest.value["rows"]:
        yield "its rows per table are not the sums of its files"
    if tally is not None and tally.money() != manifest.value["money"]:
        yield "its totals of money are not those of its payments"


def _differs(listed: FileEntry | None, derived: FileEntry | None) -> str | None:
    """Compare a file with what the lake gives; other bytes of the same rows are no difference."""
    if derived is None:
        return "the lake gives no such file at the pinned snapshots"
    if listed is None:
        return "the lake gives this file too at the pinned snapshots"
    if listed.sha256 == derived.sha256 or (listed.root is not None and listed.root == derived.root):
        return None
    return "the lake gives other rows at the pinned snapshots"
