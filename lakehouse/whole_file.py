"""Files that are there whole or as they were, whenever a process or the machine stops.

Belongs here: creating and replacing one. Does not: what is in it.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def replace_file(path: Path, text: str | bytes) -> None:
    """Replace a file, all or nothing, even if the machine stops."""
    _drafted(path, text).replace(path)
    sync_folder(path.parent)


def create_file(path: Path, text: str | bytes) -> None:
    """Create a file, all or nothing. Raises `FileExistsError`: of two that do so at once, one succeeds."""
    draft = _drafted(path, text)
    try:
        path.hardlink_to(draft)
    finally:
        draft.unlink()
    sync_folder(path.parent)


def _drafted(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with draft.open("wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())
        file.flush()
        os.fsync(file.fileno())
    return draft


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
