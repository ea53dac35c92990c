"""Rows of curated.payments and curated.transactions, folded from versions by the reference. Pure.

Belongs here: the tables' columns from what the fold gives, and the other way. Does not: any rule (`fold.py`,
`transactions.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lakehouse.fold import (
    ONLY_REVERSED,
    Coordinates,
    FoldedEvent,
    Payment,
    Version,
    fold_events,
    fold_payments,
    fold_versions,
)
from lakehouse.investigations.judged import coordinates_of
from lakehouse.transactions import Part, TransactionKey, fold_parts
from quality.contract import Event

Row = dict[str, Any]
PaymentKey = tuple[str, str | None]


class Transport:
    """What the tables say of a version's earliest copy beside its content: partner and topic."""

    def __init__(self) -> None:
        self._known: dict[Coordinates, tuple[str | None, str]] = {}

    def add(self, where: Coordinates, source: str | None, topic: str) -> None:
        self._known[where] = source, topic

    def of(self, version: Version) -> Row:
        assert version.coordinates is not None
        source, topic = self._known[version.coordinates]
        return {"source": source, "topic": topic, **version.coordinates._asdict()}


def version_of(row: Mapping[str, Any]) -> Version:
    """Read a row of curated.event_versions as the version that the fold takes, content and all."""
    content = {name: row[name] for name in Event._fields if name != "ingest_ts"}
    event = Event(**content, ingest_ts=row["first_ingest_ts"])
    named = {name: row[name] for name in Version._fields if name not in ("coordinates", "event")}
    return Version(**named, coordinates=coordinates_of(row), event=event)


def folded(copies: Iterable[Version]) -> tuple[list[FoldedEvent], list[Payment]]:
    """Fold copies to events and payments."""
    events = fold_events(fold_versions(copies))
    return events, fold_payments(events)


def payment_row(payment: Payment, transport: Transport) -> Row:
    """Render a payment as a row of curated.payments, column by column."""
    shown = payment.row
    assert shown.event is not None
    row = shown.event._asdict() | transport.of(shown)
    row |= {"first_ingest_ts": shown.first_ingest_ts, "status": payment.status}
    row |= {"business_key": payment.business_key, "transaction_ref": payment.transaction_ref}
    row |= {"event_ids": list(payment.event_ids), "flags": list(payment.flags)}
    del row["ingest_ts"]  # of one copy: no column of a curated table
    return row


def transaction_rows(payments: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Fold rows of payments to rows of curated.transactions; all payments of each must be among them."""
    return [t._asdict() | {"flags": list(t.flags)} for t in fold_parts(map(_part, payments))]


def payment_key(row: Mapping[str, Any]) -> PaymentKey:
    """What names a payment."""
    return row["business_key"], row["transaction_ref"]


def _part(row: Mapping[str, Any]) -> Part:
    reference = row["transaction_ref"]
    alone = row["business_key"] if reference is None else None
    key = TransactionKey(row["account_id"], reference, row["currency"], alone)
    return Part(key, row["event_type"], row["amount"], row["status"], ONLY_REVERSED in row["flags"])
