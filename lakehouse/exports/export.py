"""Making an export: pin, derive part by part, sign, chain, put in place; killed, it goes on where it was.

Belongs here: that order, and what makes it safe to run again. Does not: what the files are (`derive.py`).
"""

from __future__ import annotations

import hashlib
import platform
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow
from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog

import lakehouse
from lakehouse.errors import ExportError, UnknownMoment
from lakehouse.exports import verifier
from lakehouse.exports.chain import FOLDER, claim, links_in
from lakehouse.exports.derive import Derivation, Estimate
from lakehouse.exports.journal import Journal, Part, locked
from lakehouse.exports.manifest import (
    FORMAT,
    MANIFEST,
    PUBLIC_KEY,
    SIGNATURE,
    VERIFIER,
    FileEntry,
    Manifest,
    Tally,
    reconciled,
    root_over,
    rows_of,
    statement_of,
)
from lakehouse.exports.parts import entry_of
from lakehouse.exports.pins import EXPORTED, Pins, choose, pin, tag_of
from lakehouse.exports.request import Request, check_name, time_text
from lakehouse.exports.signing import Signer, pem_of
from lakehouse.exports.store import FolderStore, S3Store, remove_folder
from lakehouse.whole_file import replace_file, sync_folder

Report = Callable[[float, float, str], None]
"""Told rows done, rows in all (at most) and what was just done."""

_DISTRIBUTION = "paywave-lakehouse"
_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True)
class Done:
    """A finished export. `was_there`: it had been finished before; `went_on`: an earlier run began it."""

    place: str
    manifest: Manifest
    was_there: bool = False
    went_on: bool = False

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        value = self.manifest.value
        return {
            "place": self.place,
            "name": self.manifest.name,
            "id": self.manifest.id,
            "sequence": self.manifest.sequence,
            "manifest_sha256": self.manifest.sha256,
            "root": self.manifest.root,
            "rows": value["rows"],
            "bytes": sum(f.bytes for f in self.manifest.files.values()),
            "files": len(value["files"]),
            "money": value["money"],
            "reconciliation": value["reconciliation"],
            "remarks": value["pinned"]["remarks"],
            "was_there": self.was_there,
            "went_on": self.went_on,
        }


