"""Surges of broken records: each partner's share among its latest records, and what that comes to. Pure.

Belongs here: the window that is remembered and the shares. Does not: what is done about them (`policy.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from statistics import median_low
from typing import NamedTuple

from quality.policy import SLICE_SURGE, SURGE, gate

# Fewer records of a partner than this say nothing about it.
LEAST_RECORDS = 200
# Of earlier batches so many records of a partner are looked at: a large one is judged by what it sends now.
ENOUGH_RECORDS = 1000
# A partner that sent nothing for so many batches says nothing about today.
BATCHES = 50
_SHARE = Decimal("0.0001")
Source = str | None
"""A partner (header ce_source); None: records that name none."""


class Tally(NamedTuple):
    """How many records, and how many of them break the contract."""

    records: int
    broken: int

    @property
    def share(self) -> Decimal:
        """The broken ones among them, to four places."""
        return (Decimal(self.broken) / Decimal(self.records)).quantize(_SHARE)

    def plus(self, other: Tally) -> Tally:
        """Add two up."""
        return Tally(self.records + other.records, self.broken + other.broken)


Counts = Mapping[Source, Tally]


class Window:
    """The latest records of each partner, batch by batch: a small batch by itself is too few to judge."""

    def __init__(self) -> None:
        self._batches: deque[dict[Source, Tally]] = deque(maxlen=BATCHES)
        self._slow: dict[Source, Tally] = {}

    def with_batch(self, counts: Counts, held: Collection[Source] = ()) -> dict[Source, Tally]:
        """Tally the partners of which enough is known, a batch at hand included (whole, and never cut).

        Args:
            held: partners that are held now. One of little traffic is judged by enough records however long
                it takes to send them: nothing else would ever let it go.
        """
        sources = set(counts).union(*self._batches)
        latest = {source: self._latest(source, counts) for source in sources}
        known = {source: tally for source, tally in latest.items() if tally.records >= LEAST_RECORDS}
        slow = {source: self._slowly(source, counts) for source in held if source not in known}
        return known | {source: tally for source, tally in slow.items() if tally.records >= LEAST_RECORDS}

    def add(self, counts: Counts, held: Collection[Source] = ()) -> None:
        """Remember a batch, and which partners are held after it."""
        self._batches.append(dict(counts))
        slow = {source: self._slowly(source, counts) for source in held}
        self._slow = {source: tally for source, tally in slow.items() if tally.records < LEAST_RECORDS}

    def forget(self, source: Source) -> None:
        """Judge a partner by later records only."""
        for batch in self._batches:
            batch.pop(source, None)
        self._slow.pop(source, None)

    def _slowly(self, source: Source, counts: Counts) -> Tally:
        nothing = Tally(0, 0)
        return self._slow.get(source, nothing).plus(counts.get(source, nothing))

    def _latest(self, source: Source, counts: Counts) -> Tally:
        nothing = Tally(0, 0)
        total = counts.get(source, nothing)
        for batch in reversed(self._batches):
            if total.records >= ENOUGH_RECORDS:
                break
            total = total.plus(batch.get(source, nothing))
        return total


def surging(found: Counts) -> Iterator[Source]:
    """Name the partners over their limit."""
    limit = gate(SLICE_SURGE).limit
    assert limit is not None
    yield from (source for source, tally in found.items() if tally.share > limit)


def middle_share(found: Counts) -> Decimal:
    """The share of the partner in the middle: no single one, however large, decides. 0 for fewer than two."""
    return median_low(tally.share for tally in found.values()) if len(found) > 1 else Decimal(0)


def is_general(found: Counts) -> bool:
    """Tell whether the surge is one over all partners."""
    limit = gate(SURGE).limit
    assert limit is not None
    return middle_share(found) > limit
