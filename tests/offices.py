"""A desk: a folder of exports, and the key that signs them. An office has a small lake of its own.

Belongs here: making and verifying exports, and being killed at it. Does not: what must hold.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lakehouse.exports.export import Done, Exporter
from lakehouse.exports.parts import tables_of
from lakehouse.exports.request import Request, parse_scope
from lakehouse.exports.signing import made_signer, pem_of
from lakehouse.exports.store import FolderStore
from lakehouse.exports.verification import Verified, Verifier
from tests.small_lake import SmallLake
from tests.streams import dirty

LINES = list(dirty(240, 9, timedelta(hours=3)).lines())


class Desk:
    """A folder of exports of a catalog's tables, and the key that signs them."""

    def __init__(self, catalog: Any, folder: Path) -> None:
        self.catalog, self.folder = catalog, folder
        self.signer = made_signer(folder / "key.pem")

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.folder / "exports")

    def exporter(self, report: Callable[..., None] = lambda *_: None) -> Exporter:
        return Exporter(self.catalog, self.store, self.folder, self.signer, 256, report)

    def export(self, scope: str = "all", name: str | None = None, **options: Any) -> Done:
        return self.exporter().run(request(scope, **options), name)

    def verify(self, name: str = "", **options: Any) -> Verified:
        store = self.store.under(name) if name else self.store
        return Verifier(store, [self.signer.public_key], **options).run()

    def against_lake(self) -> list[str]:
        """What is found when every file is derived again."""
        return found(self.verify(lake=(self.catalog, 256)))

    def key_file(self) -> Path:
        path = self.folder / "public.pem"
        path.write_bytes(pem_of(self.signer.public_key))
        return path

    def independent(self, done: Done) -> subprocess.CompletedProcess[str]:
        """Run the verifier that lies in an export, with nothing of ours on its path."""
        return subprocess.run(
            [sys.executable, "-I", str(Path(done.place) / "verify.py"), done.place, str(self.key_file())],
            cwd="/", env={}, capture_output=True, text=True, check=False,
        )  # fmt: skip


class Office(Desk):
    """A desk whose lake is a small one."""

    def __init__(self, lake: SmallLake, folder: Path) -> None:
        super().__init__(lake.catalog, folder)
        self.lake = lake

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
    return Office(_filled(tuple(lines)).copied_to(folder / "lake"), folder)


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
