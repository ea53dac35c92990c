"""The landing folder: one folder per partner, on this machine or under an S3 prefix, and our own beside them.

Belongs here: listing, copying, receipts and journals as files. Does not: what any of it means.

The folder `.dropzone` is ours: copies of the files that are being read, under their digest, and journals.
"""

from __future__ import annotations

import contextlib
import hashlib
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem
from pyiceberg.io.pyarrow import PyArrowFileIO

from quality.canonical import MAX_BYTES
from streaming.dropzone.complete import Copy, Seen

_OURS = ".dropzone"
_CHUNK = 1 << 20
_SIDECAR_BYTES = 64 * 1024
# Kept of a line: enough beyond what is taken to know a card number that the limit would cut in two.
_LINE_BYTES = MAX_BYTES + 1024
_LEFT_BEHIND_SECONDS = 3600.0
_UNDER_WAY = ".copying"
_JOURNAL = ".journal"


class Landing:
    """A landing folder in any file system of pyarrow; `root` is its path there."""

    def __init__(self, fs: FileSystem, root: str) -> None:
        self._fs = fs
        self._root = root.rstrip("/")

    def prepare(self, partner: str) -> None:
        """Make the folders that are missing."""
        for folder in (f"{self._root}/{partner}", self._spool(partner)):
            self._fs.create_dir(folder, recursive=True)

    def files(self, partner: str) -> dict[str, Seen]:
        """List a partner's files by name, whatever they are; folders in the folder are none of ours."""
        return {seen.name: seen for info in self._list(f"{self._root}/{partner}") if (seen := _seen(info))}

    def sidecar(self, partner: str, name: str) -> bytes:
        """Read a small file; of a larger one the beginning, which no sidecar is."""
        with self._fs.open_input_stream(f"{self._root}/{partner}/{name}") as stream:
            return bytes(stream.read(_SIDECAR_BYTES))

    def copy(self, partner: str, name: str) -> Copy:
        """Copy a partner's file into our folder, under the digest of what was copied."""
        fresh = f"{self._spool(partner)}/{uuid.uuid4().hex}{_UNDER_WAY}"
        digest, size, last = hashlib.sha256(), 0, b""
        with (
            self._fs.open_input_stream(f"{self._root}/{partner}/{name}") as source,
            self._fs.open_output_stream(fresh) as target,
        ):
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                target.write(chunk)
                size, last = size + len(chunk), chunk[-1:]
        self._fs.move(fresh, self._copy_of(partner, digest.hexdigest()))
        return Copy(digest.hexdigest(), size, last == b"\n")

    def has_copy(self, partner: str, digest: str) -> bool:
        (info,) = self._fs.get_file_info([self._copy_of(partner, digest)])
        return bool(info.type == FileType.File)

    def lines(self, partner: str, digest: str, start: int = 0) -> Iterator[tuple[bytes, int]]:
        """Read the lines of a copy from a byte on: each with its end, and the byte after it.

        Of a line that is longer than any event may be, what comes well after that is left out.
        """
        with self._fs.open_input_file(self._copy_of(partner, digest)) as file:
            file.seek(start)
            yield from _lines(file, start)

    def drop_copy(self, partner: str, digest: str) -> None:
        """Remove a copy and its journal."""
        for path in (self._copy_of(partner, digest), self._journal_of(partner, digest)):
            self._delete(path)

    def copies(self, partner: str, standing_s: float = 0.0) -> list[str]:
        """List the digests of copies that have stood for so long; remove what a kill left of making one."""
        digests = []
        for info in self._list(self._spool(partner)):
            age = time.time() - info.mtime.timestamp()
            if info.base_name.endswith(_UNDER_WAY):
                if age > _LEFT_BEHIND_SECONDS:
                    self._delete(info.path)
            elif age >= standing_s and not info.base_name.endswith(_JOURNAL):
                digests.append(info.base_name)
        return digests

    def journal(self, partner: str, digest: str) -> bytes | None:
        """Read the journal of a copy; None where there is none."""
        return self._read(self._journal_of(partner, digest))

    def write_journal(self, partner: str, digest: str, content: bytes) -> None:
        self._write(self._journal_of(partner, digest), content)

    def receipt(self, partner: str, name: str) -> bytes | None:
        return self._read(f"{self._root}/{partner}/{name}")

    def write_receipt(self, partner: str, name: str, content: bytes) -> None:
        """Put a file into the partner's folder, whole or not at all."""
        self._write(f"{self._root}/{partner}/{name}", content)

    def _list(self, folder: str) -> list[FileInfo]:
        found: list[FileInfo] = self._fs.get_file_info(FileSelector(folder, allow_not_found=True))
        return [info for info in found if info.type == FileType.File]

    def _read(self, path: str) -> bytes | None:
        try:
            with self._fs.open_input_stream(path) as stream:
                return bytes(stream.readall())
        except FileNotFoundError:
            return None

    def _write(self, path: str, content: bytes) -> None:
        with self._fs.open_output_stream(path) as stream:
            stream.write(content)

    def _delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # another dropzone may have been first
            self._fs.delete_file(path)

    def _spool(self, partner: str) -> str:
        return f"{self._root}/{_OURS}/{partner}"

    def _copy_of(self, partner: str, digest: str) -> str:
        return f"{self._spool(partner)}/{digest}"

    def _journal_of(self, partner: str, digest: str) -> str:
        return self._copy_of(partner, digest) + _JOURNAL