class Exporter:
    """Makes exports of one lake in one store.

    Args:
        work: folder of exports under way where the store is no folder itself.
        memory_mb: what joining and sorting may use before they spill to disk.
    """

    def __init__(
        self,
        catalog: RestCatalog,
        store: FolderStore | S3Store,
        work: Path,
        signer: Signer,
        memory_mb: int = 512,
        report: Report = lambda _done, _total, _note: None,
    ) -> None:
        self._catalog, self._store, self._signer = catalog, store, signer
        self._work = store.root if isinstance(store, FolderStore) else work
        self._memory_mb, self._report = memory_mb, report

    def run(self, request: Request, name: str | None = None) -> Done:
        """Make an export, or go on with the one of this name that was begun; a finished one is left as it is.

        Without a name it goes by the request: what the same request began goes on, what it finished stays
        beside the new one. Raises `ExportError`, `WrongScope`, `UnknownMoment`.
        """
        with _tracer.start_as_current_span("export", attributes={"scope": request.scope.kind}):
            if name is not None:
                found = self._finished(check_name(name))
                if found is not None:
                    _check_same(name, request.as_json(), found.value["request"])
                    remove_folder(self._work_of(name))
                    return Done(str(self._store.under(name)), found, was_there=True)
            else:
                name = self._free_name(request.default_name)
            with locked(self._work_of(name)):
                return self._run(request, name, self._work_of(name))

    def _run(self, request: Request, name: str, work: Path) -> Done:
        journal = Journal(work / "journal.jsonl")
        went_on = journal.about is not None
        about = journal.about or self._begun(request, name)
        _check_same(name, request.as_json(), about["request"])
        if "pins" not in about:
            journal.begin(about)  # first, so that a tag never lacks an export to go on with
            try:
                pins = pin(self._catalog, request.as_of, request.tag, about["id"])
            except UnknownMoment:
                remove_folder(work)
                raise
            about["pins"] = pins.as_json()
            journal.begin(about)
        pins = Pins.from_json(about["pins"])
        derivation = Derivation(self._catalog, pins, request, work, self._memory_mb, request.csv)
        parts = self._parts(journal, derivation)
        bundle = [self._settled(derivation.files, entry) for entry in self._bundle(derivation.files)]
        make = _Maker(about, request, pins, derivation, parts, bundle)
        manifest, signature = claim(
            self._store,
            make.manifest,
            lambda data: self._signer.sign(statement_of(data)),
            about["id"],
            about["after"],
        )
        self._put_in_place(name, derivation.files, manifest, signature)
        remove_folder(work)
        return Done(str(self._store.under(name)), manifest, went_on=went_on)

    def _begun(self, request: Request, name: str) -> dict[str, Any]:
        links = links_in(self._store.under(FOLDER).names())
        return {
            "id": uuid.uuid4().hex[:16],
            "name": name,
            "request": request.as_json(),
            "created": time_text(datetime.now(UTC)),
            "after": max(links, default=0),
        }

    def _parts(self, journal: Journal, derivation: Derivation) -> list[Part]:
        """Do the parts that are missing, or whose files are; return all."""
        done = {name: part for name, part in journal.parts.items() if self._has(derivation.files, part)}
        total = float(sum(derivation.estimate().rows.values()))
        rows = sum(_rows(part) for part in done.values())
        for part in derivation.parts(done):
            for entry in part.files:
                self._settled(derivation.files, entry)
            journal.done(part)
            done[part.name] = part
            rows += _rows(part)
            self._report(rows, max(total, rows), part.name)
        return [done[name] for name in sorted(done)]

    def _has(self, files: Path, part: Part) -> bool:
        if isinstance(self._store, S3Store):
            return True  # it was uploaded before it was noted
        sizes = ((files / entry.path, entry.bytes) for entry in part.files)
        return all(path.exists() and path.stat().st_size == size for path, size in sizes)

    def _settled(self, files: Path, entry: FileEntry) -> FileEntry:
        """Bring a file that is done to a store that is elsewhere."""
        if isinstance(self._store, S3Store):
            name = self._name_of(files)
            self._store.under(name).upload(entry.path, files / entry.path)
            (files / entry.path).unlink()
        return entry

    def _bundle(self, files: Path) -> list[FileEntry]:
        """Put the independent verifier and the public key beside the rows."""
        replace_file(files / VERIFIER, Path(verifier.__file__).read_bytes())
        replace_file(files / PUBLIC_KEY, pem_of(self._signer.public_key))
        return [entry_of(files, files / name) for name in (VERIFIER, PUBLIC_KEY)]

    def _put_in_place(self, name: str, files: Path, manifest: Manifest, signature: bytes) -> None:
        """Let the export appear: the manifest is the last that comes, and says that it is whole."""
        if isinstance(self._store, S3Store):
            self._store.under(name).put(SIGNATURE, signature)
            self._store.under(name).put(MANIFEST, manifest.data)
            return
        replace_file(files / SIGNATURE, signature)
        replace_file(files / MANIFEST, manifest.data)
        listed = set(manifest.files) | {MANIFEST, SIGNATURE}
        for path in [path for path in files.rglob("*") if path.is_file()]:
            if path.relative_to(files).as_posix() not in listed:  # of a part that was killed midway
                path.unlink()
        files.rename(self._store.root / name)
        sync_folder(self._store.root)

    def _finished(self, name: str) -> Manifest | None:
        try:
            return Manifest.read(self._store.under(name).read(MANIFEST))
        except FileNotFoundError:
            return None

    def _free_name(self, wanted: str) -> str:
        name, number = wanted, 1
        while self._finished(name) is not None:
            number += 1
            name = f"{wanted}-{number}"
        return name

    def _work_of(self, name: str) -> Path:
        return self._work / f".partial-{name}"

    def _name_of(self, files: Path) -> str:
        return files.parent.name.removeprefix(".partial-")


