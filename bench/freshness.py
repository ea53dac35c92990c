"""How old records were when readers of payments could first see what they say.

Belongs here: ages, from the times of Kafka and of main's history. Does not: sending, running jobs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from bench.lake import Lake
from lakehouse.consistency import standings
from lakehouse.definitions import PAYMENTS, RAW
from lakehouse.offsets import OffsetVector
from lakehouse.query import run_query

# The name is that of lakehouse/definitions/, nothing from outside.
_RECORDS = f"""
    SELECT topic_id, partition, "offset", epoch_ms(kafka_ts), epoch_ms(event_ts) FROM {RAW}
    WHERE kafka_ts >= getvariable('since') AND kafka_ts < getvariable('until')
"""  # noqa: S608


@dataclass(frozen=True)
class Window:
    """From when to when Kafka took the records that are meant."""

    since: datetime
    until: datetime

    def __str__(self) -> str:
        return f"{(self.until - self.since).total_seconds():.0f} s"


@dataclass(frozen=True)
class Freshness:
    """Seconds from Kafka until readable in payments, over all records of a window."""

    records: int
    p50: float
    p95: float
    worst: float


def freshness(lake: Lake, window: Window) -> Freshness:
    """Take the ages of a window's records; all of them must have been folded by now."""
    found = records(lake, window)
    folded = firsts(found, publishes(lake, PAYMENTS))
    return told([(shown.at_ms - one.taken_ms) / 1000 for one, shown in zip(found, folded, strict=True)])


class Record(NamedTuple):
    """A record that Kafka took, and when; when its event was created, if it says so. In milliseconds."""

    topic_id: str
    partition: int
    offset: int
    taken_ms: int
    created_ms: int | None


def records(lake: Lake, window: Window) -> list[Record]:
    """List a window's records."""
    variables = {"since": window.since, "until": window.until}
    found = run_query(lake.catalog, lake.settings.catalog_properties(), _RECORDS, variables=variables)
    return [Record(*row) for row in found.rows]


def told(ages: list[float]) -> Freshness:
    """Sum up ages, at least one."""
    ages.sort()
    p50, p95 = (ages[int(len(ages) * share)] for share in (0.5, 0.95))
    return Freshness(len(ages), p50, p95, ages[-1])


@dataclass(frozen=True)
class Shown:
    """When a table first stood at a vector, in milliseconds, and by which snapshot."""

    at_ms: int
    vector: OffsetVector
    snapshot_id: int


def publishes(lake: Lake, name: str) -> list[Shown]:
    """Say when a table first stood at each vector, oldest first."""
    table = lake.catalog.load_table(name)
    shown = {entry.snapshot_id: entry.timestamp_ms for entry in reversed(table.history())}
    found = [Shown(shown[snapshot_id], vector, snapshot_id) for snapshot_id, vector in standings(table)]
    return sorted(found, key=lambda one: one.at_ms)


def firsts(found: Sequence[Record], published: Sequence[Shown]) -> Iterator[Shown]:
    """Say which publish of a table was the first with each record: whose next offset is beyond it."""
    places = {(one.topic_id, one.partition) for one in found}
    ends = {place: [one.vector.next_offset(*place) for one in published] for place in places}
    return (published[bisect_right(ends[one.topic_id, one.partition], one.offset)] for one in found)
