"""What late records changed in an event hour: the fold of what was known then, against the fold of all.

Belongs here: finding late versions and comparing both folds, payment by payment.
Does not: when an hour is closed (`arrivals_sql.py`), the rules of the fold (`fold.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any, NamedTuple

from pyiceberg.catalog.rest import RestCatalog

from lakehouse.arrivals_sql import HOUR
from lakehouse.definitions import VERSIONS
from lakehouse.fold import Coordinates, Payment, Version, fold_events, fold_payments
from lakehouse.moments import Moment
from lakehouse.offsets import OffsetVector
from lakehouse.query import run_query
from lakehouse.refs import read_head
from quality.contract import REVERSED

_GROUP = (
    "account_id",
    "event_ts",
)  # versions and payments of different ones have nothing to do with each other
_DECIDING = tuple(f for f in Version._fields if f not in ("coordinates", "event"))
_RECORD = ("original_event_id", "source", "topic", "kafka_ts", *Coordinates._fields)
_COLUMNS = tuple(dict.fromkeys((*_GROUP, *_DECIDING, "event_type", "amount", "currency", *_RECORD)))
_ZERO = Decimal("0.0000")


class LateVersion(NamedTuple):
    """A version whose earliest copy Kafka took after the moment, and that copy's coordinates."""

    event_id: str
    original_event_id: str | None
    content_hash: str
    business_key: str
    kafka_ts: datetime
    source: str | None
    topic: str
    coordinates: Coordinates


class State(NamedTuple):
    """A payment as one of the folds has it. The content hash stands for the content that it shows."""

    event_type: str
    amount: Decimal
    currency: str
    status: str
    event_id: str
    content_hash: str
    event_ids: tuple[str, ...]
    flags: tuple[str, ...]


class Change(NamedTuple):
    """A payment that late versions added (no `before`), removed (no `after`) or changed, and which ones."""

    account_id: str
    event_ts: datetime
    business_key: str
    transaction_ref: str | None
    before: State | None
    after: State | None
    because_of: tuple[LateVersion, ...]


class Sum(NamedTuple):
    """Money in the changed payments of one type and currency that are not REVERSED, before and after."""

    event_type: str
    currency: str
    before: Decimal
    after: Decimal


@dataclass(frozen=True)
class Changes:
    """What changed in the event hour that starts at `hour`, by versions that Kafka took after `since`.

    As of one snapshot of event_versions, its offsets, and the Kafka time up to which it says to hold all.
    """

    hour: datetime
    since: datetime
    snapshot_id: int
    offsets: OffsetVector
    complete_to: datetime | None
    late: tuple[LateVersion, ...]
    changes: tuple[Change, ...]

    @property
    def sums(self) -> list[Sum]:
        """The money in the changed payments, by type and currency."""
        totals: dict[tuple[str, str], list[Decimal]] = defaultdict(lambda: [_ZERO, _ZERO])
        for change in self.changes:
            for side, state in enumerate((change.before, change.after)):
                if state is not None:
                    live = state.amount if state.status != REVERSED else _ZERO
                    totals[state.event_type, state.currency][side] += live
        return [Sum(*key, *both) for key, both in sorted(totals.items())]


def changes_of_hour(
    catalog: RestCatalog, properties: Mapping[str, str], hour: datetime, since: datetime
) -> Changes:
    """Compare the payments of an event hour as known at Kafka time `since` with those known now.

    Reads the hour's partitions of event_versions only. The time of a version is that of its earliest copy by
    ingest time: a copy that came late but was ingested earlier makes its version late.
    """
    head = read_head(catalog, VERSIONS)
    pinned = Moment(snapshots={VERSIONS: head.snapshot.snapshot_id})
    found = run_query(catalog, properties, _sql(hour, since), pinned)
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    late, changes = compare(rows, since)
    snapshot_id, complete_to = head.snapshot.snapshot_id, head.progress.complete_to
    return Changes(hour, since, snapshot_id, head.offsets, complete_to, late, changes)


def compare(
    rows: Iterable[Mapping[str, Any]], since: datetime
) -> tuple[tuple[LateVersion, ...], tuple[Change, ...]]:
    """Find the late versions and what they changed. Pure.

    Args:
        rows: every version (columns of event_versions) of each group of account and event time, by group.
        since: versions that Kafka took later are late; one without a Kafka time is not.
    """
    late: list[LateVersion] = []
    changes: list[Change] = []
    for _, of_group in groupby(rows, lambda row: tuple(row[column] for column in _GROUP)):
        group = list(of_group)
        news = [row for row in group if row["kafka_ts"] is not None and row["kafka_ts"] > since]
        told = sorted((_late(row) for row in news), key=lambda v: (v.kafka_ts, v.coordinates))
        late += told
        changes += _changes(group, [row for row in group if row not in news], told)
    return tuple(late), tuple(changes)


def _changes(
    group: list[Mapping[str, Any]], known: list[Mapping[str, Any]], late: list[LateVersion]
) -> Iterable[Change]:
    account_id, event_ts = (group[0][column] for column in _GROUP)
    before, after = _fold(known), _fold(group)
    for key in sorted(before.keys() | after.keys(), key=lambda k: (k[0], k[1] or "")):
        old, new = before.get(key), after.get(key)
        if old != new:
            yield Change(account_id, event_ts, *key, old, new, _causes(key[0], old, new, late))


def _fold(rows: list[Mapping[str, Any]]) -> dict[tuple[str, str | None], State]:
    shown = {(row["event_id"], row["content_hash"]): row for row in rows}
    versions = (Version(**{column: row[column] for column in _DECIDING}) for row in rows)
    payments = fold_payments(fold_events(versions))
    return {
        (p.business_key, p.transaction_ref): _state(p, shown[p.row.event_id, p.row.content_hash])
        for p in payments
    }


def _state(payment: Payment, row: Mapping[str, Any]) -> State:
    return State(
        row["event_type"],
        row["amount"],
        row["currency"],
        payment.status,
        payment.row.event_id,
        payment.row.content_hash,
        payment.event_ids,
        payment.flags,
    )


def _causes(
    business_key: str, old: State | None, new: State | None, late: list[LateVersion]
) -> tuple[LateVersion, ...]:
    """Name the late versions of its events or its key; where others had to do with it, all of the group."""
    members = {event_id for state in (old, new) if state is not None for event_id in state.event_ids}
    own = [
        v
        for v in late
        if v.business_key == business_key or not members.isdisjoint({v.event_id, v.original_event_id})
    ]
    return tuple(own or late)


def _late(row: Mapping[str, Any]) -> LateVersion:
    named = {field: row[field] for field in LateVersion._fields if field in row}
    return LateVersion(**named, coordinates=Coordinates(*(row[c] for c in Coordinates._fields)))


def _sql(hour: datetime, since: datetime) -> str:
    start, end, moment = (f"TIMESTAMPTZ '{t.isoformat()}'" for t in (hour, hour + HOUR, since))
    columns, group = ", ".join(f'"{c}"' for c in _COLUMNS), ", ".join(_GROUP)
    return f"""
        WITH of_hour AS (
          SELECT {columns} FROM {VERSIONS} WHERE event_ts >= {start} AND event_ts < {end}
        ), late AS (
          SELECT DISTINCT {group} FROM of_hour WHERE kafka_ts > {moment}
        )
        SELECT * FROM of_hour SEMI JOIN late USING ({group})
        ORDER BY {group}, event_id, content_hash
    """  # noqa: S608
