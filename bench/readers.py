"""`make bench-freshness`: seconds from an event's creation until Snowflake's reader sees it, stage by stage.

Belongs here: the order of the steps and the report. Does not: processes (`jobs.py`), publishes
(`freshness.py`), sending (`posting.py`).

The reader is the stand-in for Snowflake, which asks the catalog every 30 s, as Snowflake does at its fastest.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from assets.snowflake_account import deployment_of, login_of
from bench.freshness import Freshness, Window, firsts, publishes, records, told
from bench.jobs import Jobs
from bench.lake import Lake, running_lake
from bench.posting import Requests
from bench.telling import machine, remark
from config.settings import Settings, load_settings
from lakehouse.definitions import PAYMENTS, RAW
from local.ports import free_port
from local.snowflake.launch import started, variables
from snowflake_external.freshness import first_shown
from snowflake_external.session import Session
from snowflake_external.watch import freshness_of, refreshes_of

MOST_P95_S = 120.0
_STAGES = ("gateway and Kafka", "raw", "curated", "Snowflake's refresh", "all of it")
_DRAIN_SECONDS = 300.0


@dataclass(frozen=True)
class Scale:
    """Events a second, seconds to warm the jobs, seconds that count."""

    rate: int
    warm_s: float
    seconds: float


FULL = Scale(200, 120, 300)
QUICK = Scale(50, 60, 90)


def main() -> int:
    """Run it; returns 1 where P95 of all stages is over two minutes."""
    parser = argparse.ArgumentParser(prog="bench-freshness")
    parser.add_argument("--quick", action="store_true", help="few events, a short window: a look, no result")
    parser.add_argument("--rate", type=int, help="events per second")
    given = parser.parse_args()
    scale = QUICK if given.quick else FULL
    scale = Scale(given.rate or scale.rate, scale.warm_s, scale.seconds)
    print(machine())
    print(f"{scale.rate} events/s through the gateway for {scale.seconds:g} s; refresh every 30 s")
    with running_lake() as lake:
        lake.spark.stop()
        with _stand_in(lake.settings), Jobs(lake.settings.home) as jobs:
            found = _measured(lake, jobs, scale)
    print()
    print("| stage | P50 s | P95 s | worst s |\n|---|---|---|---|")
    for name, one in zip(_STAGES, found, strict=True):
        print(f"| {name} | {one.p50:.1f} | {one.p95:.1f} | {one.worst:.1f} |")
    whole = found[-1]
    verdict = "within" if whole.p95 <= MOST_P95_S else "NOT within"
    print(f"\n{whole.records:,} events; P95 {whole.p95:.1f} s, {verdict} {MOST_P95_S:g} s", flush=True)
    return 0 if whole.p95 <= MOST_P95_S else 1


def _measured(lake: Lake, jobs: Jobs, scale: Scale) -> list[Freshness]:
    port = free_port()
    os.environ["PAYWAVE_GATEWAY__PORT"] = str(port)
    jobs.serve("gateway")
    jobs.serve("stream", "raw")
    jobs.serve("stream", "curated")
    jobs.call("snowflake", "apply")
    with Requests(lake.settings, port, scale.rate) as requests:
        remark(f"warming up, {scale.warm_s:g} s")
        jobs.pause(scale.warm_s)
        since = datetime.now(UTC)
        remark(f"measuring, {scale.seconds:g} s")
        jobs.pause(scale.seconds)
        window = Window(since, datetime.now(UTC))
    if requests.refused:
        raise RuntimeError(f"the gateway refused {requests.refused} requests: {requests.last}")
    remark("waiting until all of it is shown")
    settings = load_settings(home=lake.settings.home)
    refreshed = _await_shown(lake, settings, window)
    return _stages(lake, window, refreshed)


def _await_shown(lake: Lake, settings: Settings, window: Window) -> dict[int, datetime]:
    """Wait until every commit up to a while after the window is shown; returns when each was."""
    deployment = deployment_of(settings)
    deadline = time.monotonic() + _DRAIN_SECONDS
    with Session(login_of(settings), "bench") as session:
        while time.monotonic() < deadline:
            (payments,) = (
                one for one in freshness_of(deployment, lake.catalog, session.ask) if one.table == PAYMENTS
            )
            shown = refreshes_of(deployment, PAYMENTS, session.ask)
            if payments.behind == 0 and shown and max(shown.values()) > window.until:
                return shown
            time.sleep(2)
    raise RuntimeError(f"Snowflake did not show all of it within {_DRAIN_SECONDS:g} s")


def _stages(lake: Lake, window: Window, refreshed: dict[int, datetime]) -> list[Freshness]:
    rows = [one for one in records(lake, window) if one.created_ms is not None]
    raw, payments = publishes(lake, RAW), publishes(lake, PAYMENTS)
    ids = [one.snapshot_id for one in payments]
    shown = dict(zip(ids, first_shown(ids, refreshed), strict=True))
    ages: list[list[float]] = [[] for _ in _STAGES]
    for record, in_raw, folded in zip(rows, firsts(rows, raw), firsts(rows, payments), strict=True):
        at = shown[folded.snapshot_id]
        if at is None or record.created_ms is None:
            raise RuntimeError(f"Snowflake does not show snapshot {folded.snapshot_id}")
        times = (record.created_ms, record.taken_ms, in_raw.at_ms, folded.at_ms, at.timestamp() * 1000)
        for stage, (before, after) in enumerate(pairwise(times)):
            ages[stage].append((after - before) / 1000)
        ages[-1].append((times[-1] - times[0]) / 1000)
    return [told(one) for one in ages]


@contextmanager
def _stand_in(settings: Settings) -> Iterator[None]:
    """Run the stand-in for Snowflake, and tell whoever is started from here how to log in."""
    process = started(settings.home, free_port())
    try:
        os.environ |= variables(settings.home)
        yield
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    sys.exit(main())
