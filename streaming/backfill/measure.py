"""What event hours hold, and what must be read to fold them again, by the tables' metadata alone.

Belongs here: those figures. Does not: what they will cost (`estimate.py`), plans (`planner.py`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate

from pyiceberg.catalog.rest import RestCatalog

from lakehouse.arrivals_sql import CLOSED_AFTER
from lakehouse.definitions import PAYMENTS, RAW, VERSIONS
from lakehouse.maintenance.measure import usage_of
from lakehouse.maintenance.need import Usage
from lakehouse.refs import Head, read_head
from streaming.backfill.hours import read_hour
from streaming.backfill.plan import MeasuredAt, PlannedHour
from streaming.partitions import hour_of, start_of
from streaming.replay.scope import MOST_AHEAD

_NO_HOUR = 10**9  # after any that there is


def measure(catalog: RestCatalog, hours: Sequence[str]) -> tuple[list[PlannedHour], MeasuredAt]:
    """Take the figures of hours, given in order, and say at which snapshots."""
    heads = {name: read_head(catalog, name) for name in (RAW, VERSIONS, PAYMENTS)}
    numbers = [read_hour(hour) for hour in hours]
    versions, payments = (_held(heads[name], numbers) for name in (VERSIONS, PAYMENTS))
    raw = _RawFrom(heads[RAW], numbers[0])
    closed_to = _closed_to(heads[PAYMENTS])
    found = []
    for hour, number in zip(hours, numbers, strict=True):
        (of_versions, v), (of_payments, p) = versions[number], payments[number]
        both = v + p
        found.append(
            PlannedHour(
                hour,
                partitions=of_versions + of_payments,
                versions=v.rows - v.deleted,
                payments=p.rows - p.deleted,
                files=both.files + both.vectors,
                bytes=both.bytes,
                raw_read=raw.records(number),
                is_open=closed_to is None or start_of(number + 1) > closed_to,
            )
        )
    snapshots = {name: str(head.snapshot.snapshot_id) for name, head in heads.items()}
    return found, MeasuredAt(heads[RAW].offsets.to_json(), snapshots)


def is_unfolded(catalog: RestCatalog) -> bool:
    """Tell whether raw has records of which a curated table has none: a backfill would bring nothing."""
    raw, *curated = (read_head(catalog, name).offsets for name in (RAW, VERSIONS, PAYMENTS))
    return bool(list(raw)) and not all(list(vector) for vector in curated)


class _RawFrom:
    """How many records raw has from an hour on."""

    def __init__(self, head: Head, first: int) -> None:
        since = range(_earliest(first), _NO_HOUR)
        found = sorted(
            (key[0], usage.rows) for key, usage in usage_of(head.table, head.snapshot, 0, since).items()
        )
        self._hours = [hour for hour, _ in found]
        self._before = [0, *accumulate(rows for _, rows in found)]

    def records(self, hour: int) -> int:
        """Count those that can speak of an hour: none comes long before its event."""
        return self._before[-1] - self._before[bisect_left(self._hours, _earliest(hour))]


def _earliest(hour: int) -> int:
    return hour_of(start_of(hour) - MOST_AHEAD)


def _held(head: Head, hours: Sequence[int]) -> dict[int, tuple[int, Usage]]:
    """Say of each hour how many partitions hold anything, and what they hold together."""
    found: dict[int, tuple[int, Usage]] = defaultdict(lambda: (0, Usage()))
    for key, usage in usage_of(head.table, head.snapshot, 0, range(hours[0], hours[-1] + 1)).items():
        partitions, whole = found[key[0]]
        found[key[0]] = partitions + 1, whole + usage
    return found


def _closed_to(payments: Head) -> datetime | None:
    complete_to = payments.progress.complete_to
    return None if complete_to is None else complete_to - CLOSED_AFTER
