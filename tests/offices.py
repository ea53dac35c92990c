"""An office: a small lake, a folder of exports, and the key that signs them.

Belongs here: making and verifying exports of that lake, and being killed at it. Does not: what must hold.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lakehouse.exports.export import Done, Exporter
from lakehouse.exports.parts import tables_of
from lakehouse.exports.request import Request, parse_scope
from lakehouse.exports.signing import LocalSigner, made_signer, pem_of
from lakehouse.exports.store import FolderStore
from lakehouse.exports.verification import Verified, Verifier
from tests.pipeline import dirty
from tests.small_lake import SmallLake

LINES = list(dirty(240, 9, timedelta(hours=3)).lines())


@dataclass
class Office:
    """A lake, a folder of exports, and the key that signs them."""

    lake: SmallLake
    folder: Path
    signer: LocalSigner

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.folder / "exports")

    def exporter(self, report: Callable[..., None] = lambda *_: None) -> Exporter:
        return Exporter(self.lake.catalog, self.store, self.folder, self.signer, 256, report)

    def export(self, scope: str = "all", name: str | None = None, **options: Any) -> Done:
        return self.exporter().run(request(scope, **options), name)

    def verify(self, name: str = "", **options: Any) -> Verified:
        store = self.store.under(name) if name else self.store
        return Verifier(store, [self.signer.public_key], **options).run()

    def key_file(self) -> Path:
        path = self.folder / "public.pem"
        path.write_bytes(pem_of(self.signer.public_key))
        return path

    def rows(self, done: Done, table: str) -> list[dict[str, Any]]:
        paths = (
            sorted((Path(done.place) / table).glob("*.parquet"))
            if (Path(done.place) / table).exists()
            else []
        )
        return [row for path in paths for part in tables_of(path) for row in part.to_pylist()]


def request(scope: str = "all", **options: Any) -> Request:
    return Request(parse_scope(scope), "case 4711", "auditor", **options)


def files_of(done: Done) -> dict[str, bytes]:
    """The files that follow from the rows."""
    names = [name for name, entry in done.manifest.files.items() if entry.kind != "other"]
    return {name: (Path(done.place) / name).read_bytes() for name in names}


def found(verified: Verified) -> list[str]:
    return [str(finding) for finding in verified.findings]


def office_in(folder: Path, lines: list[bytes]) -> Office:
    """An office whose lake holds these lines, in two publishes."""
    return Office(_filled(tuple(lines)).copied_to(folder / "lake"), folder, made_signer(folder / "key.pem"))


@cache
def _filled(lines: tuple[bytes, ...]) -> SmallLake:
    """Filled once in each process, for all offices that begin so."""
    folder = TemporaryDirectory(prefix="paywave-lake-")
    atexit.register(folder.cleanup)
    lake = SmallLake(Path(folder.name))
    half = len(lines) // 2
    lake.take(lines[:half], "bank")
    lake.take(lines[half:], "shop", datetime.now(UTC) + timedelta(hours=1))
    return lake


class Killed(BaseException):
    """Stands for a kill between two parts; the real one is in the tests on the stack."""
