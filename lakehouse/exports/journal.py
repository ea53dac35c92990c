"""The journal of an export under way: what it is, and each part that is done, one line each.

Belongs here: that file and the lock beside it. Does not: what a part is (`export.py`).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lakehouse.errors import ExportError
from lakehouse.exports.manifest import FileEntry, Tally

_FIRST = "export"


@dataclass(frozen=True)
class Part:
    """One step that is done: the files it wrote, and the sums over their rows."""

    name: str
    files: tuple[FileEntry, ...]
    tally: Tally

    def as_json(self) -> dict[str, Any]:
        """Render as a line of the journal."""
        return {"part": self.name, "files": [f.as_json() for f in self.files], "tally": self.tally.as_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Part:
        """Read what `as_json` wrote."""
        files = tuple(FileEntry.from_json(f) for f in value["files"])
        return cls(value["part"], files, Tally.from_json(value["tally"]))


class Journal:
    """A file that only grows; a line that a crash cut off counts for nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.about: dict[str, Any] | None = None
        self.parts: dict[str, Part] = {}
        if path.exists():
            os.truncate(path, sum(len(line) for line in _whole_lines(path)))
            for line in _whole_lines(path):
                self._take(json.loads(line))

    @staticmethod
    def look(path: Path) -> dict[str, Any] | None:
        """Tell what the export is, and leave the file to whoever writes it; None: that is not noted yet."""
        told = [json.loads(line) for line in _whole_lines(path)]
        return next((dict(value[_FIRST]) for value in reversed(told) if _FIRST in value), None)

    def begin(self, about: Mapping[str, Any]) -> None:
        """Note what the export is."""
        self._add({_FIRST: dict(about)})

    def done(self, part: Part) -> None:
        """Note a part whose files are on disk."""
        self._add(part.as_json())

    def _add(self, value: dict[str, Any]) -> None:
        with self._path.open("ab") as file:
            file.write(json.dumps(value, separators=(",", ":")).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._take(value)

    def _take(self, value: Mapping[str, Any]) -> None:
        if _FIRST in value:
            self.about = dict(value[_FIRST])
        else:
            part = Part.from_json(value)
            self.parts[part.name] = part


def _whole_lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only process that works in a folder; the lock ends with the process. Raises `ExportError`."""
    lock = _lock(folder)
    while lock is None:
        lock = _lock(folder)
    with lock:
        yield


def _lock(folder: Path) -> IO[str] | None:
    """Lock a folder; None where it was removed meanwhile: a lock on a file that is gone keeps nobody out."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as undo:
        try:
            lock = undo.enter_context((folder / "lock").open("a+"))
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.path.samestat(os.fstat(lock.fileno()), (folder / "lock").stat())
        except FileNotFoundError:
            return None
        except BlockingIOError:
            raise ExportError(
                f"another process is writing this export ({folder})", "wait for it, or choose another --name"
            ) from None
        if is_there:
            undo.pop_all()
            return lock
    return None
