"""Making an export: pin, derive part by part, sign, chain, put in place; killed, it goes on where it was.

Belongs here: that order, and what makes it safe to run again. Does not: what the files are (`derive.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Any

from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog

from lakehouse.errors import ExportError, NameTaken, SigningFailed, UnknownMoment
from lakehouse.exports import verifier
from lakehouse.exports.chain import FOLDER, claim, claimed_by, links_in
from lakehouse.exports.derive import Derivation, Estimate
from lakehouse.exports.journal import Journal, Part, locked
from lakehouse.exports.manifest import (
    MANIFEST,
    PUBLIC_KEY,
    SIGNATURE,
    VERIFIER,
    FileEntry,
    Manifest,
    statement_of,
)
from lakehouse.exports.pins import EXPORTED, Pins, choose, pin, release
from lakehouse.exports.request import Request, check_name, time_text
from lakehouse.exports.signing import Signer, pem_of
from lakehouse.exports.statement import Statement
from lakehouse.exports.store import (
    RESERVED,
    UNDER_WAY,
    FolderStore,
    S3Store,
    destination_of,
    remove_folder,
)
from lakehouse.whole_file import replace_file, sync_folder
from quality.cards import holds_card_number

Report = Callable[[float, float, str], None]
"""Told rows looked at, rows to look at in all and what was just done."""

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

    def run(self, request: Request, name: str | None = None, *, or_next: bool = False) -> Done:
        """Make an export, or go on with the one of this name that was begun; a finished one is left as it is.

        Without a name it goes by the request: what the same request began goes on, what it finished stays
        beside the new one. Raises `ExportError`, `WrongScope`, `UnknownMoment`.

        Args:
            or_next: take the name with the next number where one is taken by what cannot be gone on with, as
                one that was begun on a machine that is gone.
        """
        request.check_new(datetime.now(UTC), name)
        with _tracer.start_as_current_span("export", attributes={"scope": request.scope.kind}):
            if name is not None and not or_next:
                return self._named(request, check_name(name))
            for named in _numbered(check_name(name or request.default_name)):
                if name is not None or self._finished(named) is None:
                    with suppress(NameTaken):
                        return self._named(request, named, is_new=name is None)
        raise AssertionError("there is no last number")

    def _named(self, request: Request, name: str, *, is_new: bool = False) -> Done:
        work = self._work_of(name)
        with locked(work):
            found = self._finished(name)  # asked in here: who had the lock before may have finished it
            if found is None:
                return self._run(request, name, work)
            remove_folder(work)
        if is_new:
            raise NameTaken(f"there is an export {name} already")
        _check_same(name, request.as_json(), found.value["request"])
        return Done(str(self._store.under(name)), found, was_there=True)

    def _run(self, request: Request, name: str, work: Path) -> Done:
        journal = Journal(work / "journal.jsonl")
        went_on = journal.about is not None
        about = journal.about or self._begun(request, name)
        begun = {**about["request"], "destination": about.get("destination")}
        _check_same(name, {**request.as_json(), "destination": destination_of(self._store)}, begun)
        if not went_on:
            journal.begin(about)  # first, so that a tag never lacks an export to go on with
        pins, derivation = self._derivation(journal, request, work)
        self._reserve(name, about["id"])
        pem_of(self._signer.public_key)  # a key that is not there is said before hours of work
        parts = self._parts(journal, derivation, name)
        claimed = claimed_by(self._store, about["id"], about["after"])
        bundle = self._bundle(derivation.files, name, claimed)
        say = Statement(about, request, pins, derivation, parts, bundle)
        if claimed is not None:
            _check_made_again(name, claimed, say.files, work)
        self._reserve(name, about["id"])
        manifest, signature = claim(self._store, say.manifest, self._sign, about["id"], about["after"])
        self._put_in_place(name, derivation.files, manifest, signature)
        remove_folder(work)
        return Done(str(self._store.under(name)), manifest, went_on=went_on)

    def _begun(self, request: Request, name: str) -> dict[str, Any]:
        links = links_in(self._store.under(FOLDER).names())
        return {
            "id": _new_id(),
            "name": name,
            "request": request.as_json(),
            "destination": destination_of(self._store),
            "created": time_text(datetime.now(UTC)),
            "after": max(links, default=0),
        }

    def _derivation(self, journal: Journal, request: Request, work: Path) -> tuple[Pins, Derivation]:
        """Read the pinned snapshots; pin where that was not done, or expiry was faster than the tag."""
        about = dict(journal.about or {})
        is_pinned = "pins" in about
        pins = Pins.from_json(about["pins"]) if is_pinned else self._pinned(journal, request, work)
        try:
            return pins, Derivation(self._catalog, pins, request, work, self._memory_mb, request.csv)
        except UnknownMoment as error:
            if journal.parts:
                raise ExportError(
                    f"the export {about['name']} cannot go on: {error}",
                    f"give it up: remove {work}, and export under another --name",
                ) from error
            pins = self._pinned(journal, request, work)
            return pins, Derivation(self._catalog, pins, request, work, self._memory_mb, request.csv)

    def _pinned(self, journal: Journal, request: Request, work: Path) -> Pins:
        """Pin, and note it. Where there is nothing to pin, or the name is taken, nothing stays of it."""
        about = dict(journal.about or {})
        try:
            pins = pin(self._catalog, request.as_of, request.tag, about["id"])
            self._reserve(about["name"], about["id"])
        except (UnknownMoment, NameTaken):
            release(self._catalog, about["id"])
            remove_folder(work)
            raise
        journal.begin({**about, "pins": pins.as_json()})
        return pins

    def _reserve(self, name: str, export_id: str) -> None:
        """See that the name is this export's alone. Raises `NameTaken`.

        On S3 by a file that one of several machines creates: each has a lock in its own work folder only.
        """
        if isinstance(self._store, FolderStore):
            if self._store.under(name).root.exists():
                raise NameTaken(
                    f"{self._store.under(name)} is there already, and is no finished export",
                    "choose another --name, or see what it is and move it away",
                )
            return
        mark, ours = f"{RESERVED}{name}", export_id.encode()
        if not self._store.create(mark, ours) and _read(self._store, mark) != ours:
            raise NameTaken(
                f"another export {name} was begun in {self._store}",
                "choose another --name, or go on with it where it was begun",
            )

    def _parts(self, journal: Journal, derivation: Derivation, name: str) -> list[Part]:
        """Do the parts that are missing, or whose files are; return all."""
        done = {key: part for key, part in journal.parts.items() if self._has(derivation.files, name, part)}
        total = float(sum(derivation.estimate().rows.values()))
        try:
            for part, looked_at in derivation.parts(done):
                for entry in part.files:
                    self._settle(derivation.files, name, entry)
                journal.done(part)
                done[part.name] = part
                self._report(looked_at, total, part.name)
        except FileNotFoundError as error:
            raise ExportError(
                f"a file that {name} is made of is gone: {error}",
                "run it again; `paywave reconcile` tells whether the tables are whole",
            ) from error
        return [done[key] for key in sorted(done)]

    def _has(self, files: Path, name: str, part: Part) -> bool:
        return all(self._size(files, name, entry.path) == entry.bytes for entry in part.files)

    def _size(self, files: Path, name: str, path: str) -> int | None:
        if isinstance(self._store, S3Store):
            return self._store.under(name).size(path)
        return (files / path).stat().st_size if (files / path).exists() else None

    def _settle(self, files: Path, name: str, entry: FileEntry) -> None:
        """Bring a file that is done to a store that is elsewhere."""
        if isinstance(self._store, S3Store):
            self._store.under(name).upload(entry.path, files / entry.path)
            (files / entry.path).unlink()

    def _bundle(self, files: Path, name: str, claimed: Manifest | None) -> list[FileEntry]:
        """Put the independent verifier and the public key beside the rows.

        Those that a claimed manifest names are left: this may be another release, or have another key.
        """
        place = FolderStore(files) if isinstance(self._store, FolderStore) else self._store.under(name)
        wanted = {VERIFIER: Path(verifier.__file__).read_bytes(), PUBLIC_KEY: pem_of(self._signer.public_key)}
        for path, data in wanted.items():
            there, entry = _read(place, path), claimed.files.get(path) if claimed is not None else None
            if there is not None and entry is not None and sha256(there).hexdigest() == entry.sha256:
                wanted[path] = there
            else:
                place.put(path, data)
        return [FileEntry(path, len(data), sha256(data).hexdigest()) for path, data in wanted.items()]

    def _sign(self, manifest: Manifest) -> bytes:
        """Sign with the key that the manifest's own public key is of. Raises `SigningFailed` for another."""
        if sha256(pem_of(self._signer.public_key)).hexdigest() != manifest.files[PUBLIC_KEY].sha256:
            raise SigningFailed(
                f"the export {manifest.name} was claimed with another signing key than this one",
                "set audit.signing_key or audit.kms_key to the one that it was begun with",
            )
        return self._signer.sign(statement_of(manifest.data))

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
        for folder in [path for path in files.rglob("*") if path.is_dir()]:
            sync_folder(folder)
        files.rename(self._store.root / name)
        sync_folder(self._store.root)

    def _finished(self, name: str) -> Manifest | None:
        try:
            return Manifest.read(self._store.under(name).read(MANIFEST))
        except FileNotFoundError:
            return None

    def _work_of(self, name: str) -> Path:
        """Name the folder that an export is made in: what goes elsewhere has one for each destination."""
        elsewhere = destination_of(self._store)
        marked = f".{sha256(elsewhere.encode()).hexdigest()[:8]}" if elsewhere is not None else ""
        return self._work / f"{UNDER_WAY}{name}{marked}"


