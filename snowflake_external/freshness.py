"""How far Snowflake's tables are behind the lake's, and what is to be done about it.

Belongs here: judging what was read. Does not: reading it (`watch.py`), sending anything.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

# Readers are promised records within two minutes; half of that goes to what comes before a commit.
PROMISED = timedelta(seconds=120)
OBJECTIVE = PROMISED / 2
# How often somebody looks: what is late is noticed within the objective and one look, 90 s after its commit.
LOOK = timedelta(seconds=30)
RUNBOOK = "docs/runbooks/snowflake-refresh.md"


def objective_of(refresh_s: int) -> timedelta:
    """How old a commit may get that Snowflake does not show: it asks no more often than its interval.

    Args:
        refresh_s: how often it asks, in seconds; a commit waits for one interval, and is taken in another.
    """
    return max(OBJECTIVE, timedelta(seconds=2 * refresh_s))


class State(StrEnum):
    """What Snowflake says of a table's automated refresh."""

    RUNNING = "RUNNING"
    STALLED = "STALLED"
    STOPPED = "STOPPED"
    NOT_INITIALIZED = "ICEBERG_TABLE_NOT_INITIALIZED"
    OFF = "OFF"
    UNKNOWN = "UNKNOWN"  # a word that is not documented, or the table is missing or denied

    @classmethod
    def of(cls, said: str) -> State:
        """Read Snowflake's word."""
        return next((state for state in cls if state.value == said), cls.UNKNOWN)

    @property
    def comes_back(self) -> bool:
        """Whether Snowflake goes on by itself; else somebody has to switch the refresh off and on again."""
        return self in (State.RUNNING, State.STALLED, State.UNKNOWN)


@dataclass(frozen=True)
class Commit:
    """A snapshot of the lake's table, and when it was published."""

    snapshot_id: int
    at: datetime


@dataclass(frozen=True)
class Seen:
    """What Snowflake says of a table: its state and why, the snapshot it is on, since when, and its history.

    Args:
        refreshed: when it took which snapshot, as far as it was asked for that; None if it was not.
    """

    state: State
    reason: str
    snapshot_id: int | None
    at: datetime | None = None
    refreshed: Mapping[int, datetime] | None = None


@dataclass(frozen=True)
class Freshness:
    """One table. Times in seconds.

    Args:
        behind: commits that Snowflake does not show yet.
        lag_s: age of the oldest of them; 0 where there is none.
        objective_s: what that may be.
        last_delay_s: from the commit that it shows until it showed that; None where it does not say.
        delays_s: of all commits that it shows, from each until it or a later one was shown, oldest first;
            None if the history was not asked for, or could not be.
    """

    table: str
    state: State
    reason: str
    snapshot_id: int | None
    behind: int
    lag_s: float
    objective_s: float
    last_delay_s: float | None
    delays_s: tuple[float, ...] | None

    @property
    def is_late(self) -> bool:
        return self.lag_s > self.objective_s

    @property
    def needs_refresh(self) -> bool:
        """Whether Snowflake will not come by itself, or has not in time.

        One that will not is told of before anything is missing: it would be with the next commit.
        """
        return self.is_late or not self.state.comes_back or (self.behind > 0 and self.state != State.RUNNING)

    def delay_s(self, share: float) -> float | None:
        """A percentile of the delays, by nearest rank; None where there is none."""
        ordered = sorted(self.delays_s or ())
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None

    def says(self) -> str:
        """One line for people."""
        why = f" ({self.reason})" if self.reason else ""
        if not self.behind:
            return f"{self.table}: up to date, refresh {self.state}{why}"
        return f"{self.table}: {self.behind} commits behind, {self.lag_s:.0f} s, refresh {self.state}{why}"


def judge(
    table: str, commits: Sequence[Commit], seen: Seen, now: datetime, objective: timedelta = OBJECTIVE
) -> Freshness:
    """Compare a table's commits, oldest first, with what Snowflake shows of it."""
    place = _place(commits, seen.snapshot_id)
    missing = commits[place + 1 :]
    last = None if place < 0 or seen.at is None else max(0.0, (seen.at - commits[place].at).total_seconds())
    return Freshness(
        table,
        seen.state,
        seen.reason,
        seen.snapshot_id,
        len(missing),
        max(0.0, (now - missing[0].at).total_seconds()) if missing else 0.0,
        objective.total_seconds(),
        last,
        None if seen.refreshed is None else tuple(_delays(commits[: place + 1], seen.refreshed)),
    )


def shows(commits: Sequence[Commit], snapshot_id: int | None, wanted: int) -> bool:
    """Whether a table that stands at a snapshot shows the wanted commit, or one after it."""
    return _place(commits, snapshot_id) >= _place(commits, wanted)


def first_shown(snapshots: Sequence[int], refreshed: Mapping[int, datetime]) -> list[datetime | None]:
    """Say of each snapshot, oldest first, when it or a later one was shown first; None if none was yet.

    Between two polls Snowflake passes over all commits but the last: who reads sees them with that one.
    """
    earliest: datetime | None = None
    found: list[datetime | None] = []
    for snapshot_id in reversed(snapshots):
        at = refreshed.get(snapshot_id)
        if at is not None:
            earliest = at if earliest is None else min(earliest, at)
        found.append(earliest)
    return found[::-1]


def held(commits: Sequence[Commit], snapshot_id: int | None, since: datetime) -> int | None:
    """Say from which commit on the lake must keep its history for a reader that stands at a snapshot.

    Args:
        snapshot_id: None where it is not known: then the reader may stand at any commit of that time.
        since: the oldest commit that is kept for a reader.

    None if nothing need be kept: it stands at a snapshot that is gone, or what it lacks is older than what is
    kept for it. How old the snapshot itself is says nothing: a table may be quiet for days.
    """
    young = [commit.snapshot_id for commit in commits if commit.at >= since]
    if snapshot_id is None:
        return young[0] if young else None
    for commit, later in itertools.pairwise(commits):
        if commit.snapshot_id == snapshot_id:
            return snapshot_id if later.at >= since else None
    return snapshot_id if snapshot_id in young else None


def _place(commits: Sequence[Commit], snapshot_id: int | None) -> int:
    """Where a snapshot stands among commits; one that the lake does not know any more is before them all."""
    return next((at for at, commit in enumerate(commits) if commit.snapshot_id == snapshot_id), -1)


def _delays(commits: Sequence[Commit], refreshed: Mapping[int, datetime]) -> Iterator[float]:
    """From each commit until it was shown.

    Those from before the history are left out: they were there when the table was made, or longer shown.
    """
    since = min(refreshed.values(), default=None)
    for commit, at in zip(commits, first_shown([one.snapshot_id for one in commits], refreshed), strict=True):
        if at is not None and since is not None and commit.at >= since:
            yield (at - commit.at).total_seconds()
