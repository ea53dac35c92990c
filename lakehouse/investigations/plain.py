"""A story as plain values for programs: times and amounts as text, so that nothing is rounded. Pure.

Belongs here: that. Does not: words for people (`telling.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from lakehouse.fold import Version
from lakehouse.investigations.story import Entry, Publish, Seen, Story
from lakehouse.redrive_mark import written
from quality.judge import micros


def as_json(story: Story) -> dict[str, Any]:
    """Render the whole story as plain values: times and amounts as text, ids of snapshots too."""
    return {
        "kind": story.subject.kind,
        "id": story.subject.id,
        "events": list(story.events),
        "records": [_record_json(e) for e in story.entries],
        "records_missing_in_raw": [_version_json(v) for v in story.missing],
        "seen": _seen_json(story.seen),
        "before": None if story.before is None else _seen_json(story.before),
        "changes": list(story.changes),
        "publishes": [_publish_json(p) for p in story.publishes],
        "notes": list(story.notes),
    }


def _record_json(entry: Entry) -> dict[str, Any]:
    r, version = entry.record, entry.record.version
    return {
        "coordinate": written(r.where),
        "topic": r.topic,
        "kafka_ts": r.kafka_ts.isoformat(),
        "source": r.source,
        "way": r.way,
        "bytes": r.size,
        "contract_version": r.contract_version,
        "kind": entry.kind,
        "why": list(entry.why),
        "changed": list(entry.changed),
        "late_by_us": None if r.event is None else micros(r.kafka_ts) - micros(r.event.event_ts),
        "version": None if version is None else _version_json(version),
        "violations": [v._asdict() for v in r.violations],
        "redrive_of": None if r.mark is None else written(r.mark.of),
        "quarantine": None if entry.quarantine is None else _plain(entry.quarantine._asdict()),
        "seen": None if entry.seen is None else _publish_json(entry.seen),
        "superseded_by": None if entry.superseded_by is None else written(entry.superseded_by),
    }


def _version_json(version: Version) -> dict[str, Any]:
    content = version.event._asdict() if version.event is not None else {}
    where = None if version.coordinates is None else written(version.coordinates)
    return {**_plain(content), "coordinate": where}


def _seen_json(seen: Seen) -> dict[str, Any]:
    return {
        "at": None if seen.at is None else seen.at.isoformat(),
        "folded_again": seen.folded_again,
        "published": None if seen.published is None else _publish_json(seen.published),
        "offsets": seen.vector.topics,
        "payments": [_plain(row) for row in seen.payments],
        "transactions": [_plain(row) for row in seen.transactions],
    }


def _publish_json(publish: Publish) -> dict[str, Any]:
    told = _plain(publish._asdict()) | {"snapshot_id": str(publish.snapshot_id)}
    del told["offsets"]
    return told


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(given) for name, given in row.items()}


def _value(given: Any) -> Any:
    if isinstance(given, datetime):
        return given.isoformat()
    if isinstance(given, Sequence) and not isinstance(given, str):
        return list(given)
    return given if isinstance(given, str | int | bool | None) else str(given)
