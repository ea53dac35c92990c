"""Is a figure unusual beside its own history? Median, MAD and what chance alone does; no limit on any value.

Belongs here: the comparison of a figure with earlier ones. Does not: which figures there are
(`partner_hour.py`), where the history is kept.

A figure is unusual if it is further from the median of its history than an ordinary hour would be in one case
of `ODDS`. How far that is follows from how much the history itself varies, from how many records the figures
stand on, and from how many hours of history there are. A steady growth varies the history as well, so it does
not alarm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist, median
from typing import NamedTuple

ODDS = 1_000
LEAST_HISTORY = 5  # of fewer hours nobody knows how much they vary
_MAD_TO_SIGMA = 1.4826
_Z = NormalDist().inv_cdf(1 - 0.5 / ODDS)


class Figure(NamedTuple):
    """A figure of one hour.

    `y` is the value on a scale on which chance moves it as much wherever it stands, `noise` how far that is
    (one standard deviation), `back` the way from that scale to the value's own.
    """

    value: float
    y: float
    noise: float
    back: Callable[[float], float]


class Comparison(NamedTuple):
    """A figure beside its history: the median, the range that is usual, and how far off it is.

    `off` counts in limits: up to 1 is usual. `history` is the number of hours that it was compared with.
    """

    value: float
    expected: float
    low: float
    high: float
    off: float
    history: int

    @property
    def is_unusual(self) -> bool:
        return self.off > 1


def count(records: int) -> Figure:
    """A number of records, which chance moves by its square root; on the scale of Anscombe (1948)."""
    return Figure(records, math.sqrt(records + 0.375), 0.5, _from_root)


def size(value: float, noise: float) -> Figure:
    """An amount or a time of 0 or more; `noise` in shares of it."""
    return Figure(value, math.log1p(value), noise, _from_log)


def share(part: int, records: int) -> Figure:
    """The share of so many records (0 or more) that have something, on his scale too."""
    y = math.asin(math.sqrt((part + 0.375) / (records + 0.75)))
    return Figure(part / max(records, 1), y, 0.5 / math.sqrt(records + 0.5), _from_angle)


def compare(now: Figure, history: Sequence[Figure]) -> Comparison | None:
    """Compare a figure with earlier ones, in any order. None: not known yet, there is too little history."""
    if len(history) < LEAST_HISTORY:
        return None
    before = sorted(figure.y for figure in history)
    middle = median(before)
    varied = _sigma(before, middle) ** 2 * (1 + 1 / len(before))
    chance = now.noise**2 + math.fsum(figure.noise**2 for figure in history) / len(history) ** 2
    limit = _limit(varied, chance, len(before) / 2) * math.sqrt(varied + chance)
    return Comparison(
        now.value,
        now.back(middle),
        now.back(middle - limit),
        now.back(middle + limit),
        abs(now.y - middle) / limit,
        len(history),
    )


def _sigma(values: Sequence[float], middle: float) -> float:
    """Standard deviation by the MAD, which comes out too small for few values (Croux and Rousseeuw 1992)."""
    spread = median(abs(y - middle) for y in values)
    return _MAD_TO_SIGMA * spread * len(values) / (len(values) - 0.8)


def _limit(varied: float, chance: float, freedom: float) -> float:
    """How many standard deviations one case in `ODDS` exceeds: Student's t, nearly (Gaver and Kafadar 1984).

    How much chance varies is known; how much the history varies is an estimate from a few hours. The more of
    the variance comes from it, the fewer degrees of freedom there are (Welch and Satterthwaite).
    """
    degrees = freedom * (1 + chance / varied) ** 2 if varied else math.inf
    if degrees > 1e6:
        return _Z
    return math.sqrt(degrees * math.expm1(_Z**2 * (degrees - 1.5) / (degrees - 1) ** 2))


def _from_root(y: float) -> float:
    return max(max(y, 0.0) ** 2 - 0.375, 0.0)


def _from_log(y: float) -> float:
    return max(math.expm1(y), 0.0)


def _from_angle(y: float) -> float:
    return math.sin(min(max(y, 0.0), math.pi / 2)) ** 2
