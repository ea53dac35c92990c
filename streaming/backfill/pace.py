"""Giving way to the live job: a backfill waits while readers of payments would wait for fresh records.

Belongs here: that wait, which is bounded. Does not: the tag `hold`, which each publish honours by itself
(`lakehouse/turns.py`). Correctness depends on neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import structlog
from pyiceberg.catalog.rest import RestCatalog

from lakehouse.definitions import PAYMENTS, RAW
from lakehouse.offsets import OffsetVector
from lakehouse.refs import Head, read_head

_POLL_SECONDS = 2.0
# A live job that stands still this long is not at work: waiting for it would help nobody.
_STILL_SECONDS = 60.0
_LONGEST_SECONDS = 600.0
_log = structlog.get_logger(__name__)


def behind(raw: Head, payments: Head) -> timedelta:
    """Tell how far payments are behind raw, in Kafka time; not at all where they say nothing of it."""
    raw_to, payments_to = raw.progress.complete_to, payments.progress.complete_to
    if payments.offsets.covers(raw.offsets) or raw_to is None or payments_to is None:
        return timedelta(0)
    return max(timedelta(0), raw_to - payments_to)


class Pace:
    """Waits before a unit of work while payments are further behind raw than they may be."""

    def __init__(
        self,
        catalog: RestCatalog,
        freshness: float,
        is_stopping: Callable[[], bool],
        still: float = _STILL_SECONDS,
        longest: float = _LONGEST_SECONDS,
        poll: float = _POLL_SECONDS,
    ) -> None:
        self._catalog = catalog
        self._freshness = timedelta(seconds=freshness)
        self._is_stopping = is_stopping
        self._still = still
        self._longest = longest
        self._poll = poll
        self._given_up_at: OffsetVector | None = None  # the live job stood still here

    def give_way(self) -> float:
        """Wait as long as it helps the live job, at most ten minutes. Returns the seconds waited."""
        started = moved = time.monotonic()
        last: OffsetVector | None = None
        while not self._is_stopping():
            now = time.monotonic()
            payments = read_head(self._catalog, PAYMENTS)
            if self._is_fresh(payments) or now - started >= self._longest:
                break
            if payments.offsets != last:
                last, moved = payments.offsets, now
            elif now - moved >= self._still:
                self._given_up_at = last
                break
            time.sleep(self._poll)
        waited = time.monotonic() - started
        if last is not None:
            _log.info("gave way to the live job", seconds=round(waited, 1))
        return waited

    def _is_fresh(self, payments: Head) -> bool:
        if payments.offsets == self._given_up_at:
            return True
        return behind(read_head(self._catalog, RAW), payments) <= self._freshness
