"""Everything that Dagster runs, in one place: used by production, by tests and by `paywave ui`.

Belongs here: putting the parts together. Does not: any part.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets import backfill, breaks, exports, hours, maintenance, new_exports, notify, observe, snowflake
from assets.checks import integrity, sample, standing
from assets.lake import Lake
from assets.notify import Notifier
from assets.tables import outside_specs, spec_of
from assets.work import Work
from lakehouse.definitions import BY_NAME, FILE_DIGESTS, PAYMENTS, RECONCILIATION, VERSIONS

_MADE_HERE = {VERSIONS, PAYMENTS, RECONCILIATION, FILE_DIGESTS}


def build_defs(overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Build the definitions.

    Args:
        overrides: resources in place of ours, by name: `lake`, `work`, `notifier`; the others use that lake.
    """
    given = dict(overrides or {})
    lake = given.setdefault("lake", Lake())
    settings = lake.settings()
    conductor = settings.conductor
    partitions = hours.hourly(conductor.first_hour)
    return dg.Definitions(
        assets=[
            *(spec_of(name) for name in BY_NAME if name not in _MADE_HERE),
            *outside_specs(),
            backfill.curated_hours_asset(partitions, conductor.backfill_hours, conductor.retry_seconds),
            hours.event_hours_spec(partitions),
            hours.closed_hours_asset(partitions),
            *maintenance.ASSETS,
        ],
        jobs=[snowflake.snowflake_refresh, snowflake.snowflake_plan, exports.audit_renewal],
        asset_checks=[standing.standing_checks, sample.replay_sample, integrity.files_intact],
        schedules=[
            standing.every_ten_minutes,
            sample.daily,
            integrity.daily,
            snowflake.snowflake_plan_daily,
            *maintenance.SCHEDULES,
        ],
        sensors=[
            observe.new_snapshots,
            hours.hours_that_close,
            breaks.breaks,
            new_exports.new_exports,
            notify.failed_runs,
            snowflake.snowflake_lag,
            dg.AutomationConditionSensorDefinition(
                "late_hours",
                target=dg.AssetSelection.assets(hours.CLOSED_HOURS),
                default_status=dg.DefaultSensorStatus.RUNNING,
                minimum_interval_seconds=30,
                description="Has a closed hour stated again when its payments changed, however old it is.",
            ),
        ],
        # What is heavy runs in a process of its own anyway (`work.py`).
        executor=dg.in_process_executor,
        resources={"work": _work(lake, settings.work.place), "notifier": Notifier(lake=lake), **given},
    )


def _work(lake: Lake, place: str) -> Work:
    if place == "process":
        return Work(lake=lake)
    from assets.pods import WorkInPods  # its client comes with the extra `aws`

    return WorkInPods(lake=lake)
