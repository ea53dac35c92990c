"""Reading how fresh Snowflake's tables are, and refreshing those that do not refresh by themselves.

Belongs here: asking Snowflake and the catalog, and the attempts. Does not: judging (`freshness.py`), telling
people (`assets/`, `cli/`).

What a table's state is takes no warehouse; its history does, and would keep one awake if it were asked often.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from opentelemetry import metrics
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from snowflake_external.deployment import Deployment
from snowflake_external.errors import Denied, Missing, NoWarehouse, SnowflakeError
from snowflake_external.estate import EXPOSED, Names
from snowflake_external.existing import Ask, Row
from snowflake_external.freshness import Commit, Freshness, Seen, State, held, judge, objective_of, shows
from snowflake_external.sql import identifier, literal

_PAUSES = (2.0, 8.0, 30.0)  # before each further attempt, seconds
_LAG = metrics.get_meter(__name__).create_gauge(
    "paywave.snowflake.lag", unit="s", description="Age of the oldest commit that Snowflake does not show yet"
)


@dataclass(frozen=True)
class Refreshed:
    """What came of refreshing a table by hand: how it stands now, attempts made, and why it failed."""

    table: str
    attempts: int
    error: str | None


def freshness_of(
    deployment: Deployment, catalog: Catalog, ask: Ask, with_delays: bool = False
) -> list[Freshness]:
    """Compare every table that Snowflake shows with the lake's. Raises SnowflakeError.

    A table that is missing or denied is UNKNOWN, for that reason, with all its commits behind: the others are
    not to go unwatched with it.

    Args:
        with_delays: ask for the history too, which takes a warehouse; where none runs, no delays are told.
    """
    names, objective = Names(deployment), objective_of(deployment.refresh_s)
    found = []
    for table in EXPOSED:
        # Snowflake first: else it may show a commit that was not there yet when the lake was asked.
        seen = _seen_or_not(ask, names.table(table), with_delays)
        found.append(judge(table, list(_commits(catalog, table)), seen, datetime.now(UTC), objective))
        _LAG.set(found[-1].lag_s, {"db.collection.name": table})
    return found


def refresh(
    deployment: Deployment,
    catalog: Catalog,
    ask: Ask,
    due: Iterable[Freshness],
    sleep: Callable[[float], None] = time.sleep,
) -> list[Refreshed]:
    """Refresh tables by hand, each until it shows the lake's newest commit and refreshes itself again.

    Tried again after pauses is what a pause may mend: no refusal. What goes on failing is told.
    """
    names = Names(deployment)
    return [_refreshed(_ByHand(ask, catalog, one.table, names.table(one.table)), sleep) for one in due]


def take_newest(ask: Ask, name: Sequence[str]) -> None:
    """Let a table be what the catalog has now, also where only its columns changed. Raises SnowflakeError.

    That a refresh by hand is refused while the automated one is on, is not documented; it has been met with.
    So whatever refuses it without a reason that we know is tried with that one off.
    """
    try:
        ask(f"{_alter(name)} REFRESH")
    except SnowflakeError as error:
        if type(error) is not SnowflakeError:
            raise
        restart(ask, name)


def restart(ask: Ask, name: Sequence[str]) -> None:
    """Switch a table's automated refresh off and on again, and refresh it by hand between.

    It is the documented way out of STOPPED. It is on again in the end also where the refresh fails.
    """
    ask(f"{_alter(name)} SET AUTO_REFRESH = FALSE")
    try:
        ask(f"{_alter(name)} REFRESH")
    finally:
        ask(f"{_alter(name)} SET AUTO_REFRESH = TRUE")


def readers_stopped(deployment: Deployment, ask: Ask) -> str | None:
    """Say why readers' queries do not run; None where they do, or nobody may see it. Takes no warehouse."""
    name = Names(deployment).warehouse
    house = next((row for row in ask("SHOW WAREHOUSES") if row["name"] == name), None)
    if house is None:
        return f"warehouse {name} is missing, or this role may not know of it: `paywave snowflake plan`"
    monitor = str(house["resource_monitor"])
    if any(_is_used_up(row) for row in ask("SHOW RESOURCE MONITORS") if row["name"] == monitor):
        return (
            f"resource monitor {monitor} has suspended warehouse {name}: its credits are used up; raise "
            "snowflake.credits_per_month and apply, or wait until they are counted anew"
        )
    if str(house["state"]).upper() == "SUSPENDED" and str(house["auto_resume"]).lower() != "true":
        return f"warehouse {name} is suspended, and does not resume: `paywave snowflake apply` lets it"
    return None


def _is_used_up(monitor: Row) -> bool:
    """Whether a monitor's credits have reached a share (of its quota, in per cent) at which it suspends."""
    told = f"{monitor['suspend_at'] or ''} {monitor['suspend_immediately_at'] or ''}"
    shares = [float(share) for share in re.findall(r"[\d.]+", told)]
    quota, used = monitor["credit_quota"], float(monitor["used_credits"] or 0)
    return bool(shares) and quota is not None and used >= float(quota) * min(shares) / 100


def standing(deployment: Deployment, ask: Ask) -> dict[str, int | None]:
    """Say at which snapshot Snowflake shows each table. Raises SnowflakeError."""
    names = Names(deployment)
    return {table: _seen(ask, names.table(table), False).snapshot_id for table in EXPOSED}


