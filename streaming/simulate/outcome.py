"""What a generated stream must come to: counts and sums, kept by construction while it is written.

Belongs here: the expected outcome. Does not: the rules of the fold; whoever adds dirt says what it does.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from streaming.simulate.draft import Draft

_SCALE = 4  # as in the tables: DECIMAL(19,4)


@dataclass(frozen=True)
class Effect:
    """What dirt adds to one clean event: further records, and what they do to its payment.

    `drafts` are the further records, each a version; `new_events` of them are events of their own, which join
    the same payment. `minor` is the payment's amount after them, in the currency's minor units.
    """

    drafts: list[Draft]
    minor: int
    new_events: int = 0
    is_reversed: bool = False


@dataclass
class Outcome:
    """Counts after the lines so far; `as_dict` gives what `--expect` writes."""

    redelivered: int = 0
    versions: int = 0
    events: int = 0
    payments: int = 0
    quarantined: int = 0
    reversed_payments: int = 0
    _sums: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))

    @property
    def records(self) -> int:
        return self.redelivered + self.versions + self.quarantined

    def add_payment(self, clean: Draft, effect: Effect) -> None:
        """Count a clean event, a payment of its own, and what dirt did to it."""
        self.versions += 1 + len(effect.drafts)
        self.events += 1 + effect.new_events
        self.payments += 1
        if effect.is_reversed:
            self.reversed_payments += 1
        else:
            key = clean.fields["currency"], clean.fields["event_type"]
            self._sums[key] += effect.minor * 10 ** (_SCALE - clean.scale)

    def as_dict(self) -> dict[str, Any]:
        """Counts, and exact sums (strings, four decimals) over the payments that are not REVERSED."""
        amounts: dict[str, dict[str, str]] = {}
        for (currency, event_type), units in sorted(self._sums.items()):
            amounts.setdefault(currency, {})[event_type] = _text(units)
        return {
            "records": self.records,
            "redelivered": self.redelivered,
            "versions": self.versions,
            "superseded": self.versions - self.events,
            "events": self.events,
            "duplicates": self.events - self.payments,
            "payments": self.payments,
            "quarantined": self.quarantined,
            "reversed_payments": self.reversed_payments,
            "amount": _text(sum(self._sums.values())),
            "amounts": amounts,
        }


def _text(units: int) -> str:
    # from the integer's own digits: arithmetic on a Decimal would round at the context's precision
    return format(Decimal((0, tuple(map(int, str(units))), -_SCALE)), "f")
