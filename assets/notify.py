"""Who is told of what fails: a webhook, or the log where none is set.

Belongs here: the ways to tell, and telling of failed runs. Does not: other reasons to tell (`hours.py`,
`breaks.py`, `checks/`).
"""

import json
import time
import urllib.request
from http.client import HTTPException
from typing import Any

import dagster as dg
import structlog

from assets.lake import Lake

# The tag of a job that a runbook is about.
RUNBOOK_TAG = "paywave/runbook"
_SECONDS = 10.0
_PAUSES = (1.0, 5.0)  # before each further attempt, seconds
_OPEN = "open the run in the pages of `paywave ui`; to launch it again is safe"
_AGAIN = "it is launched again by itself; the run is in the pages of `paywave ui`"
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
        for pause in (*_PAUSES, None):
            try:
                _post(webhook.get_secret_value(), body)
                return
            # What is reported must not fail because of the report, whatever the address or the answer is.
            except (OSError, ValueError, HTTPException) as error:
                _log.error("alert not delivered", what=what, error=type(error).__name__, again_in_s=pause)
            if pause is not None:
                time.sleep(pause)


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
        next=_AGAIN if run.tags.get("dagster/will_retry") == "true" else _OPEN,
        **({"runbook": run.tags[RUNBOOK_TAG]} if RUNBOOK_TAG in run.tags else {}),
    )


def _post(address: str, body: bytes) -> None:
    request = urllib.request.Request(  # noqa: S310 - the address is a setting
        address, body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310
        pass


def _reason(event: dg.DagsterEvent) -> str:
    """Say why a step failed: what it says itself, else the error of the work's own, not what led to that."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return f"{event.step_key}: {data.user_failure_data.description}"
    error = data.error
    if error is not None and error.cause is not None:  # Dagster's own error is around it
        error = error.cause
    return f"{event.step_key}: {error.message.strip() if error is not None else event.message}"
