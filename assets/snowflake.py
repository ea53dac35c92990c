"""Snowflake, watched: how far its tables are behind the lake's, and a refresh by hand of those that are late.

Belongs here: the sensor and the job that it asks for, the daily look at the plan. Does not: judging or
refreshing (`snowflake_external/`).
"""

import json
from datetime import UTC, datetime

import dagster as dg

from assets.lake import Lake
from assets.notify import RUNBOOK_TAG, Notifier
from assets.snowflake_account import deployment_of, login_of
from assets.tables import snowflake_key
from assets.work import FIRST, Work
from snowflake_external.errors import SnowflakeError
from snowflake_external.freshness import LOOK, RUNBOOK, Freshness
from snowflake_external.session import Session
from snowflake_external.watch import freshness_of, readers_stopped

_AGAIN_MINUTES = 5  # a table that stays late is refreshed by hand so often


@dg.op(description="Refreshes by hand what is late in Snowflake, or will not come by itself.")
def refresh_late(context: dg.OpExecutionContext, work: Work) -> None:
    """Refresh; fail with what goes on failing."""
    result = work.run(context, ["snowflake", "refresh"], may_fall_short=True)
    failed = {one["table"]: str(one["error"]) for one in result["refreshed"] if one["error"]}
    if failed:
        told = "; ".join(f"{table}: {error}" for table, error in sorted(failed.items()))
        raise dg.Failure(f"Snowflake does not keep up with {told}", metadata=dict(failed))


@dg.job(
    description="`paywave snowflake refresh`; it fails, and people are told, where a table goes on failing.",
    tags={RUNBOOK_TAG: RUNBOOK},
)
def snowflake_refresh() -> None:
    refresh_late()


@dg.op(description="Compares what Snowflake has of the lake with what it should have; changes nothing.")
def look_at_plan(context: dg.OpExecutionContext, work: Work) -> None:
    """Fail with what differs: a policy taken off and a grant too many are seen by nobody else."""
    changes = work.run(context, ["snowflake", "plan"])["changes"]
    if changes:
        told = "; ".join(f"{one['action']} {one['what']}" for one in changes)
        plan = {"plan": dg.MetadataValue.json(changes)}
        raise dg.Failure(f"Snowflake is not as it should be: {told}", metadata=plan)


@dg.job(
    description="`paywave snowflake plan`; it fails, and people are told, where that is not empty.",
    tags={RUNBOOK_TAG: RUNBOOK},
)
def snowflake_plan() -> None:
    look_at_plan()


@dg.schedule(job=snowflake_plan, cron_schedule="25 5 * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def snowflake_plan_daily(lake: Lake) -> dg.RunRequest | dg.SkipReason:
    """Look once a day: it takes a warehouse. Idle without an account."""
    if lake.settings().snowflake.account is None:
        return dg.SkipReason("no account is set (snowflake.account)")
    return dg.RunRequest(tags=FIRST)


@dg.sensor(
    job=snowflake_refresh,
    minimum_interval_seconds=int(LOOK.total_seconds()),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Observes how far Snowflake is behind; has late tables refreshed. Idle without an account.",
)
def snowflake_lag(
    context: dg.SensorEvaluationContext, lake: Lake, notifier: Notifier
) -> dg.SensorResult | dg.SkipReason:
    """Observe each table; the cursor has what was observed, and how Snowflake refused last time, if so."""
    settings = lake.settings()
    if settings.snowflake.account is None:
        return dg.SkipReason("no account is set (snowflake.account)")
    seen = json.loads(context.cursor or "{}")
    try:
        with Session(login_of(settings), "watch") as session:
            deployment = deployment_of(settings)
            stopped = readers_stopped(deployment, session.ask)
            found = freshness_of(deployment, lake.catalog(), session.ask)
    except SnowflakeError as error:
        kind = type(error).__name__
        if seen.get("error") != kind:  # people are told when it begins, or is another, not each time
            notifier.tell(
                "snowflake", f"Snowflake cannot be watched: {error}", next=error.hint, runbook=RUNBOOK
            )
        return dg.SensorResult(cursor=json.dumps({**seen, "error": kind}))
    if stopped is not None and seen.get("readers") != stopped:
        notifier.tell("snowflake", f"Snowflake's readers are cut off: {stopped}", runbook=RUNBOOK)
    states = {one.table: f"{one.snapshot_id} {one.state} {one.behind}" for one in found}
    news = [one for one in found if seen.get(one.table) != states[one.table]]
    late = sorted(one.table for one in found if one.needs_refresh)
    now = datetime.now(UTC)
    key = f"{', '.join(late)} {now:%Y-%m-%dT%H}:{now.minute // _AGAIN_MINUTES * _AGAIN_MINUTES:02d}"
    return dg.SensorResult(
        run_requests=[dg.RunRequest(key, tags=FIRST)] if late else [],
        asset_events=[_observation(one) for one in news],
        cursor=json.dumps({**states, "readers": stopped}),
    )


def _observation(one: Freshness) -> dg.AssetObservation:
    delay = one.last_delay_s
    return dg.AssetObservation(
        snowflake_key(one.table),
        metadata={
            "refresh": one.state.value,
            "commits_behind": one.behind,
            "lag_seconds": round(one.lag_s, 1),
            "snapshot_id": str(one.snapshot_id),  # JavaScript would round a number
            **({} if delay is None else {"commit_to_refresh_seconds": round(delay, 1)}),
        },
    )
