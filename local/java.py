"""Which Java runs the servers. Belongs here: finding it and its version. Does not: what is run with it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from local.errors import JavaMissing

OLDEST = 17
_HINT = (
    f"install a Java {OLDEST}+ runtime (Debian: apt install openjdk-{OLDEST}-jre-headless) or set JAVA_HOME"
)


@dataclass(frozen=True)
class Java:
    """A Java launcher and its feature version, such as 17."""

    path: Path
    version: int


def find_java() -> Java:
    """JAVA_HOME's Java, else the one on PATH. Raises JavaMissing if there is none or it is older than 17."""
    home = os.environ.get("JAVA_HOME")
    candidate = Path(home) / "bin" / "java" if home else None
    found = candidate if candidate and candidate.exists() else shutil.which("java")
    if not found:
        raise JavaMissing("there is no Java: looked at JAVA_HOME and PATH", hint=_HINT)
    java = Java(Path(found), _version(Path(found)))
    if java.version < OLDEST:
        raise JavaMissing(f"Java {java.version} at {java.path} is too old: {OLDEST} is needed", hint=_HINT)
    return java


def parse_version(text: str) -> int:
    """The feature version in what `java -version` prints; 0 when there is none. "1.8.0" is 8."""
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match.group(1)) if match else 0


def _version(path: Path) -> int:
    said = subprocess.run([str(path), "-version"], capture_output=True, text=True, check=False, timeout=60)
    return parse_version(said.stderr + said.stdout)
