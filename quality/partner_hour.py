"""The figures of one partner's hour, and which of them are unusual beside the same hour of the weeks before.

Belongs here: what is compared. Does not: how (`history.py`), what is counted (`profile.py`), reading counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from quality.bins import WIDTH, quantile
from quality.history import Comparison, Figure, compare, count, share, size
from quality.profile import ABSENT, AMOUNT, BROKEN, CATEGORIES, DELAY, LATE, RECORDS, VALID, WARNED, Counted

WEEK = timedelta(weeks=1)
WEEKS = 12  # of history: what is older tells of another time
VOLUME, QUARANTINED, REDELIVERED = "volume", "quarantined share", "redelivered share"
_QUANTILES = {"median": 0.5, "90th percentile": 0.9}
_ENOUGH = 10  # records on each side: the rank of a quantile is nearly normal then
_RESOLUTION = math.log(WIDTH) / math.sqrt(12)  # of a number that may stand anywhere in its bin

_Distribution = list[tuple[float, int]]


@dataclass(frozen=True)
class Hour:
    """What was counted of one partner's hour; an hour without a record has no counts.

    `redelivered`: records that were copies of a version that there was; None: not known.
    """

    counts: Mapping[Counted, int] = field(default_factory=dict)
    redelivered: int | None = None

    def of(self, measure: str, value: str = "") -> int:
        return self.counts.get((measure, value), 0)


class Anomaly(NamedTuple):
    """A figure of one partner's Kafka hour that is unusual, beside what was expected."""

    hour: datetime
    source: str
    metric: str
    comparison: Comparison


class Finding(NamedTuple):
    """A figure with a name, beside its history; no comparison: there is too little of it."""

    metric: str
    comparison: Comparison | None


def hours_before(hour: datetime, since: datetime) -> list[datetime]:
    """List the same hour of the weeks before, back to the partner's first one."""
    earlier = (hour - week * WEEK for week in range(1, WEEKS + 1))
    return [moment for moment in earlier if moment >= since]


def look_at(now: Hour, history: Sequence[Hour]) -> list[Finding]:
    """Compare every figure of an hour with its history, in whatever order that is given."""
    everything: Counter[Counted] = Counter(now.counts)
    for hour in history:
        everything.update(hour.counts)
    shares = [key for key in sorted(everything) if key[0] in (ABSENT, WARNED, *CATEGORIES)]
    spreads = _distributions(everything)
    before = [_figures(hour, shares, spreads) for hour in history]
    return [
        Finding(metric, compare(figure, [known[metric] for known in before if metric in known]))
        for metric, figure in _figures(now, shares, spreads).items()
    ]


def _figures(
    hour: Hour, shares: Sequence[Counted], spreads: Mapping[str, _Distribution]
) -> dict[str, Figure]:
    """The figures of an hour; what it has too few records for is left out."""
    records, valid = hour.of(RECORDS), hour.of(VALID)
    found = {VOLUME: count(records)}
    if records:
        found[QUARANTINED] = share(hour.of(BROKEN), records)
        if hour.redelivered is not None:
            found[REDELIVERED] = share(hour.redelivered, records)
    if valid:
        found["late share"] = share(hour.of(LATE), valid)
        for measure, value in shares:
            found[f"{measure} {value}"] = share(hour.of(measure, value), valid)
    for name, numbers in _distributions(hour.counts).items():
        found.update(_quantiles(name, numbers, spreads[name]))
    return found


def _quantiles(name: str, numbers: _Distribution, spread: _Distribution) -> Iterator[tuple[str, Figure]]:
    """Quantiles of an hour; how far chance moves each is seen in the spread of all hours together."""
    records = sum(many for _, many in numbers)
    for called, rank in _QUANTILES.items():
        if records * min(rank, 1 - rank) < _ENOUGH:
            continue
        error = math.sqrt(rank * (1 - rank) / records)
        low, high = (math.log1p(quantile(spread, rank + side * error)) for side in (-1, 1))
        yield f"{name} {called}", size(quantile(numbers, rank), max((high - low) / 2, _RESOLUTION))


def _distributions(counts: Mapping[Counted, int]) -> dict[str, _Distribution]:
    """Sort binned counts by what they are of: amounts by currency, delays."""
    found: dict[str, _Distribution] = {}
    for (measure, value), records in sorted(counts.items()):
        if measure in (AMOUNT, DELAY):
            currency, _, bound = value.rpartition(" ")
            name = f"amount {currency}" if measure == AMOUNT else "arrival delay"
            found.setdefault(name, []).append((float(bound), records))
    return found


def figure_text(metric: str, value: float) -> str:
    """Write a figure for people: shares in per cent, delays in seconds, counts whole."""
    if metric == VOLUME:
        return f"{value:,.0f}"
    if metric.startswith("amount "):
        return f"{value:,.2f}"
    return f"{value:,.3g} s" if metric.startswith("arrival delay") else f"{value:.2%}"
