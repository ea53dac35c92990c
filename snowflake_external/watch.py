"""Reading how fresh Snowflake's tables are, and refreshing those that do not refresh by themselves.

Belongs here: asking Snowflake and the catalog, and the attempts. Does not: judging (`freshness.py`), telling
people (`assets/`, `cli/`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from opentelemetry import metrics
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from snowflake_external.deployment import Deployment
from snowflake_external.errors import SnowflakeError
from snowflake_external.estate import EXPOSED, Names
from snowflake_external.existing import Ask
from snowflake_external.freshness import Commit, Freshness, Seen, State, judge
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


def freshness_of(deployment: Deployment, catalog: Catalog, ask: Ask) -> list[Freshness]:
    """Compare every table that Snowflake shows with the lake's. Raises SnowflakeError."""
    names, now = Names(deployment), datetime.now(UTC)
    found = [
        judge(table, list(_commits(catalog, table)), _seen(ask, names.table(table)), now) for table in EXPOSED
    ]
    for one in found:
        _LAG.set(one.lag_s, {"db.collection.name": one.table})
    return found


def refresh(
    deployment: Deployment,
    ask: Ask,
    tables: Iterable[str],
    sleep: Callable[[float], None] = time.sleep,
) -> list[Refreshed]:
    """Refresh tables by hand, each again after a pause if it fails. What goes on failing is told."""
    names = Names(deployment)
    return [_refresh(ask, table, names.table(table), sleep) for table in tables]


def _refresh(ask: Ask, table: str, name: Sequence[str], sleep: Callable[[float], None]) -> Refreshed:
    error = ""
    for attempt, pause in enumerate((*_PAUSES, None), start=1):
        try:
            ask(f"ALTER ICEBERG TABLE {identifier(*name)} REFRESH")
        except SnowflakeError as failed:
            error = str(failed)
        else:
            return Refreshed(table, attempt, None)
        if pause is not None:
            sleep(pause)
    return Refreshed(table, len(_PAUSES) + 1, error)


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
    """When Snowflake took which snapshot of a table, as far back as it says."""
    return _refreshes(ask, Names(deployment).table(table))


def _refreshes(ask: Ask, name: tuple[str, ...]) -> dict[int, datetime]:
    quoted = identifier(*name)
    function = f"{identifier(name[0])}.INFORMATION_SCHEMA.ICEBERG_TABLE_SNAPSHOT_REFRESH_HISTORY"
    history = ask(f"SELECT snapshot_id, refreshed_on FROM TABLE({function}(TABLE_NAME => {literal(quoted)}))")  # noqa: S608  # quoted
    refreshed = {int(row["snapshot_id"]): row["refreshed_on"] for row in history if row["snapshot_id"]}
    return {snapshot: at if at.tzinfo else at.replace(tzinfo=UTC) for snapshot, at in refreshed.items()}


def _seen(ask: Ask, name: tuple[str, ...]) -> Seen:
    (row,) = ask(f"SELECT SYSTEM$AUTO_REFRESH_STATUS({literal(identifier(*name))}) AS status")
    told = json.loads(row["status"] or "{}")
    current = told.get("currentSnapshotId")
    return Seen(
        State(told.get("executionState") or "OFF"),
        str(told.get("invalidExecutionStateReason") or ""),
        int(current) if current else None,
        _refreshes(ask, name),
    )
