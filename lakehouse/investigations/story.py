"""The story of an id as data: records and what became of them, what readers saw and since when. Pure.

Belongs here: that. Does not: putting a story together (`plot.py`), how it looks (`telling.py`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from lakehouse.fold import Coordinates, Version
from lakehouse.investigations.judged import Judged, is_below
from lakehouse.investigations.reasons import change
from lakehouse.investigations.rows import Row, payment_key
from lakehouse.investigations.subject import Subject
from lakehouse.offsets import OffsetVector

FIRST, REDELIVERY, CORRECTION, SUPERSEDED, REVERSAL, DUPLICATE = (
    "first", "redelivery", "correction", "superseded", "reversal", "duplicate",
)  # fmt: skip
QUARANTINED, HELD = "quarantined", "held"
CLOCKS = timedelta(minutes=5)  # by which Kafka's and the catalog's may differ
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
