"""Telling people of a failed run, as the daemon has it done by its sensor.

Belongs here: handing a run that failed in this process to what tells of it. Does not: any such run.
"""

from __future__ import annotations

import dagster as dg

from assets.notify import Notifier, tell_failure


def tell_of(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance, notifier: Notifier) -> None:
    """Have a notifier tell of a run that failed."""
    context = dg.build_run_status_sensor_context(
        sensor_name="failed_runs",
        dagster_event=result.get_run_failure_event(),
        dagster_instance=instance,
        dagster_run=result.dagster_run,
    )
    tell_failure(context.for_run_failure(), notifier)
