"""Files that are there whole or as they were, whenever a process or the machine stops.

Belongs here: creating and replacing one. Does not: what is in it.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def replace_file(path: Path, text: str) -> None:
    """Replace a file, all or nothing, even if the machine stops."""
    _drafted(path, text).replace(path)
    _sync(path.parent)


def create_file(path: Path, text: str) -> None:
    """Create a file, all or nothing. Raises `FileExistsError`: of two that do so at once, one succeeds."""
    draft = _drafted(path, text)
    try:
        path.hardlink_to(draft)
    finally:
        draft.unlink()
    _sync(path.parent)


def _drafted(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
