"""Who is told of what fails: a webhook, or the log where none is set.

Belongs here: the ways to tell, and telling of failed runs. Does not: other reasons to tell (`hours.py`,
`breaks.py`, `checks/`).
"""

import json
import urllib.request
from typing import Any

import dagster as dg
import structlog

from assets.lake import Lake

# The tag of a job that a runbook is about.
RUNBOOK_TAG = "paywave/runbook"
_SECONDS = 10.0
_log = structlog.get_logger(__name__)


class Notifier(dg.ConfigurableResource[Any]):
    """Tells people. `lake` knows the webhook; a test or another deployment puts its own in this place."""

    lake: Lake

    def tell(self, what: str, text: str, **details: str) -> None:
        """Send one alert: a short name, a sentence, and what helps to act. An alert that fails is logged."""
        _log.error("alert", what=what, text=text, **details)
        webhook = self.lake.settings().conductor.webhook_url
        if webhook is None:
            return
        body = json.dumps({"alert": what, "text": text, **details}).encode()
        request = urllib.request.Request(  # noqa: S310 - the address is a setting
            webhook.get_secret_value(), body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310
                pass
        except OSError as error:  # what is reported must not fail because of the report
            _log.error("alert not delivered", what=what, error=type(error).__name__)


@dg.run_failure_sensor(
    default_status=dg.DefaultSensorStatus.RUNNING, description="Tells people of every failed run, and why."
)
def failed_runs(context: dg.RunFailureSensorContext, notifier: Notifier) -> None:
    """Tell of one failed run."""
    tell_failure(context, notifier)


def tell_failure(context: dg.RunFailureSensorContext, notifier: Notifier) -> None:
    """Tell of a failed run: why, by what its steps say, and where to look."""
    run = context.dagster_run
    reasons = [_reason(event) for event in context.get_step_failure_events()]
    notifier.tell(
        "run_failed",
        f"run of {run.job_name} failed: {'; '.join(reasons) or context.failure_event.message}",
        run_id=run.run_id,
        next="open the run in the pages of `paywave ui`; to launch it again is safe",
        **({"runbook": run.tags[RUNBOOK_TAG]} if RUNBOOK_TAG in run.tags else {}),
    )


def _reason(event: dg.DagsterEvent) -> str:
    """Say why a step failed: what it says itself, else the innermost error of the work's own."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return f"{event.step_key}: {data.user_failure_data.description}"
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return f"{event.step_key}: {error.message.strip() if error is not None else event.message}"
