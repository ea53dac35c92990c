"""Logarithmic bins: a distribution as counts that add up exactly, over batches and hours.

Belongs here: which bin a number falls into, and quantiles of binned counts. Does not: what is counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache

# Eight to a decade, each about a third wider than the one before; decimal, so that nothing is rounded.
STEPS = tuple(map(Decimal, ("1", "1.3", "1.8", "2.4", "3.2", "4.2", "5.6", "7.5")))
WIDTH = 1.334  # upper over lower bound of a bin, nearly


def bin_of(number: Decimal) -> str:
    """Name the bin of a number by its lower bound, as text; all that is not above 0 is `0`."""
    if number <= 0:
        return "0"
    exponent = number.adjusted()
    return _bound(exponent, bisect_right(STEPS, number.scaleb(-exponent)) - 1)


@lru_cache(maxsize=1024)
def _bound(exponent: int, step: int) -> str:
    text = format(STEPS[step].scaleb(exponent), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def quantile(counts: Iterable[tuple[float, int]], share: float) -> float:
    """Find the value below which a share (0 to 1) of the counted numbers lies.

    Args:
        counts: lower bound of a bin, how many numbers fell into it; any order, at least one number in all.

    Within a bin the numbers are taken to lie evenly on the logarithmic scale.
    """
    bins = sorted((bound, count) for bound, count in counts if count)
    left = share * sum(count for _, count in bins)
    for bound, count in bins:
        if left <= count:
            return bound * float(WIDTH ** (left / count))
        left -= count
    return bins[-1][0] * WIDTH
