"""What reading the lake costs in Snowflake: an estimate from what the lake writes, and what the account says.

Belongs here: refresh and warehouse credits. Does not: what the lake itself costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pyiceberg.catalog import Catalog

from snowflake_external.deployment import Deployment
from snowflake_external.errors import Denied, Missing
from snowflake_external.estate import EXPOSED, Names
from snowflake_external.existing import Ask

_DAY = timedelta(days=1)
_FILES = ("added-data-files", "added-delete-files", "deleted-data-files", "removed-delete-files")
_REFRESH = """
    SELECT pipe_name AS what, SUM(credits_used) AS credits FROM SNOWFLAKE.ACCOUNT_USAGE.PIPE_USAGE_HISTORY
    WHERE start_time >= %s AND pipe_name LIKE %s GROUP BY 1
"""
_WAREHOUSE = """
    SELECT warehouse_name AS what, SUM(credits_used) AS credits
    FROM SNOWFLAKE.ACCOUNT_USAGE.WAREHOUSE_METERING_HISTORY
    WHERE start_time >= %s AND warehouse_name = %s GROUP BY 1
"""


@dataclass(frozen=True)
class Rates:
    """Credits, and dollars for one; what a contract says may differ.

    `credits_per_1000_files` is the rate of Snowpipe's files, which Snowflake documents for refreshes of
    external tables; of Iceberg tables it documents only where the credits are shown (PIPE_USAGE_HISTORY).
    """

    credits_per_1000_files: float = 0.06
    dollars_per_credit: float = 3.0


@dataclass(frozen=True)
class Estimate:
    """A day of one table: commits and files that Snowflake takes note of, credits and dollars for it."""

    table: str
    commits: int
    files: int
    credits: float
    dollars: float


def estimate(catalog: Catalog, rates: Rates, now: Callable[[], datetime] | None = None) -> list[Estimate]:
    """Estimate a day's refresh credits from the files that the last 24 hours' commits added and removed."""
    since = (now or (lambda: datetime.now(UTC)))() - _DAY
    return [_estimate(catalog, table, since, rates) for table in EXPOSED]


def most_per_month(deployment: Deployment, rates: Rates) -> float:
    """Dollars that readers can spend in a month; the resource monitor suspends their warehouse then."""
    return deployment.credits_per_month * rates.dollars_per_credit


def billed(deployment: Deployment, ask: Ask, since: datetime) -> dict[str, float] | None:
    """Credits that the account was billed since then, by table or warehouse.

    None where the role may not see ACCOUNT_USAGE, or there is none. Snowflake fills it up to 3 hours late.
    """
    names = Names(deployment)
    try:
        rows = [
            *ask(_REFRESH, (since, f"{names.lake}%")),
            *ask(_WAREHOUSE, (since, names.warehouse)),
        ]
    except (Denied, Missing):
        return None
    return {str(row["what"]): float(row["credits"] or 0) for row in rows}


def _estimate(catalog: Catalog, table: str, since: datetime, rates: Rates) -> Estimate:
    recent = [
        snapshot
        for snapshot in catalog.load_table(table).metadata.snapshots
        if snapshot.timestamp_ms >= since.timestamp() * 1000
    ]
    files = sum(_number(snapshot.summary, name) for snapshot in recent for name in _FILES)
    credits = files / 1000 * rates.credits_per_1000_files
    return Estimate(
        table, len(recent), files, round(credits, 4), round(credits * rates.dollars_per_credit, 4)
    )


def _number(summary: Any, name: str) -> int:
    return int((summary and summary.get(name)) or 0)
