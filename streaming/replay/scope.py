"""What a replay is about: a range of raw by Kafka time, one raw snapshot, curated partitions, or all. Pure.

Belongs here: saying and reading a scope. Does not: finding its records (`ranges.py`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from quality.contract import HISTORY
from streaming.errors import StreamingError
from streaming.partitions import Partition, hour_of, start_of

# No contract takes an event that is further ahead of its record's Kafka time.
MOST_AHEAD: timedelta = max(contract.max_future for contract in HISTORY)
_NAMED = 8  # partitions that are named one by one
_PARTITION = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2})/(\d+)")


class WrongScope(StreamingError):
    """A scope that cannot be read, or that raw does not have."""


@dataclass(frozen=True)
class Scope:
    """Records of raw by Kafka time, `start` inclusive to `end` exclusive; or those that one of these names.

    Args:
        partitions: curated partitions, with every record that speaks of them, whenever it came.
        raw_snapshot: the records that this snapshot of raw brought.
    """

    start: datetime | None = None
    end: datetime | None = None
    partitions: tuple[Partition, ...] = ()
    raw_snapshot: int | None = None

    @property
    def is_all(self) -> bool:
        """All of raw, and nothing but what it says in the curated tables."""
        return self == ALL

    def __str__(self) -> str:
        if len(self.partitions) > _NAMED:
            first, last = (written(choose(self.partitions)) for choose in (min, max))
            return f"{len(self.partitions)} partitions from {first} to {last}"
        return self._in_full()

    def _in_full(self) -> str:
        if self.raw_snapshot is not None:
            return f"raw snapshot {self.raw_snapshot}"
        if self.partitions:
            return "partition " + ", ".join(map(written, self.partitions))
        if self.is_all:
            return "all of raw"
        start = self.start.isoformat() if self.start else "the beginning"
        return f"Kafka time from {start} to {self.end.isoformat() if self.end else 'now'}"

    @property
    def digest(self) -> str:
        """A short name that is the same whenever the same scope is asked for."""
        return hashlib.sha256(self._in_full().encode()).hexdigest()[:12]


ALL = Scope()


def written(partition: Partition) -> str:
    """Write a partition as people do: `HOUR/BUCKET`, e.g. `2026-11-22T14/3`, the hour in UTC."""
    return f"{start_of(partition.hour):%Y-%m-%dT%H}/{partition.bucket}"


def read_partition(text: str, buckets: int) -> Partition:
    """Read what `written` writes. Raises `WrongScope` for anything else, or a bucket that there is not."""
    match = _PARTITION.fullmatch(text)
    try:
        moment = datetime.fromisoformat(f"{match[1]}:00:00+00:00") if match else None
    except ValueError:
        moment = None
    if match is None or moment is None or int(match[2]) >= buckets:
        raise WrongScope(
            f"{text!r} is no partition of the curated tables",
            f"write the hour in UTC and the bucket, 0 to {buckets - 1}, e.g. 2026-11-22T14/0",
        )
    return Partition(hour_of(moment), int(match[2]))
