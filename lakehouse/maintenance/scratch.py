"""Scratch tables that nobody goes on with: of replays and backfills that were given up, in whatever home.

Belongs here: finding and dropping them. Does not: what is in them (`streaming/replay/copies.py`).

They hold copies of what raw has: a run that comes back after all gathers them again. That takes long, and a
replay of everything writes to its own only while it gathers: so they are given far more time than files are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from lakehouse.refs import total_of

NAMESPACE = "replay"
IDLE = timedelta(days=30)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Scratch:
    """A scratch table that was last written at `idle_since`; its files and bytes."""

    table: str
    idle_since: datetime
    files: int
    bytes: int
    removed: bool

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {
            "table": self.table,
            "idle_since": self.idle_since.isoformat(),
            "files": self.files,
            "bytes": self.bytes,
            "removed": self.removed,
        }


def drop_idle(catalog: RestCatalog, idle: timedelta = IDLE, dry_run: bool = False) -> list[Scratch]:
    """Drop the scratch tables that nobody wrote to for a time, with their files, or (`dry_run`) list them.

    Args:
        idle: longer than any job goes without writing to its own.
    """
    found = []
    for table in _tables(catalog):
        name = ".".join(table.name())
        written = datetime.fromtimestamp(table.metadata.last_updated_ms / 1000, UTC)
        if written > datetime.now(UTC) - idle:
            continue
        snapshot = table.current_snapshot()
        files, size = (
            0 if snapshot is None else total_of(snapshot, what) for what in ("data-files", "files-size")
        )
        if not dry_run:
            with suppress(NoSuchTableError):  # another run dropped it first
                catalog.purge_table(name)
        found.append(Scratch(name, written, files, size, not dry_run))
        _log.info("idle scratch", table=name, idle_since=written.isoformat(), bytes=size, dry_run=dry_run)
    return found


def _tables(catalog: RestCatalog) -> Iterator[Table]:
    if not catalog.namespace_exists(NAMESPACE):
        return
    for identifier in catalog.list_tables(NAMESPACE):
        with suppress(NoSuchTableError):
            yield catalog.load_table(identifier)
