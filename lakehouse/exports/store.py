"""Where exports lie: a folder, or a prefix of an S3 bucket, with Object Lock where that is asked for.

Belongs here: reading, listing and writing files there. Does not: what they are.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from lakehouse.errors import ExportError
from lakehouse.whole_file import create_file, replace_file

UNDER_WAY, RESERVED = ".partial-", ".begun-"
Mode = Literal["none", "governance", "compliance"]


class Store(Protocol):
    """Files by name, `/` between folders. What is under way (`.partial-…`) is not listed."""

    def names(self) -> set[str]:
        """List all files."""

    def read(self, name: str) -> bytes:
        """Read a small file. Raises FileNotFoundError."""

    def opened(self, name: str) -> Any:
        """Give a file as one on this machine while a block runs. Raises FileNotFoundError."""

    def create(self, name: str, data: bytes) -> bool:
        """Create a file, all or nothing; of several that do so at once, one succeeds."""

    def put(self, name: str, data: bytes) -> None:
        """Write a small file, all or nothing."""

    def under(self, folder: str) -> Store:
        """The store of a folder in this one."""


@dataclass(frozen=True)
class Lock:
    """How long the store is to keep files from being deleted or changed; `none`: not at all."""

    mode: Mode = "none"
    years: int = 7

    def arguments(self, now: datetime) -> dict[str, Any]:
        """Render for S3, as of now."""
        if self.mode == "none":
            return {}
        until = now.replace(year=now.year + self.years, day=min(now.day, 28 if now.month == 2 else now.day))
        return {"ObjectLockMode": self.mode.upper(), "ObjectLockRetainUntilDate": until}


class FolderStore:
    """A folder on this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def names(self) -> set[str]:
        # Others with a dot in front are listed: whoever adds a file would else only have to name it so.
        found = (path.relative_to(self.root) for path in self.root.rglob("*") if not path.is_dir())
        return {path.as_posix() for path in found if not path.parts[0].startswith(UNDER_WAY)}

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        yield self.root / name

    def create(self, name: str, data: bytes) -> bool:
        try:
            create_file(self.root / name, data)
        except FileExistsError:
            return False
        return True

    def put(self, name: str, data: bytes) -> None:
        replace_file(self.root / name, data)

    def under(self, folder: str) -> FolderStore:
        return FolderStore(self.root / folder)


@dataclass(frozen=True)
class S3Store:
    """A prefix of a bucket; `lock` is set on every object that is written."""

    client: Any
    bucket: str
    prefix: str = ""
    lock: Lock = Lock()

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def names(self) -> set[str]:
        lister = self.client.get_paginator("list_objects_v2")
        try:
            pages = list(lister.paginate(Bucket=self.bucket, Prefix=self.prefix))
        except Exception as error:  # botocore makes its classes at run time
            raise self._failed("list", "", "s3:ListBucket", error) from error
        keys = (item["Key"] for page in pages for item in page.get("Contents", ()))
        return {key.removeprefix(self.prefix) for key in keys}

    def read(self, name: str) -> bytes:
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + name)
        except Exception as error:
            raise self._unread(name, error) from error
        return bytes(answer["Body"].read())

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="paywave-audit-") as folder:
            path = Path(folder) / "file"
            try:
                self.client.download_file(self.bucket, self.prefix + name, str(path))
            except Exception as error:
                raise self._unread(name, error) from error
            yield path

    def create(self, name: str, data: bytes) -> bool:
        try:
            self._put(name, data, IfNoneMatch="*")
        except Exception as error:
            if _code(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                return False
            raise self._unwritten(name, error) from error
        return True

    def put(self, name: str, data: bytes) -> None:
        try:
            self._put(name, data)
        except Exception as error:
            raise self._unwritten(name, error) from error

    def upload(self, name: str, path: Path) -> None:
        """Write a file of any size."""
        extra = self.lock.arguments(datetime.now(UTC))
        try:
            self.client.upload_file(str(path), self.bucket, self.prefix + name, ExtraArgs=extra)
        except Exception as error:
            raise self._unwritten(name, error) from error

    def size(self, name: str) -> int | None:
        """Tell the size of a file in bytes; None where there is none."""
        try:
            answer = self.client.head_object(Bucket=self.bucket, Key=self.prefix + name)
        except Exception as error:
            unread = self._unread(name, error)
            if isinstance(unread, FileNotFoundError):
                return None
            raise unread from error
        return int(answer["ContentLength"])

    def under(self, folder: str) -> S3Store:
        return replace(self, prefix=f"{self.prefix}{folder}/")

    def _put(self, name: str, data: bytes, **extra: Any) -> None:
        extra |= self.lock.arguments(datetime.now(UTC))
        self.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=data, **extra)

    def _unread(self, name: str, error: Exception) -> Exception:
        if _code(error) in ("NoSuchKey", "404"):
            return FileNotFoundError(f"{self}/{name}")
        return self._failed("read", name, "s3:GetObject", error)

    def _unwritten(self, name: str, error: Exception) -> ExportError:
        return self._failed("write", name, "s3:PutObject and the bucket's lock", error)

    def _failed(self, verb: str, name: str, right: str, error: Exception) -> ExportError:
        where = f"{self}/{name}".rstrip("/")
        return ExportError(f"cannot {verb} {where}: {_code(error)}", f"check this identity's {right}")


@dataclass(frozen=True)
class S3Access:
    """How to reach S3; without keys the usual chain of credentials is used. Not for logs."""

    endpoint: str | None = None
    region: str = "us-east-1"
    access_key: str | None = None
    secret_key: str | None = None
    path_style: bool = False


def store_at(place: str, access: S3Access, lock: Lock) -> FolderStore | S3Store:
    """Open a folder or `s3://bucket/prefix`. Raises `ExportError` where the extra `aws` is missing."""
    if not place.startswith("s3://"):
        if lock.mode != "none":
            raise ExportError(
                f"the folder {place} has no Object Lock",
                "set audit.exports to s3://…, or audit.object_lock to none",
            )
        return FolderStore(Path(place))
    parts = urlsplit(place)
    prefix = parts.path.strip("/")
    return S3Store(_client(access), parts.netloc, f"{prefix}/" if prefix else "", lock)


def destination_of(store: FolderStore | S3Store) -> str | None:
    """Say where exports go that are made in a work folder elsewhere; None: they are made where they stay."""
    return str(store) if isinstance(store, S3Store) else None


def remove_folder(path: Path) -> None:
    """Remove a folder with all in it; one that is gone already is fine."""
    shutil.rmtree(path, ignore_errors=True)


def _client(access: S3Access) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise ExportError(
            "exports on S3 need boto3, which is not installed", "install the extra: paywave-lakehouse[aws]"
        ) from None
    style = "path" if access.path_style else "auto"
    return boto3.client(
        "s3",
        endpoint_url=access.endpoint,
        region_name=access.region,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        config=Config(s3={"addressing_style": style}),
    )


def _code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response["Error"]["Code"]) if response else type(error).__name__
