"""Looking at files in the object store: size, or all bytes as a digest, in bounded memory.

Belongs here: reading. Does not: what it says about them (`verdict.py`).
"""

from __future__ import annotations

import hashlib

from pyiceberg.io import FileIO

from lakehouse.integrity.verdict import Seen

# Some files at once: a store answers slowly and reads fast. Memory is this many times a part.
AT_ONCE = 8
_PART_BYTES = 4 * 1024 * 1024


def read(io: FileIO, path: str) -> Seen:
    """Read a file from beginning to end; what keeps it from being read is told, not raised."""
    digest, size = hashlib.sha256(), 0
    try:
        with io.new_input(path).open(seekable=False) as stream:
            while part := stream.read(_PART_BYTES):
                digest.update(part)
                size += len(part)
    except FileNotFoundError:
        return Seen(gone=True)
    except OSError as error:
        return Seen(error=_said(error))
    return Seen(size, digest.hexdigest())


def measure(io: FileIO, path: str) -> Seen:
    """Ask the store for a file's size; what keeps it from being told is told, not raised."""
    try:
        return Seen(len(io.new_input(path)))
    except FileNotFoundError:
        return Seen(gone=True)
    except OSError as error:
        return Seen(error=_said(error))


def _said(error: OSError) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
