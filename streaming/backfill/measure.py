"""What event hours hold, and what must be read to fold them again, by the tables' metadata alone.

Belongs here: those figures. Does not: what they will cost (`estimate.py`), plans (`planner.py`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import FileScanTask

from lakehouse.arrivals_sql import CLOSED_AFTER
from lakehouse.definitions import PAYMENTS, RAW, VERSIONS
from lakehouse.refs import Head, read_head
from streaming.backfill.hours import read_hour
from streaming.backfill.plan import MeasuredAt, PlannedHour
from streaming.partitions import hour_of, start_of
from streaming.replay.scope import MOST_AHEAD


@dataclass
class _Holds:
    """What one hour of one table holds."""

    buckets: set[int] = field(default_factory=set)
    rows: int = 0
    files: int = 0
    bytes: int = 0


def measure(catalog: RestCatalog, hours: Sequence[str]) -> tuple[list[PlannedHour], MeasuredAt]:
    """Take the figures of hours, given in order, and say at which snapshots."""
    heads = {name: read_head(catalog, name) for name in (RAW, VERSIONS, PAYMENTS)}
    numbers = [read_hour(hour) for hour in hours]
    versions, payments = (_held(heads[name], numbers) for name in (VERSIONS, PAYMENTS))
    raw = _RawFrom(heads[RAW], numbers[0])
    closed_to = _closed_to(heads[PAYMENTS])
    found = [
        PlannedHour(
            hour,
            partitions=len(versions[number].buckets) + len(payments[number].buckets),
            versions=versions[number].rows,
            payments=payments[number].rows,
            files=versions[number].files + payments[number].files,
            bytes=versions[number].bytes + payments[number].bytes,
            raw_read=raw.records(number),
            is_open=closed_to is None or start_of(number + 1) > closed_to,
        )
        for hour, number in zip(hours, numbers, strict=True)
    ]
    snapshots = {name: head.snapshot.snapshot_id for name, head in heads.items()}
    return found, MeasuredAt(heads[RAW].offsets.to_json(), snapshots)


def is_unfolded(catalog: RestCatalog) -> bool:
    """Tell whether raw has records of which a curated table has none: a backfill would bring nothing."""
    raw, *curated = (read_head(catalog, name).offsets for name in (RAW, VERSIONS, PAYMENTS))
    return bool(list(raw)) and not all(list(vector) for vector in curated)


class _RawFrom:
    """How many records raw has from an hour on."""

    def __init__(self, head: Head, first: int) -> None:
        by_hour: Counter[int] = Counter()
        since = f"kafka_ts >= '{(start_of(first) - MOST_AHEAD).isoformat()}'"
        for task in _files(head, since):
            by_hour[task.file.partition[0]] += task.file.record_count
        self._hours = sorted(by_hour)
        self._before = [0, *accumulate(by_hour[hour] for hour in self._hours)]

    def records(self, hour: int) -> int:
        """Count those that can speak of an hour: none comes long before its event."""
        position = bisect_left(self._hours, hour_of(start_of(hour) - MOST_AHEAD))
        return self._before[-1] - self._before[position]


def _held(head: Head, hours: Sequence[int]) -> dict[int, _Holds]:
    found: dict[int, _Holds] = defaultdict(_Holds)
    start, end = (start_of(hour).isoformat() for hour in (hours[0], hours[-1] + 1))
    within = f"event_ts >= '{start}' AND event_ts < '{end}'"
    for task in _files(head, within):
        holds = found[task.file.partition[0]]
        holds.buckets.add(task.file.partition[1])
        holds.rows += task.file.record_count - sum(d.record_count for d in task.delete_files)
        holds.files += 1 + len(task.delete_files)
        holds.bytes += task.file.file_size_in_bytes
    return found


def _files(head: Head, where: str) -> Iterator[FileScanTask]:
    tasks: Iterable[FileScanTask] = head.table.scan(where, snapshot_id=head.snapshot.snapshot_id).plan_files()
    yield from tasks


def _closed_to(payments: Head) -> datetime | None:
    complete_to = payments.progress.complete_to
    return None if complete_to is None else complete_to - CLOSED_AFTER
