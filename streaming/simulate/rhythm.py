"""When payments happen: the daily rhythm, and the window that generated events fall into.

Belongs here: time of events. Does not: delays of their arrival (`journeys.py`, `dirt.py`).
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from streaming.simulate.draft import HOUR

# Relative rate of payments per hour of the day, UTC: Europe's and America's days on top of each other.
_RATE = (45, 35, 28, 24, 22, 25, 32, 42, 55, 65, 74, 84, 92, 96, 97, 96, 97, 100, 98, 94, 88, 80, 70, 57)
_STEPS = 720


def default_start(span: timedelta, now: datetime | None = None) -> datetime:
    """Where the window begins unless told: it ends a full day before today's midnight (UTC).

    So every line of a late tail of 24 hours lies in the past, and a whole day gives the same bytes.
    """
    today = (now or datetime.now(UTC)).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(hours=24) - span


class Rhythm:
    """Maps a position in the stream (0 to 1) to a moment of the window, denser where the day is busier."""

    def __init__(self, start_us: int, span_us: int) -> None:
        self._start_us = start_us
        self._step_us = span_us / _STEPS
        weights = [_RATE[int((start_us + i * self._step_us) // HOUR) % 24] for i in range(_STEPS)]
        total = sum(weights)
        self._cumulative = [0.0, *(part / total for part in accumulate(weights))]

    def at(self, position: float) -> int:
        """Microseconds since 1970 of a position in [0, 1); increasing in the position."""
        step = min(bisect_right(self._cumulative, position), _STEPS) - 1
        low, high = self._cumulative[step], self._cumulative[step + 1]
        return self._start_us + int((step + (position - low) / (high - low)) * self._step_us)
