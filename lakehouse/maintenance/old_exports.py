"""Audit exports in their folder, with the date that each manifest says: for the retention plan.

Belongs here: listing them. Does not: making or verifying exports, and which are old (`retention_plan.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from pyarrow.fs import FileSelector, FileSystem, FileType
from pyiceberg.io.pyarrow import PyArrowFileIO

from lakehouse.retention_plan import Export

MANIFEST = "manifest.json"


def exports_in(location: str, properties: Mapping[str, str]) -> list[Export]:
    """List the exports below a folder or `s3://bucket/prefix`, by the manifest in each.

    Args:
        properties: pyiceberg's properties, for the store's address and keys.
    """
    scheme, netloc, path = PyArrowFileIO.parse_location(location)
    store = PyArrowFileIO(dict(properties)).fs_by_scheme(scheme, netloc)
    return list(_found(store, path))


def _found(store: FileSystem, folder: str) -> Iterator[Export]:
    for info in store.get_file_info(FileSelector(folder, allow_not_found=True)):
        if info.type != FileType.Directory:
            continue
        manifest = f"{info.path}/{MANIFEST}"
        if store.get_file_info(manifest).type == FileType.File:
            with store.open_input_file(manifest) as stream:
                yield Export(PurePosixPath(info.path).name, _made_at(stream.read()))


def _made_at(manifest: bytes) -> datetime | None:
    """Read when an export was made; one that does not say so is never old enough."""
    try:
        value: Any = json.loads(manifest)
        made_at = datetime.fromisoformat(value["created"])
    except (ValueError, KeyError, TypeError):
        return None
    return made_at if made_at.tzinfo is not None else None