class LocalLanding(Landing):
    """A landing folder on this machine.

    A file's times are those of its inode, which no client can set; a link is no file of a partner's.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(LocalFileSystem(), str(root.resolve()))
        self._folder = root.resolve()

    def files(self, partner: str) -> dict[str, Seen]:
        found = {}
        for path in (self._folder / partner).iterdir():
            try:
                facts = path.lstat()
                path.name.encode()
            except (FileNotFoundError, UnicodeEncodeError):  # gone since, or no name that pyarrow could open
                continue
            if stat.S_ISREG(facts.st_mode):
                changed = datetime.fromtimestamp(facts.st_ctime, UTC)
                fingerprint = f"{facts.st_ino}-{facts.st_size}-{facts.st_mtime_ns}-{facts.st_ctime_ns}"
                found[path.name] = Seen(path.name, facts.st_size, changed, fingerprint)
        return found

    def _write(self, path: str, content: bytes) -> None:
        fresh = Path(path).with_name(f".{uuid.uuid4().hex}")
        fresh.write_bytes(content)
        fresh.replace(path)


def open_landing(where: str, properties: Mapping[str, str]) -> Landing:
    """Open a landing folder: a path, or `s3://bucket/prefix` by pyiceberg's properties."""
    if not where.startswith("s3://"):
        folder = Path(where)
        folder.mkdir(parents=True, exist_ok=True)
        return LocalLanding(folder)
    path = where.removeprefix("s3://")
    return Landing(PyArrowFileIO(dict(properties)).fs_by_scheme("s3", path.split("/")[0]), path)


def _seen(info: FileInfo) -> Seen:
    return Seen(info.base_name, info.size, info.mtime, f"{info.size}-{info.mtime_ns}")


def _lines(file: pa.NativeFile, position: int) -> Iterator[tuple[bytes, int]]:
    held = b""
    skipped = 0
    while chunk := file.read(_CHUNK):
        *whole, rest = (held + chunk).split(b"\n")
        for line in whole:
            position += len(line) + 1 + skipped
            skipped = 0
            yield line[:_LINE_BYTES] + b"\n", position
        # of a line without an end in sight, no more is kept than is looked at
        held = rest[:_LINE_BYTES]
        skipped += len(rest) - len(held)
    if held:
        yield held, position + len(held) + skipped
