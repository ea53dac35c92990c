"""The replay sample: one closed hour, chosen at random, folded again from raw and compared row by row.

Belongs here: choosing the hour, and the check. Does not: the comparison (`streaming/replay/verify.py`).
"""

import random
from typing import Any

import dagster as dg

from assets.hours import start_of
from assets.lake import Lake
from assets.notify import Notifier
from assets.tables import key_of
from assets.work import SPARK_POOL, Work
from lakehouse.arrivals_sql import ARRIVALS_VIEW
from lakehouse.definitions import PAYMENTS
from lakehouse.query import run_query


class Sample(dg.Config):
    """Which hour; one at random unless it is named, e.g. `2026-11-22T14`."""

    hour: str = ""


@dg.asset_check(
    asset=key_of(PAYMENTS),
    name="replay_sample",
    description="One closed event hour, chosen at random, is the fold of raw, record by record.",
    pool=SPARK_POOL,
)
def replay_sample(
    context: dg.AssetCheckExecutionContext, lake: Lake, work: Work, notifier: Notifier, config: Sample
) -> dg.AssetCheckResult:
    """Verify one hour from raw."""
    hour = config.hour or _any_closed_hour(lake)
    if hour is None:
        return dg.AssetCheckResult(passed=True, description="no event hour has closed yet")
    start_of(hour)  # a name that is no hour is refused before Spark starts
    buckets = lake.settings().tables.buckets
    partitions = [part for bucket in range(buckets) for part in ("--partition", f"{hour}/{bucket}")]
    try:
        found = work.run(context.op_execution_context, ["replay", "verify", *partitions])
    except Exception:
        notifier.tell("replay_sample", f"{hour} is not the fold of raw, or could not be verified")
        raise
    return dg.AssetCheckResult(
        passed=found["equal"],
        description=f"{hour} is the fold of {found['records']:,} records of raw",
        metadata=_metadata(hour, found),
    )


def _metadata(hour: str, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "hour": hour,
        "records": found["records"],
        "payments": found["payments"],
        "snapshots": dg.MetadataValue.json(found["snapshots"]),
    }


def _any_closed_hour(lake: Lake) -> str | None:
    found = run_query(
        lake.catalog(),
        lake.properties(),
        f"SELECT strftime(hour, '%Y-%m-%dT%H') FROM {ARRIVALS_VIEW} "  # noqa: S608
        "WHERE hour IS NOT NULL AND closed_at IS NOT NULL ORDER BY hour",
    )
    hours = [hour for (hour,) in found.rows]
    return random.choice(hours) if hours else None  # noqa: S311 - a sample, not a secret


daily = dg.ScheduleDefinition(
    name="replay_sample_daily",
    target=dg.AssetSelection.checks(replay_sample),
    cron_schedule="30 5 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
