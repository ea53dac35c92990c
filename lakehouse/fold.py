"""The fold: from judged records to versions, events and payments. The reference every engine is held to.

Belongs here: the rules of the design's section 3 as plain Python, pure and order-free.
Does not: I/O and engines (`streaming/`), how a record is judged (`quality/`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import NamedTuple

from quality.contract import REVERSED, Event

AMBIGUOUS_REFERENCE = "ambiguous_reference"
ONLY_REVERSED = "only_reversed"
POSSIBLE_COLLISION = "possible_collision"
REVERSAL_CONFLICT = "reversal_conflict"


class Coordinates(NamedTuple):
    """Where a record stands in Kafka: its identity. The topic's UUID, so that a new topic is another one."""

    topic_id: str
    partition: int
    offset: int


class Version(NamedTuple):
    """A version of an event, told by its earliest copy; a single record is a version told by itself.

    The rules look at these fields only; `event` carries the whole content where the caller wants it back.
    """

    event_id: str
    content_hash: str
    business_key: str
    status: str
    revision: int | None
    transaction_ref: str | None
    first_ingest_ts: datetime
    coordinates: Coordinates | None = None
    event: Event | None = None

    @property
    def arrival(self) -> tuple[datetime, Coordinates | None]:
        """Order of the copies of one version: by ingest time, then by coordinates, so that it is total."""
        return self.first_ingest_ts, self.coordinates


class FoldedEvent:
    """An event and its versions; `versions` is not empty, in version order."""

    def __init__(self, versions: Iterable[Version]) -> None:
        self.versions = sorted(versions, key=version_order)

    @property
    def event_id(self) -> str:
        return self.versions[0].event_id

    @property
    def winning(self) -> Version:
        return self.versions[-1]

    @cached_property
    def original(self) -> Version:
        live = (v for v in self.versions if v.status != REVERSED)
        return next(live, self.versions[0])

    @property
    def business_key(self) -> str:
        return self.original.business_key

    @cached_property
    def transaction_ref(self) -> str | None:
        references = (v.transaction_ref for v in reversed(self.versions))
        return next((r for r in references if r is not None), None)

    @cached_property
    def first_ingest_ts(self) -> datetime:
        return min(v.first_ingest_ts for v in self.versions)

    @cached_property
    def highest_revision(self) -> int:
        return max(v.revision or 0 for v in self.versions)

    @property
    def is_reversed(self) -> bool:
        return self.winning.status == REVERSED

    @property
    def is_only_reversed(self) -> bool:
        return self.original.status == REVERSED

    @property
    def arrival(self) -> tuple[datetime, str]:
        """Order of the members of a payment."""
        return self.first_ingest_ts, self.event_id


class Payment(NamedTuple):
    """A payment's row: the version it shows, the status it has, and the events that are it."""

    business_key: str
    transaction_ref: str | None
    row: Version
    status: str
    event_ids: tuple[str, ...]
    flags: tuple[str, ...]


def record(event: Event, coordinates: Coordinates) -> Version:
    """Turn one valid record into the version that it tells."""
    return Version(
        event.event_id,
        event.content_hash,
        event.business_key,
        event.status,
        event.revision,
        event.transaction_ref,
        event.ingest_ts,
        coordinates,
        event,
    )


def version_order(version: Version) -> tuple[bool, int, bool, datetime, str]:
    """Rank a version within its event; the greatest wins. A REVERSED one without revision ranks last."""
    is_reversed = version.status == REVERSED
    return (
        is_reversed and version.revision is None,
        version.revision or 0,
        is_reversed,
        version.first_ingest_ts,
        version.content_hash,
    )


def fold_versions(copies: Iterable[Version]) -> list[Version]:
    """Merge redeliveries: one version per (event_id, content), told by its earliest copy."""
    earliest: dict[tuple[str, str], Version] = {}
    for copy in copies:
        key = copy.event_id, copy.content_hash
        if key not in earliest or copy.arrival < earliest[key].arrival:
            earliest[key] = copy
    return list(earliest.values())


def fold_events(versions: Iterable[Version]) -> list[FoldedEvent]:
    """Gather the versions of each event."""
    by_id: dict[str, list[Version]] = defaultdict(list)
    for version in versions:
        by_id[version.event_id].append(version)
    return [FoldedEvent(of_event) for of_event in by_id.values()]


def fold_payments(events: Iterable[FoldedEvent]) -> list[Payment]:
    """Gather the events that share a business key and split them by transaction reference."""
    by_key: dict[str, list[FoldedEvent]] = defaultdict(list)
    for event in events:
        by_key[event.business_key].append(event)
    return list(chain.from_iterable(_payments_of(key, members) for key, members in by_key.items()))


def fold(copies: Iterable[Version]) -> list[Payment]:
    """curated = fold(raw): the payments of any records, in whatever order they come."""
    return fold_payments(fold_events(fold_versions(copies)))


def _payments_of(business_key: str, events: list[FoldedEvent]) -> Iterable[Payment]:
    references = sorted({e.transaction_ref for e in events if e.transaction_ref is not None})
    joined = references[0] if references else None  # events without a reference join the least one
    members: dict[str | None, list[FoldedEvent]] = defaultdict(list)
    for event in events:
        members[event.transaction_ref or joined].append(event)
    has_unreferenced = any(e.transaction_ref is None for e in events)
    for reference, of_payment in members.items():
        ambiguous = has_unreferenced and len(references) > 1 and reference == joined
        yield _payment(business_key, reference, sorted(of_payment, key=lambda e: e.arrival), ambiguous)


def _payment(
    business_key: str, reference: str | None, members: list[FoldedEvent], ambiguous: bool
) -> Payment:
    live = [m for m in members if not m.is_only_reversed]
    # min() keeps the first of equals, and members are in order of arrival
    shown = min(live or members, key=lambda m: -m.highest_revision)
    void = shown.is_reversed or members[0].is_reversed or any(m.is_only_reversed for m in members)
    flags = {
        AMBIGUOUS_REFERENCE: ambiguous,
        ONLY_REVERSED: not live,  # it takes something back (transactions.py)
        POSSIBLE_COLLISION: reference is None and len(members) > 1,
        REVERSAL_CONFLICT: len({m.is_reversed for m in live}) > 1,
    }
    return Payment(
        business_key,
        reference,
        shown.winning,
        REVERSED if void else shown.winning.status,
        tuple(sorted(m.event_id for m in members)),
        tuple(name for name, is_set in flags.items() if is_set),
    )