def look(catalog: RestCatalog, request: Request) -> tuple[Pins, Estimate]:
    """Tell what an export would read and come to at most, by metadata. Pins and writes nothing."""
    tables = {name: catalog.load_table(name) for name in EXPORTED}
    pins = choose(catalog, tables, request.as_of, request.tag)
    return pins, Derivation(catalog, pins, request, Path(), 0, request.csv).estimate()


@dataclass(frozen=True)
class _Maker:
    """All that a manifest says, but for its place in the chain."""

    about: Mapping[str, Any]
    request: Request
    pins: Pins
    derivation: Derivation
    parts: list[Part]
    bundle: list[FileEntry]

    def manifest(self, sequence: int, previous: str | None) -> dict[str, Any]:
        """Say it all, at a place in the chain."""
        files = sorted([*self.bundle, *(f for p in self.parts for f in p.files)], key=lambda f: f.path)
        tally = Tally()
        for part in self.parts:
            tally.add(part.tally)
        return {
            "format": FORMAT,
            "export": {"id": self.about["id"], "name": self.about["name"]},
            "request": self.request.as_json(),
            "created": self.about["created"],
            "pinned": self._pinned(),
            "contract_version": self.derivation.contract_version(),
            "schemas": self.derivation.schemas(),
            "files": [f.as_json() for f in files],
            "rows": rows_of(files),
            "money": tally.money(),
            "reconciliation": {"exported": reconciled(tally.counts), "lake": self.derivation.lake()},
            "root": root_over(files),
            "tool": tool(),
            "sequence": sequence,
            "previous": previous,
        }

    def _pinned(self) -> dict[str, Any]:
        tag = tag_of(self.about["id"])
        return {
            "tables": {name: {"snapshot": str(id_), "tag": tag} for name, id_ in self.pins.snapshots.items()},
            "offsets": self.pins.offsets.topics,
            "remarks": [*self.pins.remarks, *_remarks(self.request)],
        }


def tool() -> dict[str, str]:
    """Say which program wrote it: versions, and the digest of the lock or else of what is installed."""
    lock = Path(lakehouse.__file__).parent.parent / "requirements.lock"
    if lock.exists():
        locked_to = {
            "lock": "requirements.lock",
            "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest(),
        }
    else:
        installed = sorted(f"{d.name}=={d.version}" for d in metadata.distributions())
        digest = hashlib.sha256("\n".join(installed).encode()).hexdigest()
        locked_to = {"lock": "installed distributions", "lock_sha256": digest}
    return {
        "version": metadata.version(_DISTRIBUTION),
        "python": platform.python_version(),
        "pyarrow": pyarrow.__version__,
        **locked_to,
    }


def _remarks(request: Request) -> list[str]:
    said = [
        "of each version the earliest copy's record is here; redelivered copies are counted, not exported"
    ]
    if not request.scope.tells_quarantine:
        said.append("of quarantined records no account, transaction or merchant is known: none is here")
    elif request.start is not None or request.end is not None:
        said.append("quarantined records are chosen by Kafka time, as an event time that broke is none")
    return said


def _rows(part: Part) -> int:
    return sum(f.rows or 0 for f in part.files if f.kind == "rows")


def _check_same(name: str, asked: Mapping[str, Any], begun: Mapping[str, Any]) -> None:
    differing = [key for key, value in asked.items() if begun.get(key) != value]
    if differing:
        raise ExportError(
            f"there is an export {name} of another request: {', '.join(differing)} differ",
            "choose another --name, or repeat the request as it was",
        )
