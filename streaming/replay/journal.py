"""Where a replay stands, kept in a file, so that one that was killed goes on where it was.

Belongs here: reading and writing that file. Does not: what is in it (`verify.py`, `apply.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import lakehouse
import quality
import streaming
from lakehouse.whole_file import replace_file

# A replay that goes on with other code than it began with would compare two folds.
_CODE: tuple[ModuleType, ...] = (quality, lakehouse, streaming)


class Journal:
    """One replay's file. It is of no use to other code than that which wrote it, and is then left aside."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.json"
        self._code = code_digest()

    def load(self) -> dict[str, Any] | None:
        """Return what was saved last; None for nothing, for a file cut short, or one of other code."""
        try:
            saved: dict[str, Any] = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return saved if saved.pop("code", None) == self._code else None

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the file by this state, all or nothing."""
        replace_file(self._path, json.dumps({**state, "code": self._code}))

    def remove(self) -> None:
        """Forget: the replay is done."""
        self._path.unlink(missing_ok=True)


def code_digest() -> str:
    """Digest the source of everything that decides what a fold comes to."""
    digest = hashlib.sha256()
    for package in _CODE:
        for folder in package.__path__:
            for file in sorted(Path(folder).rglob("*.py")):
                digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
