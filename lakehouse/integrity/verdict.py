"""What is wrong with a file, by what was recorded of it and what is found. Pure.

Belongs here: that judgement. Does not: looking at files (`look.py`), which ones there are (`inventory.py`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

MISSING, TRUNCATED, GROWN, ALTERED = "missing", "truncated", "grown", "altered"
UNREADABLE = "unreadable"


class Wanted(NamedTuple):
    """A file that a snapshot of raw needs.

    Args:
        kind: data, manifest or manifest-list.
        bytes: its size as the metadata above it says; None where none says it (of manifest lists).
        rows: rows in it; None for metadata.
        snapshot_id: the snapshot that added it.
    """

    path: str
    kind: str
    bytes: int | None
    rows: int | None
    snapshot_id: int


class Seen(NamedTuple):
    """A file as it was found: size, and sha256 (hex) where it was read.

    `gone`: there is none; `error`: it could not be looked at, and why.
    """

    bytes: int = 0
    sha256: str | None = None
    gone: bool = False
    error: str | None = None


@dataclass(frozen=True)
class Finding:
    """A file that is not as it should be."""

    path: str
    kind: str
    problem: str
    said: str

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return asdict(self)


def judge(file: Wanted, seen: Seen, recorded: Seen | None = None) -> Finding | None:
    """Hold a file to what the metadata says of it and to what was recorded of it. None: it is right."""
    if seen.error is not None:
        return Finding(file.path, file.kind, UNREADABLE, seen.error)
    if seen.gone:
        return Finding(file.path, file.kind, MISSING, "there is no such file")
    was = None if recorded is None else recorded.bytes
    for who, size in (("recorded", was), ("by the metadata", file.bytes)):
        if size is not None and seen.bytes != size:
            problem = TRUNCATED if seen.bytes < size else GROWN
            return Finding(file.path, file.kind, problem, f"{seen.bytes:,} bytes, {who} {size:,}")
    if recorded is not None and seen.sha256 is not None and seen.sha256 != recorded.sha256:
        said = f"sha256 {seen.sha256}, recorded {recorded.sha256}"
        return Finding(file.path, file.kind, ALTERED, said)
    return None
