"""The replay sample: one closed hour, chosen at random, folded again from raw and compared row by row.

Belongs here: choosing the hour, and the check. Does not: the comparison (`streaming/replay/verify.py`).
"""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from assets.hours import EVENT_HOURS, start_of
from assets.lake import Lake
from assets.notify import Notifier
from assets.work import FIRST, SPARK_POOL, Work
from lakehouse.arrivals_sql import ARRIVALS_VIEW
from lakehouse.query import run_query

# To verify an hour is to read raw from that hour on: an old one would read all of it.
WITHIN = timedelta(hours=48)


class Sample(dg.Config):
    """Which hour; one at random unless it is named, e.g. `2026-11-22T14`."""

    hour: str = ""


@dg.asset_check(
    # not of payments: whoever folds an hour again from their page would pay for this too
    asset=EVENT_HOURS,
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
        return dg.AssetCheckResult(passed=True, description=f"no event hour has closed within {WITHIN}")
    start_of(hour)  # a name that is no hour is refused before Spark starts
    buckets = lake.settings().tables.buckets
    partitions = [part for bucket in range(buckets) for part in ("--partition", f"{hour}/{bucket}")]
    command = ["replay", "verify", *partitions]
    found = work.run(context.op_execution_context, command, may_fall_short=True)
    said = f"{hour} is the fold of {found['records']:,} records of raw"
    if not found["equal"]:
        said = f"{hour} is not the fold of raw; `paywave backfill` or `replay apply` puts it right"
        notifier.tell("replay_sample", said, run_id=context.run.run_id)
    return dg.AssetCheckResult(passed=found["equal"], description=said, metadata=_metadata(hour, found))


def _metadata(hour: str, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "hour": hour,
        "records": found["records"],
        "payments": found["payments"],
        "snapshots": dg.MetadataValue.json(found["snapshots"]),
        "differences": dg.MetadataValue.json(found["differences"]),
        "first": dg.MetadataValue.json(found["first"]),
    }


def _any_closed_hour(lake: Lake) -> str | None:
    found = run_query(
        lake.catalog(),
        lake.properties(),
        f"SELECT strftime(hour, '%Y-%m-%dT%H') FROM {ARRIVALS_VIEW} "  # noqa: S608
        "WHERE hour IS NOT NULL AND closed_at >= getvariable('since') ORDER BY hour",
        variables={"since": datetime.now(UTC) - WITHIN},
    )
    hours = [hour for (hour,) in found.rows]
    return random.choice(hours) if hours else None  # noqa: S311 - a sample, not a secret


daily = dg.ScheduleDefinition(
    name="replay_sample_daily",
    target=dg.AssetSelection.checks(replay_sample),
    cron_schedule="30 5 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    tags=FIRST,
)
