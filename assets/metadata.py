"""What a table holds at a snapshot, as the pages show it. Told by metadata alone: no row is read.

Belongs here: rendering heads as Dagster's metadata. Does not: finding them (`lakehouse/`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pyiceberg.table.snapshots import Snapshot

from lakehouse.arrivals import Arrivals
from lakehouse.arrivals_sql import HOUR
from lakehouse.refs import Head, stamp_of, total_of
from lakehouse.stamp import Stamp
from streaming.backfill.hours import write_hour

# Dagster keeps what it is shown for good; a batch of much late data has hundreds of hours.
_HOURS_SHOWN = 10


def of_head(head: Head) -> dict[str, Any]:
    """Show where main of a table stands: snapshot, size, offsets, and how to read it again."""
    snapshot, stamp = head.snapshot, stamp_of(head.snapshot) or head.progress
    # Ids of snapshots are text: JavaScript's numbers would round them.
    found: dict[str, Any] = {
        "snapshot_id": str(snapshot.snapshot_id),
        "committed_at": dg.MetadataValue.timestamp(_time(snapshot)),
        "operation": snapshot.summary.operation.value if snapshot.summary is not None else "",
        "writer": stamp.writer,
        "dagster/row_count": head.rows,
        "deleted_rows": total_of(snapshot, "position-deletes"),
        "files": total_of(snapshot, "data-files"),
        "bytes": total_of(snapshot, "files-size"),
        "time_travel": dg.MetadataValue.md(_time_travel(head.name, snapshot.snapshot_id)),
    }
    return found | _of_progress(head.progress)


def of_hour(name: str, snapshot_id: int, start: datetime) -> dict[str, Any]:
    """Show at which snapshot of a table an event hour was looked at, and how to read the hour there again."""
    start = start.astimezone(UTC)
    within = f"WHERE event_ts >= TIMESTAMPTZ '{start}' AND event_ts < TIMESTAMPTZ '{start + HOUR}'"
    return {
        "snapshot_id": str(snapshot_id),
        "time_travel": dg.MetadataValue.md(_time_travel(name, snapshot_id, within)),
    }


def of_arrivals(arrivals: Iterable[Arrivals]) -> dict[str, Any]:
    """Show how late the records of the newest publish came, for the hours that got most of them."""
    largest = sorted(arrivals, key=lambda a: a.records, reverse=True)
    rows = [
        dg.TableRecord(
            {
                "event hour": "before" if a.hour is None else write_hour(a.hour),
                "records": a.records,
                "p99 delay, s": a.p99_delay_ms / 1000,
                "max delay, s": a.max_delay_ms / 1000,
            }
        )
        for a in largest[:_HOURS_SHOWN]
    ]
    return {"arrivals": dg.MetadataValue.table(rows), "arrival_hours": len(largest)} if rows else {}


def _of_progress(stamp: Stamp) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if stamp.progress is not None:
        found["offsets"] = dg.MetadataValue.json(
            {topic: dict(partitions) for topic, partitions in stamp.progress.topics.items()}
        )
    if stamp.complete_to is not None:
        found["complete_to"] = dg.MetadataValue.timestamp(stamp.complete_to)
    if stamp.contract_version is not None:
        found["contract_version"] = stamp.contract_version
    return found | of_arrivals(stamp.arrivals)


def _time_travel(name: str, snapshot_id: int, within: str = "") -> str:
    statement = f"SELECT count(*) FROM {name} {within}".strip()  # noqa: S608
    return f'`paywave query "{statement}" --snapshot {name}={snapshot_id}`'


def _time(snapshot: Snapshot) -> datetime:
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
