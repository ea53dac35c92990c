"""How far Snowflake's tables are behind the lake's, and what is to be done about it.

Belongs here: judging what was read. Does not: reading it (`watch.py`), sending anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

# Readers are promised records within two minutes; half of that goes to what comes before a commit.
OBJECTIVE = timedelta(seconds=60)
RUNBOOK = "docs/runbooks/snowflake-refresh.md"


class State(StrEnum):
    """What Snowflake says of a table's automated refresh."""

    RUNNING = "RUNNING"
    STALLED = "STALLED"
    STOPPED = "STOPPED"
    NOT_INITIALIZED = "ICEBERG_TABLE_NOT_INITIALIZED"
    OFF = "OFF"


@dataclass(frozen=True)
class Commit:
    """A snapshot of the lake's table, and when it was published."""

    snapshot_id: int
    at: datetime


@dataclass(frozen=True)
class Seen:
    """What Snowflake says of a table: its state and why, the snapshot it is on, when it took which."""

    state: State
    reason: str
    snapshot_id: int | None
    refreshed: Mapping[int, datetime]


@dataclass(frozen=True)
class Freshness:
    """One table. Times in seconds.

    Args:
        behind: commits that Snowflake does not show yet.
        lag_s: age of the oldest of them; 0 where there is none.
        delays_s: of the commits that it took, from commit to refresh, oldest first.
    """

    table: str
    state: State
    reason: str
    snapshot_id: int | None
    behind: int
    lag_s: float
    delays_s: tuple[float, ...]

    @property
    def is_late(self) -> bool:
        return self.lag_s > OBJECTIVE.total_seconds()

    @property
    def needs_refresh(self) -> bool:
        """Whether Snowflake will not come by itself, or has not in time."""
        return self.is_late or (self.behind > 0 and self.state is not State.RUNNING)

    def delay_s(self, share: float) -> float | None:
        """A percentile of the delays, by nearest rank; None where nothing was refreshed yet."""
        ordered = sorted(self.delays_s)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None

    def says(self) -> str:
        """One line for people."""
        if not self.behind:
            return f"{self.table}: up to date, refresh {self.state}"
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.table}: {self.behind} commits behind, {self.lag_s:.0f} s, refresh {self.state}{why}"


def judge(table: str, commits: Sequence[Commit], seen: Seen, now: datetime) -> Freshness:
    """Compare a table's commits, oldest first, with what Snowflake shows of it.

    A snapshot that the lake does not know any more is older than all that it does.
    """
    places = {commit.snapshot_id: place for place, commit in enumerate(commits)}
    place = -1 if seen.snapshot_id is None else places.get(seen.snapshot_id, -1)
    missing = commits[place + 1 :]
    delays = [
        (seen.refreshed[commit.snapshot_id] - commit.at).total_seconds()
        for commit in commits
        if commit.snapshot_id in seen.refreshed
    ]
    return Freshness(
        table,
        seen.state,
        seen.reason,
        seen.snapshot_id,
        len(missing),
        max(0.0, (now - missing[0].at).total_seconds()) if missing else 0.0,
        tuple(max(0.0, delay) for delay in delays),
    )
