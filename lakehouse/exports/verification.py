"""Verifying exports: each altered, missing or extra part is named, down to the row where it can be read.

Belongs here: holding an export, or a whole chain, against its manifests, and against the lake. Does not: the
independent verifier that lies in each export (`verifier.py`), proofs of one row (`proof.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog

from lakehouse.chain import Tail
from lakehouse.errors import ExportError, LakehouseError
from lakehouse.exports.chain import FOLDER, head_of, link_of, links_in, wrong_by_heads, wrong_in_chain
from lakehouse.exports.end_notes import notes_in
from lakehouse.exports.file_checks import UNREADABLE, wrong_in_file, wrong_sums
from lakehouse.exports.manifest import MANIFEST, PUBLIC_KEY, SIGNATURE, Manifest, Tally, statement_of
from lakehouse.exports.rederivation import wrong_by_lake
from lakehouse.exports.signing import is_signed, public_key_of
from lakehouse.exports.store import Store

Report = Callable[[float, float, str], None]
# What a process that is killed leaves of a file in the chain that it is writing (`lakehouse/whole_file.py`).
_DRAFT = re.compile(rf"{FOLDER}/\.[0-9]+\.json(\.sig)?\.[0-9a-f]{{8}}")
_ENDS = {
    "signed": "a standing export was ended, as is signed",
    "unknown": "says that a standing export was ended; there is no key to hold its signature against",
    "unsigned": "says that a standing export was ended, and is not signed: an earlier release wrote it, or "
    "anybody else; it ends nothing, `paywave audit end` once more does",
}
_WRONG_END = "wrong signature: this note of an end was altered or forged, or another key signed"
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
    """The outcome: findings, and remarks that are none. `exports` are the names of those looked at.

    `head` is the last link of the chain: noted elsewhere, it tells later whether the end was cut off.
    """

    exports: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    files: int = 0
    rows: int = 0
    head: Tail | None = None

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
            "chain_head": None if self.head is None else str(self.head),
        }


class Verifier:
    """Verifies what lies in a store: one export, or the folder of all of them with their chain.

    Args:
        keys: the signer's public keys, of which any may have signed: exports outlive a key. Without one, the
            key beside each manifest is taken, and that is remarked.
        lake: catalog and folder for scratch, to derive every file again; None: the export alone is looked at.
        heads: ends of the chain that were noted elsewhere before; each must still be in it.
    """

    def __init__(
        self,
        store: Store,
        keys: Sequence[Ed25519PublicKey] = (),
        lake: tuple[RestCatalog, int] | None = None,
        report: Report = lambda _done, _total, _note: None,
        heads: Sequence[Tail] = (),
    ) -> None:
        self._store, self._keys, self._lake, self._report = store, keys, lake, report
        self._heads = heads

    def run(self) -> Verified:
        """Look at everything there is. Raises `ExportError` where there is no export at all."""
        with _tracer.start_as_current_span("verify"):
            names, found = self._store.names(), Verified()
            if any(name.startswith(f"{FOLDER}/") for name in names):
                self._folder(names, found)
            elif self._heads:
                raise ExportError(
                    f"there is no chain in {self._store} that a head could be in",
                    "give the folder of all exports, which has the folder chain",
                )
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
        links = self._links(names, found)
        self._ends(links, names, found)
        found.head = head_of(links)
        wrong = (*wrong_in_chain(links), *wrong_by_heads(links, self._heads))
        found.findings += [Finding(*one) for one in wrong]
        there = {name.split("/")[0] for name in names if "/" in name} - {FOLDER}
        linked = {link.name for link in links.values()}
        swapped = set()
        for name in sorted(there):
            if f"{name}/{MANIFEST}" not in names and name not in linked:
                found.remarks.append(f"{name}: begun and not finished: it has no manifest, nor has the chain")
                continue
            inner = {n.removeprefix(f"{name}/") for n in names if n.startswith(f"{name}/")}
            manifest = self._export(self._store.under(name), f"{name}/", inner, found)
            if manifest is not None:
                self._chained(name, manifest, links, found)
                if manifest.name != name:
                    swapped.add(name)
        for number, link in sorted(links.items()):
            if link.name not in there - swapped:
                found.findings.append(Finding(link.name, f"missing: the export of {link_of(number)} is gone"))

    def _links(self, names: set[str], found: Verified) -> dict[int, Manifest]:
        """Read the chain's copies, and hold their signatures against a key."""
        links: dict[int, Manifest] = {}
        ours = {name for name in names if name.startswith(f"{FOLDER}/")}
        drafts = {name for name in ours if _DRAFT.fullmatch(name)}
        found.remarks += [
            f"{name}: left by a process that was killed while it wrote" for name in sorted(drafts)
        ]
        ours -= drafts
        numbers = links_in({name.removeprefix(f"{FOLDER}/") for name in ours})
        known = {name for number in numbers for name in (link_of(number), f"{link_of(number)}.sig")}
        found.findings += [Finding(name, "is no part of the chain") for name in sorted(ours - known)]
        found.findings += [Finding(name, "missing") for name in sorted(known - ours)]
        for number in numbers:
            name = link_of(number)
            try:
                link = links[number] = Manifest.read(self._store.read(name))
            except FileNotFoundError:  # its number is written in another way
                continue
            except ExportError as error:
                found.findings.append(Finding(name, str(error)))
                continue
            keys = self._keys or self._beside(link, names)
            if not keys or f"{name}.sig" not in names:
                continue
            if not _is_signed_by_any(keys, link, self._store.read(f"{name}.sig")):
                what = f"wrong: {name} or its signature was altered, or another key signed"
                found.findings.append(Finding(f"{name}.sig", what))
        return links

    def _ends(self, links: Mapping[int, Manifest], names: set[str], found: Verified) -> None:
        """Tell the notes that a standing export was ended from what only looks like one."""
        keys = self._keys or [key for link in links.values() for key in self._beside(link, names)]
        for note in notes_in(self._store, keys):
            if note.state == "wrong":
                found.findings.append(Finding(note.file, _WRONG_END))
            else:
                found.remarks.append(f"{note.file}: {_ENDS[note.state]}")

    def _beside(self, link: Manifest, names: set[str]) -> Sequence[Ed25519PublicKey]:
        """Read the key in a link's export; none where that is gone or altered, which is named there."""
        path = f"{link.name}/{PUBLIC_KEY}"
        try:
            return [public_key_of(self._store.read(path), path)] if path in names else []
        except ExportError:
            return []

    def _chained(self, name: str, manifest: Manifest, links: Mapping[int, Manifest], found: Verified) -> None:
        where, link = f"{name}/{MANIFEST}", links.get(manifest.sequence)
        if manifest.name != name:
            found.findings.append(Finding(where, f"is the manifest of {manifest.name}"))
        if link is None:
            what = f"{link_of(manifest.sequence)} is missing or cannot be read: the chain does not have it"
            found.findings.append(Finding(where, what))
        elif link.data != manifest.data:
            what = f"differs from its copy {link_of(manifest.sequence)}: one of the two was altered"
            found.findings.append(Finding(where, what))

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
        try:
            for where, what in self._wrong_signature(store, manifest, found.remarks, prefix):
                add(where, what)
            self._files(store, manifest, prefix, names, found)
            for where, what in self._wrong_by_lake(manifest, found.remarks):
                add(where, what)
            found.remarks += [f"{prefix}{MANIFEST}: does not add up: {said}" for said in manifest.breaks]
        except UNREADABLE as error:  # whatever else an altered manifest can say, it is named and not raised
            add(MANIFEST, f"altered: it cannot be held against its files ({type(error).__name__})")
        return manifest

    def _wrong_by_lake(self, manifest: Manifest, remarks: list[str]) -> Iterator[tuple[str, str]]:
        if self._lake is None:
            return
        try:
            yield from wrong_by_lake(manifest, *self._lake, remarks)
        except LakehouseError as error:
            yield MANIFEST, f"cannot be derived from the lake again: {error}"

    def _files(self, store: Store, manifest: Manifest, prefix: str, names: set[str], found: Verified) -> None:
        """Hold the files of an export against its manifest."""
        files, tally = manifest.files, Tally()
        wrong = [(name, "missing") for name in sorted(set(files) - names)]
        others = sorted(names - set(files) - {MANIFEST, SIGNATURE})
        wrong += [(name, "not in the manifest: it was put there later") for name in others]
        for number, name in enumerate(sorted(set(files) & names), start=1):
            wrong += [(name, what) for what in wrong_in_file(store, files[name], tally)]
            found.files += 1
            found.rows += (files[name].rows or 0) if files[name].root is not None else 0
            self._report(number, len(files), f"{prefix}{name}")
        wrong += [(MANIFEST, what) for what in wrong_sums(manifest, None if wrong else tally)]
        found.findings += [Finding(f"{prefix}{name}", what) for name, what in wrong]

    def _wrong_signature(
        self, store: Store, manifest: Manifest, remarks: list[str], prefix: str
    ) -> Iterator[tuple[str, str]]:
        try:
            signature = store.read(SIGNATURE)
        except FileNotFoundError:
            yield SIGNATURE, "missing"
            return
        keys = self._keys
        if not keys:
            remarks.append(
                f"{prefix}{PUBLIC_KEY}: the signature was held against the key that lies beside it, which "
                "whoever alters an export can replace; give the signer's own with --public-key"
            )
            try:
                keys = [public_key_of(store.read(PUBLIC_KEY), f"{prefix}{PUBLIC_KEY}")]
            except (FileNotFoundError, ExportError) as error:
                yield PUBLIC_KEY, f"no key to verify by: {error}"
                return
        if not _is_signed_by_any(keys, manifest, signature):
            yield SIGNATURE, f"wrong: {MANIFEST} or its signature was altered, or another key signed"


def _is_signed_by_any(keys: Sequence[Ed25519PublicKey], manifest: Manifest, signature: bytes) -> bool:
    return any(is_signed(key, statement_of(manifest.data), signature) for key in keys)