def look(catalog: RestCatalog, request: Request) -> tuple[Pins, Estimate]:
    """Tell what an export would read and come to at most, by metadata. Pins and writes nothing."""
    tables = {name: catalog.load_table(name) for name in EXPORTED}
    pins = choose(catalog, tables, request.as_of, request.tag)
    return pins, Derivation(catalog, pins, request, Path(), 0, request.csv).estimate()


def _new_id() -> str:
    """Return 16 hexadecimal digits that hold no card number by chance, or no request could name their tag."""
    drawn = (token_hex(8) for _ in count())
    return next(id_ for id_ in drawn if not holds_card_number(id_))


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in count(2):
        yield f"{name}-{number}"


def _read(store: FolderStore | S3Store, path: str) -> bytes | None:
    try:
        return store.read(path)
    except FileNotFoundError:
        return None


def _check_made_again(name: str, claimed: Manifest, files: list[FileEntry], work: Path) -> None:
    """Hold files that were made again against the manifest that was claimed, before any is put in place."""
    made = {entry.path: entry for entry in files}
    differing = sorted(p for p in {*made, *claimed.files} if made.get(p) != claimed.files.get(p))
    if differing:
        raise ExportError(
            f"the export {name} is number {claimed.sequence} of the chain, and {', '.join(differing[:5])} "
            "cannot be made again as its manifest says: another release or another key made it",
            f"run it by the release and the key that began it; or give it up: remove {work}, and "
            "`paywave audit verify` says for ever that this number is missing",
        )


def _check_same(name: str, asked: Mapping[str, Any], begun: Mapping[str, Any]) -> None:
    differing = [key for key, value in asked.items() if begun.get(key) != value]
    if differing:
        raise ExportError(
            f"there is an export {name} of another request: {', '.join(differing)} differ",
            "choose another --name, or repeat the request as it was",
        )
