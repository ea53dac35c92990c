"""Random histories: everything partners do to a few payments of one account, in a few records.

Belongs here: making them, from any source of chance. Does not: what they come to (`reference.py`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from tests.events import event_id, wire

NAMES = ("e1", "e2", "e3", "e4", "e5")
MOST_RECORDS = 14
# What is usual comes several times: histories in which nothing meets anything would show nothing.
_CHOICES: dict[str, tuple[Any, ...]] = {
    "event_type": ("CAPTURE",) * 4 + ("REFUND", "AUTH", "CHARGEBACK"),
    "amount": ("100", "100.00", "100", "90", "1e2", "0.01"),
    "currency": ("USD",) * 5 + ("EUR",),
    "merchant_id": ("shop-1",) * 5 + ("shop-2",),
    "status": ("APPROVED",) * 4 + ("REVERSED",) * 3 + ("DECLINED",),
    "revision": (None,) * 4 + (0, 1, 2, 2),
    "transaction_ref": (None, None, "T1", "T1", "T2"),
    "attributes": ({}, {}, {}, {"note": "again"}),
}
_NAMED = (None, None, None, "e1", "e1", "e2")


class History:
    """Records of one account, in no order; `start` is when its first events happened.

    An event's account and time never change, so there are no identity conflicts. Some events share a time.
    """

    def __init__(self, rng: random.Random, account: str, start: datetime) -> None:
        self._rng = rng
        self._account = account
        self._start = start
        self._seconds = {name: rng.choice((0, 0, 0, 1)) for name in NAMES}
        count = rng.randint(1, MOST_RECORDS)
        self.records = [self._again() if rng.random() < 0.15 else self._any() for _ in range(count)]

    def _any(self) -> bytes:
        """A record about one of the events: its first version, a correction, reversal, notice or decline."""
        name = self._rng.choice(NAMES)
        self._last = name, {field: self._rng.choice(values) for field, values in _CHOICES.items()}
        named = self._rng.choice(_NAMED)
        if named is not None and named != name:
            self._last[1]["original_event_id"] = event_id(f"{self._account}/{named}")
        return self._record(*self._last)

    def _again(self) -> bytes:
        """The last record again, with a fresh ingest time."""
        return self._record(*self._last) if hasattr(self, "_last") else self._broken()

    def _broken(self) -> bytes:
        return self._record(self._rng.choice(NAMES), {"amount": "-1"})

    def _record(self, name: str, changes: dict[str, Any]) -> bytes:
        happened = self._start + timedelta(seconds=self._seconds[name])
        ingested = happened + timedelta(minutes=self._rng.randint(0, 3))  # often equal to another's
        times = {"event_ts": happened.isoformat(), "ingest_ts": ingested.isoformat()}
        return wire(f"{self._account}/{name}", account_id=self._account, **times, **changes)


def histories(rng: random.Random, count: int, start: datetime) -> list[bytes]:
    """Records of so many accounts, all mixed."""
    records = [r for n in range(count) for r in History(rng, f"acct-{n}", start).records]
    rng.shuffle(records)
    return records


def mixed(rng: random.Random, records: Iterable[Any]) -> list[Any]:
    """The same in another order."""
    mixed = list(records)
    rng.shuffle(mixed)
    return mixed
