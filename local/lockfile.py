"""The lock of jars: which files, with which sha256. Belongs here: its text form. Does not: fetching them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.errors import JarError

LOCK = Path(__file__).with_name("jars.lock")
_HEADER = (
    "# Written by `python -m local.jars lock` from jars.toml: group:name:version[:classifier][@ext] sha256\n"
)


@dataclass(frozen=True, order=True)
class Coordinate:
    """What names a jar in a Maven repository, or another file than a jar (`ext`)."""

    group: str
    name: str
    version: str
    classifier: str = ""
    ext: str = "jar"

    @classmethod
    def parse(cls, text: str) -> Coordinate:
        """Read group:name:version[:classifier][@ext]; raises JarError."""
        named, at, ext = text.partition("@")
        parts = named.split(":")
        if len(parts) not in (3, 4) or not all(parts) or bool(at) != bool(ext):
            raise JarError(f"not a coordinate (group:name:version[:classifier][@ext]): {text!r}")
        group, name, version, *classifier = parts
        return cls(group, name, version, "".join(classifier), ext or "jar")

    def __str__(self) -> str:
        named = ":".join(filter(None, (self.group, self.name, self.version, self.classifier)))
        return named if self.ext == "jar" else f"{named}@{self.ext}"


@dataclass(frozen=True, order=True)
class Jar:
    """A locked jar."""

    coordinate: Coordinate
    sha256: str = field(compare=False)

    @property
    def file_name(self) -> str:
        """The name in the cache, unique per coordinate."""
        named = str(self.coordinate).partition("@")[0]
        return f"{named.replace(':', '-')}.{self.coordinate.ext}"


def parse_lock(text: str) -> dict[str, tuple[Jar, ...]]:
    """Read a lock: a `[set]` line, then one jar per line. Raises JarError with the line's number."""
    sets: dict[str, list[Jar]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) == 1 and line.startswith("[") and line.endswith("]"):
            sets[line[1:-1]] = []
        elif len(words) == 2 and sets and len(words[1]) == 64:
            list(sets.values())[-1].append(Jar(Coordinate.parse(words[0]), words[1]))
        else:
            raise JarError(f"line {number} of the jar lock is not understood: {line!r}", hint="`make lock`")
    return {kind: tuple(jars) for kind, jars in sets.items()}


def render_lock(sets: Mapping[str, Iterable[Jar]]) -> str:
    """Write a lock; the same sets always give the same text."""
    blocks = [
        f"\n[{kind}]\n" + "".join(f"{jar.coordinate} {jar.sha256}\n" for jar in sorted(jars))
        for kind, jars in sorted(sets.items())
    ]
    return _HEADER + "".join(blocks)


def sha256_of(path: Path) -> str:
    """The file's sha256, in lowercase hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
