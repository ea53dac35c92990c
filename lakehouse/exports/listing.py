"""Listing exports: those of the chain, whether they are there, and those that were begun and not finished.

Belongs here: that list. Does not: verifying any of them (`verification.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lakehouse.errors import ExportError
from lakehouse.exports.chain import FOLDER, link_of, links_in
from lakehouse.exports.journal import Journal
from lakehouse.exports.manifest import MANIFEST, Manifest
from lakehouse.exports.store import UNDER_WAY, FolderStore, S3Store, destination_of

DONE, MISSING, BEGUN, UNREADABLE = "done", "missing", "begun", "unreadable"


@dataclass(frozen=True)
class Listed:
    """One export in few words; `state` is done, missing or begun, `request` as its manifest says it.

    Where the chain's copy of a manifest is none, it is unreadable: it has that copy's name, and no request.
    """

    name: str
    state: str
    sequence: int | None
    request: Mapping[str, Any]
    created: str
    rows: int = 0
    bytes: int = 0
    id: str = ""

    @property
    def made_at(self) -> datetime | None:
        """When it was made; None where its manifest does not say."""
        try:
            at = datetime.fromisoformat(self.created)
        except ValueError:
            return None
        return at if at.tzinfo is not None else None

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return asdict(self)


def listed_in(store: FolderStore | S3Store, work: Path | None = None) -> list[Listed]:
    """List the exports of a store, in the order of the chain, then those under way there.

    Args:
        work: where exports are made that go to S3; they are not listed unless given.
    """
    names = store.names()
    numbers = links_in({n.removeprefix(f"{FOLDER}/") for n in names if n.startswith(f"{FOLDER}/")})
    return [
        *(_linked(store, number, names) for number in numbers),
        *_begun(store, store.root if isinstance(store, FolderStore) else work),
    ]


def _linked(store: FolderStore | S3Store, number: int, names: set[str]) -> Listed:
    link = link_of(number)
    try:
        manifest = Manifest.read(store.read(link))
    except ExportError:
        return Listed(link, UNREADABLE, number, {}, "")
    state = DONE if f"{manifest.name}/{MANIFEST}" in names else MISSING
    value, sizes = manifest.value, sum(f.bytes for f in manifest.files.values())
    rows = sum(value["rows"].values())
    return Listed(
        manifest.name, state, manifest.sequence, value["request"], value["created"], rows, sizes, manifest.id
    )


def _begun(store: FolderStore | S3Store, work: Path | None) -> Iterator[Listed]:
    for path in sorted(work.glob(f"{UNDER_WAY}*/journal.jsonl")) if work is not None else ():
        about = Journal.look(path)
        if about is not None and about.get("destination") == destination_of(store):
            yield Listed(about["name"], BEGUN, None, about["request"], about["created"], id=about["id"])
