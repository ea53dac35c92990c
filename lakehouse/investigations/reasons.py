"""Why things are as they are, in words: which version wins, what makes one payment, what a flag means. Pure.

Belongs here: the fold's rules as sentences. Does not: the rules (`fold.py`), a story's order (`plot.py`).
"""

from __future__ import annotations

from typing import Any

from lakehouse.fold import (
    AMBIGUOUS_REFERENCE,
    DECLINE_CONFLICT,
    ONLY_REVERSED,
    POSSIBLE_COLLISION,
    REVERSAL_CONFLICT,
    FoldedEvent,
    Version,
    version_order,
)
from quality.contract import REVERSED

FLAGS = {
    AMBIGUOUS_REFERENCE: "an event without a reference joined the least of several",
    DECLINE_CONFLICT: "its events disagree on whether it was declined",
    ONLY_REVERSED: "it only takes something back",
    POSSIBLE_COLLISION: "several events without a reference: a resend cannot be told from a second payment",
    REVERSAL_CONFLICT: "its events disagree on whether it was taken back",
}
SAME_PAYMENT = "the same type, account, card, merchant, network, currency, amount and time"
_SHOWN = (
    "event_type", "account_id", "card_id", "merchant_id", "amount", "currency", "network", "status",
    "transaction_ref", "event_ts",
)  # fmt: skip


def why_above(winner: Version, loser: Version) -> str:
    """Say why one version of an event ranks above another: the first of the order's terms that differ."""
    for ours, theirs, reason in zip(version_order(winner), version_order(loser), _reasons(winner, loser)):  # noqa: B905
        if ours != theirs:
            return reason
    return "they are the same content"


def _reasons(winner: Version, loser: Version) -> tuple[str, ...]:
    return (
        "a reversal without a revision ranks above every other version",
        f"{_revision(winner)} ranks above {_revision(loser)}",
        "of the same revision, a reversal ranks above the rest",
        "of the same rank, the one that was ingested later wins",
        "they were ingested at the same microsecond: the greater content hash decides",
    )


def why_member(event: FoldedEvent, others: int) -> str:
    """Say why an event is part of a payment that has other events."""
    if event.transaction_ref is None:
        return f"{SAME_PAYMENT} as {_events(others)}, and no reference of its own"
    return f"{SAME_PAYMENT} as {_events(others)}, and no other reference"


def differences(old: Version, new: Version) -> tuple[str, ...]:
    """Name the fields of the content in which two versions differ, the old value first."""
    if old.event is None or new.event is None:
        return ()
    before, after = old.event._asdict(), new.event._asdict()
    named = tuple(change(name, before[name], after[name]) for name in _SHOWN if before[name] != after[name])
    return named if old.event.attributes == new.event.attributes else (*named, "other attributes")


def change(name: str, before: Any, after: Any) -> str:
    """Write one field's change."""
    return f"{name} {value(before)} -> {value(after)}"


def value(given: Any) -> str:
    """Write one value of a row."""
    if given is None:
        return "none"
    if isinstance(given, list | tuple):
        return ", ".join(map(str, given)) or "none"
    return str(given)


def said(version: Version) -> str:
    """Say in a few words what a version tells."""
    event = version.event
    assert event is not None
    revision = "" if version.revision is None else f", revision {version.revision}"
    what = f"{event.event_type} of {event.amount} {event.currency} at {event.merchant_id}"
    return f"{what}, {event.status}{revision}"


def is_reversal(version: Version) -> bool:
    return version.status == REVERSED


def _revision(version: Version) -> str:
    return "no revision" if version.revision is None else f"revision {version.revision}"


def _events(count: int) -> str:
    return "another event" if count == 1 else f"{count} other events"
