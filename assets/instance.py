"""Dagster's own instance: where it keeps runs and events, how many run at once, what it does when one dies.

Belongs here: rendering settings as `dagster.yaml`. Does not: starting servers (`servers.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from config.settings import Settings
from lakehouse.whole_file import replace_file

POSTGRES_ENV = "DAGSTER_POSTGRES_URL"
# Beside the streaming jobs there is room for few: what starts Spark waits for its pool besides.
_RUNS, _BACKFILL_RUNS = 4, 1
_TICK_DAYS = {"skipped": 3, "success": 30, "failure": 90, "started": 3}


def write_instance(settings: Settings) -> Path:
    """Write `dagster.yaml` into Dagster's folder of this home, and return the folder."""
    folder = settings.home / "dagster"
    rendered = json.dumps(instance_config(settings, folder), indent=2)  # YAML takes JSON
    target = folder / "dagster.yaml"
    if not target.exists() or target.read_text() != rendered:
        replace_file(target, rendered)
    return folder


def instance_config(settings: Settings, folder: Path) -> dict[str, Any]:
    """Render the instance. Secrets stay in the environment (`environment`)."""
    storage: dict[str, Any] = {"sqlite": {"base_dir": str(folder / "storage")}}
    if settings.conductor.postgres_url is not None:
        storage = {"postgres": {"postgres_url": {"env": POSTGRES_ENV}}}
    return {
        "storage": storage,
        "concurrency": {
            "pools": {"default_limit": 1, "granularity": "run"},
            "runs": {
                "max_concurrent_runs": _RUNS,
                # One run of a backfill at a time, whichever backfill it is of: live data go first.
                "tag_concurrency_limits": [{"key": "dagster/backfill", "limit": _BACKFILL_RUNS}],
            },
        },
        "run_monitoring": {"enabled": True, "start_timeout_seconds": 180, "poll_interval_seconds": 15},
        # A run whose process died is launched again; one that failed has tried again by itself.
        "run_retries": {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False},
        # Sensors tick each minute or oftener, for years. Runs and their events stay: they say who did what.
        "retention": {
            "schedule": {"purge_after_days": _TICK_DAYS},
            "sensor": {"purge_after_days": _TICK_DAYS},
            "auto_materialize": {"purge_after_days": _TICK_DAYS},
        },
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
    }


def environment(settings: Settings, folder: Path) -> dict[str, str]:
    """What Dagster's processes are told by their environment. Not for logs."""
    found = {"DAGSTER_HOME": str(folder), "PAYWAVE_HOME": str(settings.home)}
    if settings.conductor.postgres_url is not None:
        found[POSTGRES_ENV] = settings.conductor.postgres_url.get_secret_value()
    return found
