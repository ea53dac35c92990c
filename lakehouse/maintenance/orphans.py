"""Orphans: files in a table's folder that no snapshot of any branch or tag knows, left by writers that died.

Belongs here: finding and removing them. Does not: files of snapshots that expire (`expire.py`).

The order makes it safe: what is listed first and still unknown to metadata that is read afterwards belongs to
nobody, or to a writer at work. Those are told by age: a stage's branch says when it began, and is there
before its first file; who writes without a stage is given `older_than`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from opentelemetry import trace
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table

from lakehouse.errors import LakehouseError
from lakehouse.maintenance.measure import current
from lakehouse.maintenance.reachable import known_files, plain
from lakehouse.turns import opened_at

# Longer than any job; and less than this is asked for with care only.
OLDER_THAN, FLOOR = timedelta(days=3), timedelta(hours=24)
# The store's clock says when a file came, the writer's when its stage began.
_CLOCKS_APART = timedelta(minutes=5)
_NEVER = datetime.max.replace(tzinfo=UTC)
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True)
class Orphans:
    """What was found of one table: files and bytes; `young` ones are left, they may be in use yet."""

    table: str
    listed: int
    files: int
    bytes: int
    young: int
    removed: bool
    paths: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return asdict(self)


def remove_orphans(
    catalog: RestCatalog,
    name: str,
    older_than: timedelta = OLDER_THAN,
    dry_run: bool = False,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> Orphans:
    """Remove the orphans of a table, or (`dry_run`) list them.

    Args:
        older_than: what is younger is left. `FLOOR` is for the caller to hold to.

    Raises `LakehouseError` where the listing cannot be trusted, or the table shares its folder.
    """
    with _tracer.start_as_current_span("maintain.orphans", attributes={"table": name}):
        before: Table = catalog.load_table(name)
        _check_alone(catalog, before)
        store, folder = _folder(before)
        now = datetime.now(UTC)
        listed = list(_files_in(store, folder))
        _check_listing(before, listed)
        table = catalog.load_table(name)  # after the listing: see above
        unknown = _unknown(table, listed)
        latest = min(now - older_than, _work_began(table, now - max(older_than, FLOOR)))
        old = [info for info in unknown if info.mtime < latest]
        if not dry_run:
            old = _unknown(
                catalog.load_table(name), old
            )  # a stage that was dropped may yet have been published
            for done, info in enumerate(old, start=1):
                with suppress(FileNotFoundError):  # another run removed it first
                    store.delete_file(info.path)
                report(done, len(old))
    size, paths = sum(info.size for info in old), tuple(sorted(info.path for info in old))
    _log.info("orphans", table=name, files=len(old), bytes=size, dry_run=dry_run)
    return Orphans(name, len(listed), len(old), size, len(unknown) - len(old), not dry_run, paths)


def _folder(table: Table) -> tuple[FileSystem, str]:
    """Return where the table's files are, as the store names it."""
    io = table.io
    if not isinstance(io, PyArrowFileIO):
        raise LakehouseError(f"{type(io).__name__} cannot list files", "set py-io-impl to PyArrowFileIO")
    scheme, netloc, path = PyArrowFileIO.parse_location(table.location())
    return io.fs_by_scheme(scheme, netloc), path


def _files_in(store: FileSystem, folder: str) -> Iterator[FileInfo]:
    return (i for i in store.get_file_info(FileSelector(folder, recursive=True)) if i.type == FileType.File)


def _unknown(table: Table, listed: Iterable[FileInfo]) -> list[FileInfo]:
    known = {plain(path) for path in known_files(table)}
    return [info for info in listed if info.path not in known]


def _work_began(table: Table, dead_since: datetime) -> datetime:
    """Tell when the oldest stage at work was opened: whatever came since may be part of it.

    One that was opened before `dead_since` is no job at work: what it committed is known by its branch.
    """
    opened = [at for at in map(opened_at, table.metadata.refs) if at is not None and at >= dead_since]
    return min(opened, default=_NEVER) - _CLOCKS_APART


def _check_listing(table: Table, listed: Iterable[FileInfo]) -> None:
    """Check that listing and metadata name files alike, by two that must be there."""
    wanted = {plain(table.metadata_location), plain(current(table).manifest_list)}
    missing = wanted - {info.path for info in listed}
    if missing:
        raise LakehouseError(
            f"table {'.'.join(table.name())}: the listing of {table.location()} lacks {sorted(missing)[0]}, "
            "which the table needs: by it everything would seem to be an orphan",
            "nothing was removed; see whether the table's files lie in its location",
        )


def _check_alone(catalog: RestCatalog, table: Table) -> None:
    """Check that no other table has its files in the same folder: to this one they would all be orphans."""
    own = _as_folder(table)
    for identifier in (found for space in catalog.list_namespaces() for found in catalog.list_tables(space)):
        with suppress(NoSuchTableError):
            other: Table = catalog.load_table(identifier)
            theirs = _as_folder(other)
            is_other = other.metadata.table_uuid != table.metadata.table_uuid
            if is_other and (theirs.startswith(own) or own.startswith(theirs)):
                raise LakehouseError(
                    f"tables {'.'.join(table.name())} and {'.'.join(identifier)} share the folder {own}",
                    "nothing was removed; move one of them first",
                )


def _as_folder(table: Table) -> str:
    return plain(table.location()).rstrip("/") + "/"
