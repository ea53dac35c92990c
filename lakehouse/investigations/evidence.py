"""What was found of an id, and what of it the fold makes at any offset vector. Pure.

Belongs here: that. Does not: finding it (`find.py`), telling it (`plot.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lakehouse.fold import Coordinates, FoldedEvent, Payment, Version
from lakehouse.investigations.judged import Judged, is_below
from lakehouse.investigations.rows import Row, Transport, folded, payment_row
from lakehouse.investigations.story import InQuarantine, Publish
from lakehouse.investigations.subject import ACCOUNT, EVENT, Subject
from lakehouse.offsets import OffsetVector


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


def _is_about(subject: Subject, version: Version) -> bool:
    if subject.kind == EVENT:
        return version.event_id == subject.id
    if subject.kind == ACCOUNT:
        return version.account_id == subject.id
    return version.transaction_ref == subject.id


def _is_in(version: Version, vector: OffsetVector | None) -> bool:
    assert version.coordinates is not None
    return is_in(version.coordinates, vector)


def is_in(where: Coordinates, vector: OffsetVector | None) -> bool:
    return vector is None or is_below(where, vector)
