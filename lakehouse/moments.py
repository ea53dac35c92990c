"""Which snapshot of a table a reader means: now, as of a time, by id, or by tag.

Belongs here: time travel as readers saw it, which is main's history. Does not: reading rows (`query.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyiceberg.table import Table

from lakehouse.consistency import consistent
from lakehouse.definitions import PUBLISH_LOG
from lakehouse.errors import UnknownMoment
from lakehouse.offsets import OffsetVector


@dataclass(frozen=True)
class Moment:
    """What to read: at most one of a time (main as it was then), snapshot ids per table, a tag, or
    `consistent`: all tables at the greatest offset vector that they have in common.
    """

    as_of: datetime | None = None
    snapshots: Mapping[str, int] = field(default_factory=dict)
    tag: str | None = None
    consistent: bool = False


NOW = Moment()


def snapshots_at(tables: Mapping[str, Table], moment: Moment) -> tuple[dict[str, int], OffsetVector | None]:
    """Return the snapshot of each table that a moment means, and the common vector where it asks for one.

    The publish log consumes nothing and tells its times itself: it is read as it is now, unless its own
    snapshot is named. Raises `UnknownMoment` as `snapshot_at` and `consistent` do.
    """
    log = {
        name: snapshot_at(t, Moment(snapshots=moment.snapshots))
        for name, t in tables.items()
        if name == PUBLISH_LOG
    }
    others = {name: table for name, table in tables.items() if name != PUBLISH_LOG}
    if moment.consistent and others:
        found = consistent(others)
        return log | found.snapshots, found.vector
    return log | {name: snapshot_at(table, moment) for name, table in others.items()}, None


def snapshot_at(table: Table, moment: Moment) -> int:
    """Return the id of the snapshot of `table` that a moment means.

    Raises `UnknownMoment`, listing what there is, for a time before the kept history, an unknown id or tag.
    """
    name = ".".join(table.name())
    if name in moment.snapshots:
        return _by_id(table, name, moment.snapshots[name])
    if moment.tag is not None:
        return _by_tag(table, name, moment.tag)
    if moment.as_of is not None:
        return _as_of(table, name, moment.as_of)
    current = table.current_snapshot()
    if current is None:
        raise UnknownMoment(f"table {name} has no snapshot", "run `paywave up`, which completes it")
    return current.snapshot_id


def _by_id(table: Table, name: str, snapshot_id: int) -> int:
    if table.snapshot_by_id(snapshot_id) is None:
        kept = ", ".join(str(s.snapshot_id) for s in table.snapshots()[-5:])
        raise UnknownMoment(
            f"table {name} keeps no snapshot {snapshot_id}", f"the newest that it keeps: {kept}"
        )
    return snapshot_id


def _by_tag(table: Table, name: str, tag: str) -> int:
    ref = table.metadata.refs.get(tag)
    if ref is None:
        there = ", ".join(sorted(table.metadata.refs))
        raise UnknownMoment(f"table {name} has no tag {tag}", f"it has: {there}")
    return ref.snapshot_id


def _as_of(table: Table, name: str, moment: datetime) -> int:
    """Walk main's log, which tells when each snapshot became visible, not when it was staged."""
    wanted = int(moment.timestamp() * 1000)
    log = [e for e in table.history() if table.snapshot_by_id(e.snapshot_id) is not None]
    seen = [e for e in log if e.timestamp_ms <= wanted]
    if not seen:
        oldest = datetime.fromtimestamp(log[0].timestamp_ms / 1000, UTC).isoformat() if log else "nothing"
        raise UnknownMoment(
            f"table {name} keeps no snapshot from {moment.isoformat()} or before",
            f"the oldest moment that can be read is {oldest}",
        )
    return seen[-1].snapshot_id
