"""The story of an id, record by record: what each told, why it counts or not, what it changed. Pure.

Belongs here: putting records, versions, payments and publishes in order, by the rules of the fold. Does not:
finding them (`investigate.py`), how the story looks (`telling.py`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from lakehouse.fold import Coordinates, FoldedEvent, Payment, Version
from lakehouse.investigations.judged import Judged, is_below
from lakehouse.investigations.reasons import change, differences, is_reversal, why_above, why_member
from lakehouse.investigations.rows import (
    PaymentKey,
    Row,
    Transport,
    folded,
    payment_key,
    payment_row,
)
from lakehouse.investigations.subject import ACCOUNT, EVENT, Subject
from lakehouse.offsets import OffsetVector
from lakehouse.redrive_mark import written

FIRST, REDELIVERY, CORRECTION, SUPERSEDED, REVERSAL, DUPLICATE = (
    "first", "redelivery", "correction", "superseded", "reversal", "duplicate",
)  # fmt: skip
CLOCKS = timedelta(minutes=5)  # by which Kafka's and the catalog's may differ
QUARANTINED, HELD = "quarantined", "held"
_Group = tuple[str, datetime]
_Content = tuple[str, str]
"""Event id and content hash: what names a version."""
_TELLING = ("amount", "status", "transaction_ref", "event_ids", "flags", "event_type", "merchant_id")


class Publish(NamedTuple):
    """A time at which readers began to see something: main of a table was set to a snapshot."""

    table: str
    published_at: datetime
    snapshot_id: int
    writer: str | None
    offsets: OffsetVector | None
    contract_version: int | None
    code_version: str | None
    is_kept: bool = False

    @property
    def key(self) -> tuple[datetime, str, int]:
        """What names it, and its place among others: one snapshot may be set twice, by a rollback."""
        return self.published_at, self.table, self.snapshot_id


class InQuarantine(NamedTuple):
    """What the table of quarantine says of a record."""

    contract_version: int
    state: str
    redriven_by: str | None
    redriven_at: datetime | None


class Entry(NamedTuple):
    """One record: what it is to the story, why, what it changed, and since when readers see that.

    `superseded_by` is the record of the version that counts instead of the one that it told.
    """

    record: Judged
    kind: str
    why: tuple[str, ...]
    changed: tuple[str, ...]
    seen: Publish | None
    quarantine: InQuarantine | None = None
    superseded_by: Coordinates | None = None


@dataclass(frozen=True)
class Seen:
    """Rows as readers saw them at a time (None: now).

    Args:
        published: the publish that they saw; None where the tables tell it no more.
        vector: the offsets up to which it held.
        folded_again: the snapshot is gone: the rows were folded from raw up to the vector.
    """

    at: datetime | None
    published: Publish | None
    vector: OffsetVector
    folded_again: bool
    payments: tuple[Row, ...]
    transactions: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Story:
    """All of it. `missing` are versions whose record raw has no more; `before` an earlier time to compare."""

    subject: Subject
    entries: tuple[Entry, ...]
    seen: Seen
    before: Seen | None = None
    missing: tuple[Version, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def events(self) -> tuple[str, ...]:
        """Every event of the story, in the order in which they came."""
        names = [e.record.event.event_id for e in self.entries if e.record.event is not None]
        return tuple(dict.fromkeys([*names, *(v.event_id for v in self.missing)]))

    @property
    def publishes(self) -> tuple[Publish, ...]:
        """Every publish of the story, the first one first."""
        states = (s.published for s in (self.before, self.seen) if s is not None)
        return in_order(p for p in (*(e.seen for e in self.entries), *states) if p is not None)

    @property
    def changes(self) -> tuple[str, ...]:
        """What readers of payments saw differ between the two times."""
        return () if self.before is None else row_changes(self.before.payments, self.seen.payments)


@dataclass
class Evidence:
    """What was found of a subject; more than belongs to its story may be among it.

    Args:
        records: of raw.
        stored: versions as the curated table has them; raw may have dropped their records.
        quarantine: rows of quarantine of these records.
        publishes: of curated.payments, whenever readers may have begun to see one of the records.
    """

    subject: Subject
    records: tuple[Judged, ...]
    stored: tuple[Version, ...] = ()
    quarantine: Mapping[Coordinates, InQuarantine] = field(default_factory=dict)
    publishes: tuple[Publish, ...] = ()
    transport: Transport = field(default_factory=Transport)

    def __post_init__(self) -> None:
        for r in self.records:
            self.transport.add(r.where, r.source, r.topic)

    def below(self, vector: OffsetVector | None) -> list[Version]:
        """Every copy that a vector has consumed; None: all."""
        copies = [*(r.version for r in self.records), *self.stored]
        return [v for v in copies if v is not None and _is_in(v, vector)]

    def rows_at(self, vector: OffsetVector | None) -> list[Row]:
        """Fold what a vector has consumed to the subject's payments, as rows of the table."""
        events, payments = folded(self.below(vector))
        cast = cast_of(self.subject, events, payments)
        return [payment_row(p, self.transport) for p in payments if not cast.isdisjoint(p.event_ids)]

    def all_rows_at(self, vector: OffsetVector | None) -> list[Row]:
        """The same, of every payment that was found: a transaction needs all of its own."""
        return [payment_row(p, self.transport) for p in folded(self.below(vector))[1]]


