"""What a table holds at a snapshot, as the pages show it. Told by metadata alone: no row is read.

Belongs here: rendering heads as Dagster's metadata. Does not: finding them (`lakehouse/`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pyiceberg.table.snapshots import Snapshot

from lakehouse.arrivals import Arrivals
from lakehouse.refs import Head, stamp_of
from lakehouse.stamp import Stamp

_HOURS_SHOWN = 50


def of_head(head: Head) -> dict[str, Any]:
    """Show where main of a table stands: snapshot, size, offsets, watermark, and how to read it again."""
    snapshot, stamp = head.snapshot, stamp_of(head.snapshot) or head.progress
    summary = _summary(snapshot)
    # Ids of snapshots are text: JavaScript's numbers would round them.
    found: dict[str, Any] = {
        "snapshot_id": str(snapshot.snapshot_id),
        "committed_at": dg.MetadataValue.timestamp(_time(snapshot)),
        "operation": summary.get("operation", ""),
        "writer": stamp.writer,
        "dagster/row_count": _rows(summary),
        "deleted_rows": _number(summary, "total-position-deletes"),
        "files": _number(summary, "total-data-files"),
        "bytes": _number(summary, "total-files-size"),
        "time_travel": dg.MetadataValue.md(_time_travel(head.name, snapshot)),
    }
    return found | _of_progress(head.progress)


def of_arrivals(arrivals: Iterable[Arrivals]) -> dict[str, Any]:
    """Show how late the records of the newest publish came, per event hour."""
    records = [
        dg.TableRecord(
            {
                "event hour": "before" if a.hour is None else hour_text(a.hour),
                "records": a.records,
                "p99 delay, s": a.p99_delay_ms / 1000,
                "max delay, s": a.max_delay_ms / 1000,
            }
        )
        for a in arrivals
    ]
    return {"arrivals": dg.MetadataValue.table(records[:_HOURS_SHOWN])} if records else {}


def hour_text(hour: int) -> str:
    """Write an hour since 1970-01-01 UTC as partitions are called: `2026-11-22T14`."""
    return datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%dT%H")


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


def _time_travel(name: str, snapshot: Snapshot) -> str:
    statement = f"SELECT count(*) FROM {name}"  # noqa: S608
    return f'`paywave query "{statement}" --snapshot {name}={snapshot.snapshot_id}`'


def _rows(summary: Mapping[str, str]) -> int:
    """Rows that a reader sees: those written, less those that deletion vectors take away."""
    return _number(summary, "total-records") - _number(summary, "total-position-deletes")


def _number(summary: Mapping[str, str], name: str) -> int:
    return int(summary.get(name) or 0)


def _summary(snapshot: Snapshot) -> dict[str, str]:
    if snapshot.summary is None:
        return {}
    return {"operation": snapshot.summary.operation.value, **snapshot.summary.additional_properties}


def _time(snapshot: Snapshot) -> datetime:
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
