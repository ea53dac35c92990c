"""What reading the lake costs in Snowflake: a guess from polls and commits, and what the account was billed.

Belongs here: refresh and warehouse credits. Does not: what the lake itself costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from snowflake_external.deployment import Deployment
from snowflake_external.errors import Denied, Missing
from snowflake_external.estate import EXPOSED, Names
from snowflake_external.existing import Ask

_DAY = timedelta(days=1)
_REFRESH = """
    SELECT pipe_name AS what, SUM(credits_used) AS credits FROM SNOWFLAKE.ACCOUNT_USAGE.PIPE_USAGE_HISTORY
    WHERE start_time >= %s AND pipe_name IN ({names}) GROUP BY 1
"""
_LINKED = """
    SELECT database_name AS what, SUM(credits_used) AS credits
    FROM SNOWFLAKE.ACCOUNT_USAGE.CATALOG_LINKED_DATABASE_USAGE_HISTORY
    WHERE start_time >= %s AND database_name = %s GROUP BY 1
"""
_WAREHOUSE = """
    SELECT warehouse_name AS what, SUM(credits_used) AS credits
    FROM SNOWFLAKE.ACCOUNT_USAGE.WAREHOUSE_METERING_HISTORY
    WHERE start_time >= %s AND warehouse_name = %s GROUP BY 1
"""


@dataclass(frozen=True)
class Rates:
    """Credits, and dollars for one; what a contract says may differ.

    Automated refresh is billed as Snowflake-managed compute, by the hour (the row "Automated refresh and data
    registration" of the consumption table), without charges for files. How long a poll of the catalog and a
    refresh compute is documented nowhere: those seconds are guesses, to be held against what is billed.
    """

    credits_per_hour: float = 1.0
    seconds_per_poll: float = 0.05
    seconds_per_refresh: float = 1.0
    dollars_per_credit: float = 3.0


@dataclass(frozen=True)
class Estimate:
    """A guess of one table's day: polls of the catalog, commits, refreshes that take them, their cost."""

    table: str
    polls: int
    commits: int
    refreshes: int
    credits: float
    dollars: float


def estimate(
    catalog: Catalog, refresh_s: int, rates: Rates, now: Callable[[], datetime] | None = None
) -> list[Estimate]:
    """Guess what a day's refreshes cost, from the interval (seconds) and the last 24 hours' commits.

    A table that the lake has not made yet is left out.
    """
    since = (now or (lambda: datetime.now(UTC)))() - _DAY
    commits = {table: _commits(catalog, table, since) for table in EXPOSED}
    return [
        _estimate(table, count, refresh_s, rates) for table, count in commits.items() if count is not None
    ]


def most_per_month(deployment: Deployment, rates: Rates) -> float:
    """Dollars that readers can spend in a month; the resource monitor suspends their warehouse then."""
    return deployment.credits_per_month * rates.dollars_per_credit


def billed(deployment: Deployment, ask: Ask, since: datetime) -> dict[str, float] | None:
    """Credits that the account was billed since then, by table, linked database or warehouse.

    None where the role may not see ACCOUNT_USAGE, or there is none. Snowflake fills it up to 3 hours late. It
    names a table without saying whether that is the whole name: so both are asked for.
    """
    names = Names(deployment)
    tables = [names.table(name) for name in EXPOSED]
    told = [*(".".join(table) for table in tables), *(table[-1] for table in tables)]
    questions = [
        (_REFRESH.format(names=", ".join(["%s"] * len(told))), (since, *told)),
        (_WAREHOUSE, (since, names.warehouse)),
        *([(_LINKED, (since, names.lake))] if deployment.linked else []),
    ]
    try:
        rows = [row for text, parameters in questions for row in ask(text, parameters)]
    except (Denied, Missing):
        return None
    return {str(row["what"]): float(row["credits"] or 0) for row in rows}


def _commits(catalog: Catalog, table: str, since: datetime) -> int | None:
    try:
        snapshots = catalog.load_table(table).metadata.snapshots
    except NoSuchTableError:
        return None
    return sum(snapshot.timestamp_ms >= since.timestamp() * 1000 for snapshot in snapshots)


def _estimate(table: str, commits: int, refresh_s: int, rates: Rates) -> Estimate:
    polls = int(_DAY.total_seconds() / refresh_s)
    refreshes = min(commits, polls)  # commits between two polls are taken together
    seconds = polls * rates.seconds_per_poll + refreshes * rates.seconds_per_refresh
    credits = seconds / 3600 * rates.credits_per_hour
    dollars = credits * rates.dollars_per_credit
    return Estimate(table, polls, commits, refreshes, round(credits, 4), round(dollars, 4))
