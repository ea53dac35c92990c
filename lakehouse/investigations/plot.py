"""Putting a story together, record by record: what each told, why it counts or not, what it changed. Pure.

Belongs here: records in Kafka's order, held to the fold of those before. Does not: the rules (`fold.py`), how
the story looks (`telling.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime

from lakehouse.fold import Coordinates, FoldedEvent, Version
from lakehouse.investigations.evidence import Evidence, cast_of, is_in
from lakehouse.investigations.judged import Judged
from lakehouse.investigations.reasons import differences, is_reversal, why_above, why_member
from lakehouse.investigations.rows import Row, Transport, folded, payment_row
from lakehouse.investigations.story import (
    CORRECTION,
    DUPLICATE,
    FIRST,
    HELD,
    QUARANTINED,
    REDELIVERY,
    REVERSAL,
    SUPERSEDED,
    Entry,
    Seen,
    Shown,
    Story,
    row_changes,
)
from lakehouse.investigations.subject import Subject
from lakehouse.offsets import OffsetVector
from lakehouse.redrive_mark import written

_Group = tuple[str, datetime]
_Content = tuple[str, str]
"""Event id and content hash: what names a version."""


def tell(evidence: Evidence, seen: Seen, before: Seen | None = None, notes: Iterable[str] = ()) -> Story:
    """Put the story together, of the records that readers had at the time of `seen`; now: of all."""
    vector = None if seen.at is None else seen.vector
    events, payments = folded(evidence.below(vector))
    cast = cast_of(evidence.subject, events, payments)
    told_by = {(v.event_id, v.content_hash) for e in events if e.event_id in cast for v in e.versions}
    mine = [
        r for r in evidence.records if is_in(r.where, vector) and _belongs(evidence.subject, r, cast, told_by)
    ]
    mine += _tied(evidence.records, mine, vector)
    told = _Telling(evidence)
    instead = _instead(events)
    entries = tuple(
        e._replace(superseded_by=_replacement(e, instead))
        for e in (told.entry(r) for r in sorted(mine, key=lambda r: r.place))
    )
    have = {r.where for r in evidence.records}
    members = [v for e in events if e.event_id in cast for v in e.versions]
    missing = tuple(v for v in members if v.coordinates not in have)
    return Story(evidence.subject, entries, seen, before, missing, tuple(notes))


def _instead(events: Iterable[FoldedEvent]) -> dict[_Content, Coordinates | None]:
    """Say of each version that does not count where the one stands that does."""
    return {(v.event_id, v.content_hash): e.winning.coordinates for e in events for v in e.versions[:-1]}


def _replacement(entry: Entry, instead: Mapping[_Content, Coordinates | None]) -> Coordinates | None:
    content = _content(entry.record)
    return None if content is None or entry.kind == REDELIVERY else instead.get(content)


def _tied(records: Sequence[Judged], mine: Sequence[Judged], vector: OffsetVector | None) -> list[Judged]:
    """Find what records of the story are redrives of, and what is a redrive of them, and so on."""
    places = {r.where for r in mine}
    originals = {r.mark.of for r in mine if r.mark}
    found = [
        r
        for r in records
        if r.where not in places
        and (r.where in originals or (r.mark and r.mark.of in places))
        and is_in(r.where, vector)
    ]
    return [*found, *_tied(records, [*mine, *found], vector)] if found else []


def _belongs(
    subject: Subject,
    record: Judged,
    cast: frozenset[str],
    told_by: Container[_Content],
) -> bool:
    content = _content(record)
    if content is not None:
        return content in told_by
    return record.named in cast or record.named == subject.id or record.mentions


def _content(record: Judged) -> _Content | None:
    return None if record.event is None else (record.event.event_id, record.event.content_hash)


class _Telling:
    """Goes through the records in Kafka's order and keeps what was known before each, group by group."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._known: dict[_Group, list[Version]] = defaultdict(list)
        self._first: dict[_Content, Judged] = {}
        self._shown = Shown(evidence.publishes)
        kept = {r.where for r in evidence.records}
        for version in evidence.stored:  # of records that raw dropped: they came before all that it has
            if version.coordinates not in kept:
                self._known[version.account_id, version.event_ts].append(version)

    def entry(self, record: Judged) -> Entry:
        """Tell one record; those before it in Kafka must have been told."""
        version = record.version
        if version is None:
            state = self._evidence.quarantine.get(record.where)
            return Entry(record, HELD if record.is_held else QUARANTINED, _broken(record), (), None, state)
        seen = self._shown.first_with(record)
        known = self._known[version.account_id, version.event_ts]
        earlier = self._first.get((version.event_id, version.content_hash))
        before, _ = _state(known, self._evidence.transport)
        known.append(version)
        after, events = _state(known, self._evidence.transport)
        changed = row_changes(before, after)
        if earlier is not None:
            return Entry(record, REDELIVERY, _redelivered(earlier, record), changed, seen)
        self._first[version.event_id, version.content_hash] = record
        kind, why = _role(version, events, after)
        return Entry(record, kind, why, changed, seen)


def _state(versions: list[Version], transport: Transport) -> tuple[list[Row], list[FoldedEvent]]:
    events, payments = folded(versions)
    return [payment_row(p, transport) for p in payments], events


def _role(
    version: Version, events: Sequence[FoldedEvent], rows: Iterable[Row]
) -> tuple[str, tuple[str, ...]]:
    """Say what a version that was not known before is to its event, and to its payment."""
    event = next(e for e in events if any(_is_same(v, version) for v in e.versions))
    if event.event_id != version.event_id:
        return REVERSAL, (f"a notice: it takes back event {event.event_id}, which it names",)
    others = [v for v in event.versions if not _is_same(v, version)]
    if others:
        return _among(version, event, others)
    members: list[str] = next((row["event_ids"] for row in rows if event.event_id in row["event_ids"]), [])
    if len(members) > 1:
        reason = f"merged into one payment: {why_member(event, len(members) - 1)}"
        return REVERSAL if is_reversal(version) else DUPLICATE, (reason,)
    return REVERSAL if is_reversal(version) else FIRST, ()


def _among(version: Version, event: FoldedEvent, others: list[Version]) -> tuple[str, tuple[str, ...]]:
    best = others[-1]  # the greatest of the rest
    if not _is_same(event.winning, version):
        reason = f"it does not count, version {event.winning.content_hash[:8]} does: "
        return SUPERSEDED, (reason + why_above(event.winning, version), *_differing(best, version))
    kind = REVERSAL if is_reversal(version) else CORRECTION
    reason = f"it supersedes version {best.content_hash[:8]}: {why_above(version, best)}"
    return kind, (reason, *_differing(best, version))


def _differing(old: Version, new: Version) -> tuple[str, ...]:
    found = "; ".join(differences(old, new))
    return (f"it differs: {found}",) if found else ()


def _redelivered(earlier: Judged, record: Judged) -> tuple[str, ...]:
    told = f"the same content as record {written(earlier.where)}"
    first, second = earlier.version, record.version
    assert first is not None
    assert second is not None
    if second.arrival < first.arrival:
        return (f"{told}, but ingested earlier: from now on it stands for that version",)
    return (f"{told}: nothing to count again",)


def _broken(record: Judged) -> tuple[str, ...]:
    fields = (f" in {v.field}" if v.field else "" for v in record.violations)
    return tuple(f"{v.rule}{where}: {v.message}" for v, where in zip(record.violations, fields, strict=True))


def _is_same(one: Version, other: Version) -> bool:
    return (one.event_id, one.content_hash) == (other.event_id, other.content_hash)
