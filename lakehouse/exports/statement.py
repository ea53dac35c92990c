"""What a manifest says of an export: request, pins, files, sums, and the program that wrote it.

Belongs here: putting that together. Does not: the manifest's form (`manifest.py`), the files (`derive.py`).
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow

import lakehouse
from lakehouse.definitions import PAYMENTS, QUARANTINE
from lakehouse.exports.derive import Derivation
from lakehouse.exports.journal import Part
from lakehouse.exports.manifest import FORMAT, FileEntry, Tally, reconciled, root_over, rows_of
from lakehouse.exports.pins import Pins, tag_of
from lakehouse.exports.request import Request

_DISTRIBUTION = "paywave-lakehouse"


@dataclass(frozen=True)
class Statement:
    """All that a manifest says, but for its place in the chain."""

    about: Mapping[str, Any]
    request: Request
    pins: Pins
    derivation: Derivation
    parts: list[Part]
    bundle: list[FileEntry]

    @property
    def files(self) -> list[FileEntry]:
        """All files of the export, in order."""
        return sorted([*self.bundle, *(f for p in self.parts for f in p.files)], key=lambda f: f.path)

    def manifest(self, sequence: int, previous: str | None) -> dict[str, Any]:
        """Say it all, at a place in the chain."""
        files = self.files
        rows = rows_of(files)
        tally = Tally()
        for part in self.parts:
            tally.add(part.tally)
        return {
            "format": FORMAT,
            "export": {"id": self.about["id"], "name": self.about["name"]},
            "request": self.request.as_json(),
            "created": self.about["created"],
            "pinned": self._pinned(rows),
            "contract_version": self.derivation.contract_version(),
            "schemas": self.derivation.schemas(),
            "files": [f.as_json() for f in files],
            "rows": rows,
            "money": tally.money(),
            "reconciliation": {"exported": reconciled(tally.counts), "lake": self.derivation.lake()},
            "root": root_over(files),
            "tool": tool(),
            "sequence": sequence,
            "previous": previous,
        }

    def _pinned(self, rows: Mapping[str, int]) -> dict[str, Any]:
        tag = tag_of(self.about["id"])
        remarks = [*self.pins.remarks, *_remarks(self.request)]
        gone = self.derivation.retired_before()
        if gone is not None and (self.request.start is None or self.request.start < gone):
            remarks.append(
                f"payments and versions of events before {gone.isoformat()} went by retention: none is here"
            )
        if not rows.get(PAYMENTS) and not rows.get(QUARANTINE):
            remarks.append(
                f"nothing was found of {self.request.scope} in this range; names are compared as they stand"
            )
        return {
            "tables": {name: {"snapshot": str(id_), "tag": tag} for name, id_ in self.pins.snapshots.items()},
            "offsets": self.pins.offsets.topics,
            "remarks": remarks,
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