def in_order(publishes: Iterable[Publish]) -> tuple[Publish, ...]:
    """Put publishes in order, each once."""
    return tuple(sorted({p.key: p for p in publishes}.values(), key=lambda p: p.key))


class Shown:
    """Since when readers see a record: asked of publishes in order."""

    def __init__(self, publishes: Iterable[Publish]) -> None:
        self._publishes = [p for p in in_order(publishes) if p.offsets is not None]
        self._times = [p.published_at for p in self._publishes]

    def first_with(self, record: Judged) -> Publish | None:
        """Find the first publish after Kafka took the record, by both clocks, that had consumed it."""
        start = bisect_left(self._times, record.kafka_ts - CLOCKS)
        later = (p for p in self._publishes[start:] if p.offsets and is_below(record.where, p.offsets))
        return next(later, None)


def cast_of(subject: Subject, events: Iterable[FoldedEvent], payments: Iterable[Payment]) -> frozenset[str]:
    """Name the events that the subject's story is about: with those of one payment, and notices.

    An event brings the others of its payment along; a transaction every event of which any version ever
    carried the reference, with the others of their payments.
    """
    named = {e.event_id for e in events if any(_is_about(subject, v) for v in e.versions)}
    found = set(named)
    for payment in payments:
        if not named.isdisjoint(payment.event_ids):
            found.update(payment.event_ids)
    return frozenset(found)


def tell(evidence: Evidence, seen: Seen, before: Seen | None = None, notes: Iterable[str] = ()) -> Story:
    """Put the story together, of the records that readers had at the time of `seen`; now: of all."""
    vector = None if seen.at is None else seen.vector
    events, payments = folded(evidence.below(vector))
    cast = cast_of(evidence.subject, events, payments)
    told_by = {(v.event_id, v.content_hash) for e in events if e.event_id in cast for v in e.versions}
    mine = [
        r for r in evidence.records if _has(r.where, vector) and _belongs(evidence.subject, r, cast, told_by)
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
        and _has(r.where, vector)
    ]
    return [*found, *_tied(records, [*mine, *found], vector)] if found else []


def row_changes(before: Iterable[Row], after: Iterable[Row]) -> tuple[str, ...]:
    """Say what differs between two states of payments, payment by payment."""
    old, new = ({payment_key(row): row for row in rows} for rows in (before, after))
    keys = sorted(old.keys() | new.keys(), key=lambda k: (k[0], k[1] or ""))
    return tuple(text for key in keys for text in _row_change(old.get(key), new.get(key)))


def _row_change(old: Row | None, new: Row | None) -> Iterable[str]:
    if old is None and new is not None:
        yield f"a new payment: {_short(new)}"
    elif new is None and old is not None:
        yield f"a payment is gone: {_short(old)}"
    elif old is not None and new is not None:
        for name in _TELLING:
            if old[name] != new[name]:
                yield change(name, old[name], new[name])


def _short(row: Row) -> str:
    reference = "" if row["transaction_ref"] is None else f", reference {row['transaction_ref']}"
    return f"{row['event_type']} of {row['amount']} {row['currency']}, {row['status']}{reference}"


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


def _is_about(subject: Subject, version: Version) -> bool:
    if subject.kind == EVENT:
        return version.event_id == subject.id
    if subject.kind == ACCOUNT:
        return version.account_id == subject.id
    return version.transaction_ref == subject.id


def _is_same(one: Version, other: Version) -> bool:
    return (one.event_id, one.content_hash) == (other.event_id, other.content_hash)


def _is_in(version: Version, vector: OffsetVector | None) -> bool:
    assert version.coordinates is not None
    return _has(version.coordinates, vector)


def _has(where: Coordinates, vector: OffsetVector | None) -> bool:
    return vector is None or is_below(where, vector)


__all__ = ["Entry", "Evidence", "InQuarantine", "PaymentKey", "Publish", "Seen", "Story", "tell"]
