"""Naming the first rows of an altered file that are not those that its leaves tell, in a process of its own.

Belongs here: that, and its limits. Does not: which files were altered (`file_checks.py`).

Who altered a Parquet file chooses what its reader makes of it: one byte may ask for a hundred GB, or end the
process. So it is read where that does no harm: with memory and time that are bounded.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from lakehouse.exports.canonical_rows import encoded
from lakehouse.exports.merkle import HASH_BYTES, leaf_hash
from lakehouse.exports.parts import plain_rows, tables_of

_MEMORY_BYTES = 4 << 30
_SECONDS = 600.0
_ROWS_NAMED = 5


def rows_altered(path: Path, leaves: bytes, key: Sequence[str]) -> str | None:
    """Say which rows of a file are not as its leaves (32 bytes a row) tell; None where it cannot be read.

    Args:
        key: columns that say which row is meant.
    """
    command = [sys.executable, "-m", __name__, str(path), *key]
    try:
        done = subprocess.run(command, input=leaves, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.decode() if done.returncode == 0 else None


def _main(path: Path, key: Sequence[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    leaves = sys.stdin.buffer.read()
    known = (leaves[i : i + HASH_BYTES] for i in range(0, len(leaves), HASH_BYTES))
    rows = (row for table in tables_of(path) for row in plain_rows(table))
    named: list[str] = []
    count = 0
    for number, (row, leaf) in enumerate(zip_longest(rows, known)):
        if row is None or leaf_hash(encoded(row)) != leaf:
            count += 1
            if len(named) < _ROWS_NAMED:
                named.append(f"row {number}{_key_of(row, key)}")
    more = f" and {count - len(named):,} more" if count > len(named) else ""
    sys.stdout.write(
        f"{', '.join(named)}{more} altered or missing" if count else "its rows read as they were"
    )


def _key_of(row: Mapping[str, Any] | None, key: Sequence[str]) -> str:
    return f" ({'/'.join(str(row.get(column)) for column in key)})" if row is not None and key else ""


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2:])
