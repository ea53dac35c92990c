"""The fold: from judged records to versions, events and payments. The reference every engine is held to.

Belongs here: the rules of the design's section 3 as plain Python, pure and order-free.
Does not: I/O and engines (`streaming/`), how a record is judged (`quality/`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import NamedTuple

from quality.contract import DECLINED, REVERSED, Event

AMBIGUOUS_REFERENCE = "ambiguous_reference"
DECLINE_CONFLICT = "decline_conflict"
ONLY_REVERSED = "only_reversed"
POSSIBLE_COLLISION = "possible_collision"
REVERSAL_CONFLICT = "reversal_conflict"

_Identity = tuple[str, datetime, str]
"""What is fixed for an event by contract: account and time, and its id."""


class Coordinates(NamedTuple):
    """Where a record stands in Kafka: its identity. The topic's UUID, so that a new topic is another one."""

    topic_id: str
    partition: int
    offset: int


class Version(NamedTuple):
    """A version of an event, told by its earliest copy; a single record is a version told by itself.

    The rules look at these fields only; `event` carries the whole content where the caller wants it back.
    """

    account_id: str
    event_ts: datetime
    event_type: str
    event_id: str
    content_hash: str
    business_key: str
    status: str
    revision: int | None
    original_event_id: str | None
    transaction_ref: str | None
    first_ingest_ts: datetime
    coordinates: Coordinates | None = None
    event: Event | None = None

    @property
    def arrival(self) -> tuple[datetime, Coordinates | None]:
        """Order of the copies of one version: by ingest time, then by coordinates, so that it is total."""
        return self.first_ingest_ts, self.coordinates

    @property
    def may_be_notice(self) -> bool:
        """REVERSED and naming an event: a notice, or a version of its own event that keeps a reference."""
        return self.status == REVERSED and self.original_event_id is not None


class FoldedEvent:
    """An event and its versions; `versions` is not empty, in version order."""

    def __init__(self, event_id: str, versions: Iterable[Version]) -> None:
        self.event_id = event_id
        self.versions = sorted(versions, key=version_order)

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
        """That of the highest-ranking version that carries one; a reversal's only if no other carries one."""
        highest_first = self.versions[::-1]
        live_first = sorted(highest_first, key=lambda v: v.status == REVERSED)
        return next((v.transaction_ref for v in live_first if v.transaction_ref is not None), None)

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
    def is_declined(self) -> bool:
        return self.winning.status == DECLINED

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
        event.account_id,
        event.event_ts,
        event.event_type,
        event.event_id,
        event.content_hash,
        event.business_key,
        event.status,
        event.revision,
        event.original_event_id,
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
    """Gather the versions of each event: those under its id, and the notices that name it."""
    versions = list(versions)
    types = _types_told(versions)
    by_id: dict[str, list[Version]] = defaultdict(list)
    for v in versions:
        by_id[_event_of(v, types)].append(v)
    return [FoldedEvent(event_id, of_event) for event_id, of_event in by_id.items()]


def fold_payments(events: Iterable[FoldedEvent]) -> list[Payment]:
    """Gather the events that share a business key and split them by transaction reference."""
    by_key: dict[str, list[FoldedEvent]] = defaultdict(list)
    for event in events:
        by_key[event.business_key].append(event)
    return list(chain.from_iterable(_payments_of(key, members) for key, members in by_key.items()))


def fold(copies: Iterable[Version]) -> list[Payment]:
    """curated = fold(raw): the payments of any records, in whatever order they come."""
    return fold_payments(fold_events(fold_versions(copies)))


def _types_told(versions: Iterable[Version]) -> dict[_Identity, set[str]]:
    """Say which events tell of themselves, and as what types; what may be a notice tells of none."""
    types: dict[_Identity, set[str]] = defaultdict(set)
    for v in versions:
        if not v.may_be_notice:
            types[v.account_id, v.event_ts, v.event_id].add(v.event_type)
    return types


def _event_of(version: Version, types: Mapping[_Identity, set[str]]) -> str:
    """Name the event that a version is of: a notice is of the event that it names, all else of its own.

    It is a notice if no event tells of itself under its own id, and one does under the id that it names, with
    the same account, time and type. So a REFUND that is reversed and goes on naming its CAPTURE takes back
    itself, not the CAPTURE.
    """
    if version.original_event_id is None or not version.may_be_notice:
        return version.event_id
    own = version.account_id, version.event_ts, version.event_id
    named = version.account_id, version.event_ts, version.original_event_id
    is_notice = own not in types and version.event_type in types.get(named, ())
    return version.original_event_id if is_notice else version.event_id


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
    shown = min(live or members, key=lambda m: (-m.highest_revision, m.is_declined))
    void = shown.is_reversed or members[0].is_reversed or any(m.is_only_reversed for m in members)
    flags = {
        AMBIGUOUS_REFERENCE: ambiguous,
        DECLINE_CONFLICT: len({m.is_declined for m in live}) > 1,
        ONLY_REVERSED: not live,  # it takes something back (transactions.py)
        POSSIBLE_COLLISION: reference is None and len(live or members) > 1,
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
