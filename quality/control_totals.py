"""Control totals: what a partner says that a file comes to, per currency and type of event. Pure.

Belongs here: reading and writing them. Does not: holding them against anything
(`streaming/reconcile/files.py`).

In a manifest they are a list, one object for each currency and type that the file has:

    "totals": [{"currency": "EUR", "event_type": "CAPTURE", "count": 2, "amount": "129.90"}]
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from typing import Any

# Digits before the point as in a sum of ours, and its four after it; the sign: a total may be corrected.
_AMOUNT = re.compile(r"-?\d{1,24}(\.\d{1,4})?")
_CURRENCY, _TYPE = re.compile(r"[A-Z]{3}"), re.compile(r"[A-Z]{1,20}")
MOST = 1000


class WrongTotals(ValueError):
    """Text or JSON that is no list of control totals; says which part is wrong, and never a value."""


@dataclass(frozen=True, order=True)
class ControlTotal:
    """How many events of one currency and type, and what their amounts add up to."""

    currency: str
    event_type: str
    count: int
    amount: Decimal

    @property
    def kind(self) -> tuple[str, str]:
        """Currency and type."""
        return self.currency, self.event_type


_NAMES = [field.name for field in fields(ControlTotal)]


def read_totals(said: Any) -> tuple[ControlTotal, ...]:
    """Read totals from parsed JSON. Raises WrongTotals."""
    if not isinstance(said, list) or len(said) > MOST:
        raise WrongTotals(f"a list of at most {MOST} is wanted")
    totals = tuple(_total(item, f"totals[{i}]") for i, item in enumerate(said))
    if len({total.kind for total in totals}) < len(totals):
        raise WrongTotals("a currency and event_type stand there twice")
    return totals


def totals_from(text: str) -> tuple[ControlTotal, ...]:
    """Read what `totals_text` wrote."""
    return read_totals(json.loads(text))


def totals_text(totals: Iterable[ControlTotal]) -> str:
    """Write totals as JSON, sorted."""
    said = [{**asdict(total), "amount": str(total.amount)} for total in sorted(totals)]
    return json.dumps(said, separators=(",", ":"))


def _total(item: Any, where: str) -> ControlTotal:
    if not isinstance(item, dict) or item.keys() != set(_NAMES):
        raise WrongTotals(f"{where} must have {', '.join(_NAMES)}, and nothing else")
    count = item["count"]
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise WrongTotals(f"{where}.count is no count")
    texts = (("currency", _CURRENCY), ("event_type", _TYPE), ("amount", _AMOUNT))
    for name, pattern in texts:
        if not isinstance(item[name], str) or not pattern.fullmatch(item[name]):
            raise WrongTotals(f'{where}.{name} is none; write it as text, like "EUR", "CAPTURE", "129.90"')
    return ControlTotal(item["currency"], item["event_type"], count, Decimal(item["amount"]))