def held_snapshots(catalog: Catalog, stands: Mapping[str, int | None], most: timedelta) -> set[int]:
    """Find the snapshots from which on the lake must keep its history, for Snowflake to follow it.

    Args:
        stands: where each table stands; one of which that is not known may be as far behind as `most`.
    """
    since = datetime.now(UTC) - most
    found = (held(list(_commits(catalog, table)), stands.get(table), since) for table in EXPOSED)
    return {snapshot_id for snapshot_id in found if snapshot_id is not None}


@dataclass
class _ByHand:
    """A table that is refreshed by hand; its automated refresh is switched off and on once at the most."""

    ask: Ask
    catalog: Catalog
    table: str
    name: tuple[str, str, str]
    is_restarted: bool = False

    def attempt(self, is_first: bool) -> str | None:
        """Refresh it, if that is not done; returns what is wrong still. Raises SnowflakeError."""
        commits = list(_commits(self.catalog, self.table))
        wanted = commits[-1].snapshot_id if commits else None
        seen = _seen(self.ask, self.name, False)
        if is_first or not seen.state.comes_back or not self._shows(seen, wanted):
            self._refresh(seen.state)
            seen = _seen(self.ask, self.name, False)
        if not self._shows(seen, wanted):
            return f"it shows snapshot {seen.snapshot_id}, and the lake has {wanted}"
        if seen.state is not State.RUNNING:
            return f"it shows the newest snapshot, but its automated refresh is {seen.state}: {seen.reason}"
        return None

    def _refresh(self, state: State) -> None:
        if state.comes_back or self.is_restarted:
            take_newest(self.ask, self.name)
        else:
            self.is_restarted = True
            restart(self.ask, self.name)

    def _shows(self, seen: Seen, wanted: int | None) -> bool:
        return wanted is None or shows(list(_commits(self.catalog, self.table)), seen.snapshot_id, wanted)


def _refreshed(table: _ByHand, sleep: Callable[[float], None]) -> Refreshed:
    wrong: str | None = None
    for attempt, pause in enumerate((*_PAUSES, None), start=1):
        try:
            wrong = table.attempt(attempt == 1)
        except (Denied, Missing) as refused:
            return Refreshed(table.table, attempt, refused.told)
        except SnowflakeError as failed:
            wrong = str(failed)
        if wrong is None or pause is None:
            break
        sleep(pause)
    return Refreshed(table.table, attempt, wrong)


def _alter(name: Sequence[str]) -> str:
    return f"ALTER ICEBERG TABLE {identifier(*name)}"


def _commits(catalog: Catalog, table: str) -> Iterator[Commit]:
    try:
        found = catalog.load_table(table)
    except NoSuchTableError:
        return
    known = {snapshot.snapshot_id for snapshot in found.metadata.snapshots}
    for entry in found.history():
        if entry.snapshot_id in known:
            yield Commit(entry.snapshot_id, datetime.fromtimestamp(entry.timestamp_ms / 1000, UTC))


def refreshes_of(deployment: Deployment, table: str, ask: Ask) -> dict[int, datetime]:
    """When Snowflake took which snapshot of a table, as far back as it says. Takes a warehouse."""
    return _refreshes(ask, Names(deployment).table(table))


def _refreshes(ask: Ask, name: tuple[str, ...]) -> dict[int, datetime]:
    quoted = identifier(*name)
    function = f"{identifier(name[0])}.INFORMATION_SCHEMA.ICEBERG_TABLE_SNAPSHOT_REFRESH_HISTORY"
    history = ask(f"SELECT snapshot_id, refreshed_on FROM TABLE({function}(TABLE_NAME => {literal(quoted)}))")  # noqa: S608  # quoted
    refreshed = {int(row["snapshot_id"]): row["refreshed_on"] for row in history if row["snapshot_id"]}
    return {snapshot: at if at.tzinfo else at.replace(tzinfo=UTC) for snapshot, at in refreshed.items()}


def _seen_or_not(ask: Ask, name: tuple[str, ...], with_history: bool) -> Seen:
    try:
        return _seen(ask, name, with_history)
    except (Denied, Missing) as refused:
        return Seen(State.UNKNOWN, refused.told, None)


def _seen(ask: Ask, name: tuple[str, ...], with_history: bool) -> Seen:
    (row,) = ask(f"SELECT SYSTEM$AUTO_REFRESH_STATUS({literal(identifier(*name))}) AS status")
    told: dict[str, Any] = json.loads(row["status"] or "{}")
    said = str(told.get("executionState") or State.OFF)
    state, current = State.of(said), told.get("currentSnapshotId")
    # A table without automated refresh has no status: only its history says where it stands.
    refreshed = _history(ask, name) if with_history or state is State.OFF else None
    if current is None and refreshed:
        current = max(refreshed, key=lambda snapshot_id: refreshed[snapshot_id])
    reason = str(told.get("invalidExecutionStateReason") or (said if state is State.UNKNOWN else ""))
    return Seen(state, reason, int(current) if current else None, _moment(told), refreshed)


def _history(ask: Ask, name: tuple[str, ...]) -> dict[int, datetime] | None:
    try:
        return _refreshes(ask, name)
    except NoWarehouse:
        return None


def _moment(told: dict[str, Any]) -> datetime | None:
    """When the table was let be what it is; None where that is not said in a way that we read."""
    try:
        at = datetime.fromisoformat(str(told.get("lastUpdatedTime")))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
