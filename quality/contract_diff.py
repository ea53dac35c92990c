"""What another contract would make of a record: two verdicts compared.

Belongs here: naming what differs. Does not: judging (`judge.py`), adding up over a table (`streaming/`).
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from quality.contract import Event, Violation

REJECTED, ACCEPTED, OTHER_CONTENT, OTHER_RULES = "rejected", "accepted", "other content", "other rules"

Verdict = Event | list[Violation]
"""What `judge` returns."""


class Change(NamedTuple):
    """What differs for one record.

    change: `rejected` (it was accepted), `accepted` (it was rejected), `other content` (accepted by both),
        or `other rules` (rejected by both).
    rules: what it breaks, sorted: by the other contract if that rejects it, else by the one in force.
    event_type, currency, amount: of the event, by the other contract if that accepts it; null if both reject.
    """

    change: str
    rules: str
    event_type: str | None
    currency: str | None
    amount: Decimal | None


def difference(before: Verdict, after: Verdict) -> Change | None:
    """Compare the verdicts of two contracts on one record; None where they agree."""
    if before == after:
        return None
    if isinstance(after, Event):
        is_new = not isinstance(before, Event)
        rules = "" if isinstance(before, Event) else _rules(before)
        return _change(ACCEPTED if is_new else OTHER_CONTENT, rules, after)
    if isinstance(before, Event):
        return _change(REJECTED, _rules(after), before)
    return Change(OTHER_RULES, _rules(after), None, None, None)


def _change(change: str, rules: str, event: Event) -> Change:
    return Change(change, rules, event.event_type, event.currency, event.amount)


def _rules(violations: list[Violation]) -> str:
    return ", ".join(sorted({f"{v.rule} {v.field}".strip() for v in violations}))
