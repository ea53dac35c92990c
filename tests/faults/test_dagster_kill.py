"""Dagster's parts are killed, as processes: what they were to do is done, and nothing is left behind.

Belongs here: real processes of `paywave ui`. Does not: what it launches (`test_backfill_kill.py`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from assets.hours import KEY_FORMAT
from assets.tables import key_of
from config.settings import Settings
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import PAYMENTS, VERSIONS
from streaming.backfill.plan import name_for
from streaming.backfill.state import Status
from streaming.backfill.store import Store
from tests.commands import parent_of
from tests.conductor import Conductor
from tests.events import event_id, wire
from tests.pipeline import Pipeline
from tests.reference import contents

pytestmark = [pytest.mark.integration, pytest.mark.faults]
HOUR = (datetime.now(UTC) - timedelta(days=2)).replace(minute=30, second=0, microsecond=0)
KEY = HOUR.strftime(KEY_FORMAT)
CURATED = tuple("/".join(key_of(name).path) for name in (VERSIONS, PAYMENTS))
SETTINGS = {
    "PAYWAVE_CONDUCTOR__RETRY_SECONDS": "3",
    "PAYWAVE_CONDUCTOR__FIRST_HOUR": f"{HOUR - timedelta(days=1):%Y-%m-%dT%H}:00Z",
}
DAMAGED = f"array_contains(event_ids, '{event_id('damaged')}')"


@pytest.fixture(scope="module")
def pipeline(stack: Settings, catalog: RestCatalog, spark: SparkSession) -> Pipeline:
    filled = Pipeline(stack, catalog, spark)
    old = {"event_ts": HOUR.isoformat(), "ingest_ts": HOUR.isoformat()}
    filled.send_lines([wire("damaged", **old), wire("good", **old | {"account_id": "another"})])
    filled.run()
    return filled


@pytest.fixture(scope="module")
def served(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conductor]:
    conductor = Conductor(pipeline, tmp_path_factory.mktemp("ui"), **SETTINGS)
    try:
        yield conductor
    finally:
        conductor.end()


class Damage:
    """An hour with a wrong amount: from then on readers see it so or put right, and nothing in between."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.right = contents(pipeline)
        pipeline.spark.sql(f"UPDATE {CATALOG_NAME}.{PAYMENTS} SET amount = 1 WHERE {DAMAGED}")
        self.wrong = contents(pipeline)
        assert self.wrong != self.right

    def look(self) -> None:
        assert contents(self._pipeline) in (self.wrong, self.right)

    def assert_repaired(self) -> None:
        assert contents(self._pipeline) == self.right


@pytest.mark.slow
def test_a_killed_daemon_is_started_again_and_launches_what_waits(
    served: Conductor, pipeline: Pipeline
) -> None:
    os.kill(served.pids["daemon"], signal.SIGKILL)
    run = served.launch("quality/closed_hours", partition=KEY)
    served.wait_until(lambda: served.run(run).status == "SUCCESS", "the run that waited succeeds")
    (daemon,) = served.process.pids_with("-m", "dagster._daemon")
    assert daemon != served.pids["daemon"]
    assert "server died" in served.process.said


def kill_run(served: Conductor, command: int) -> None:
    """Kill the run's process alone: its command must end by itself."""
    os.kill(parent_of(command), signal.SIGKILL)
    served.wait_until(lambda: command not in served.process.pids_with("cli", "backfill"), "the command ended")


def kill_command(served: Conductor, command: int) -> None:
    os.kill(command, signal.SIGKILL)


def kill_code_server(served: Conductor, command: int) -> None:
    """Kill what runs the run: both must end by themselves."""
    (server,) = served.process.pids_with("dagster", "api", "grpc")
    os.kill(server, signal.SIGKILL)
    served.wait_until(lambda: command not in served.process.pids_with("cli", "backfill"), "the command ended")


def kill_spark(served: Conductor, command: int) -> None:
    (jvm,) = [java for java in served.process.pids_of("java") if parent_of(java) == command]
    os.kill(jvm, signal.SIGKILL)


@pytest.mark.long
@pytest.mark.parametrize(
    ("kill", "statuses"),
    [
        (kill_run, ["FAILURE", "SUCCESS"]),  # launched again by the daemon
        (kill_code_server, ["FAILURE", "SUCCESS"]),
        (kill_command, ["SUCCESS"]),  # tried again within the run
        (kill_spark, ["SUCCESS"]),
    ],
)
def test_an_hour_is_put_right_although_its_run_is_killed_midway(
    served: Conductor, pipeline: Pipeline, kill: Callable[[Conductor, int], None], statuses: list[str]
) -> None:
    damage = Damage(pipeline)
    run = served.launch(*CURATED, checked=False, partition=KEY)
    command = await_work(served, pipeline, run)
    damage.look()
    kill(served, command)

    def ended() -> bool:
        return served.tries_of(run)[-1].status == "SUCCESS"

    served.wait_until(ended, "another try succeeds", damage.look)
    assert [found.status for found in served.tries_of(run)] == statuses, served.logs_of(run)
    damage.assert_repaired()


def await_work(served: Conductor, pipeline: Pipeline, run: str) -> int:
    """Wait until the run's command is folding the hour. Returns its process."""
    store = Store(pipeline.settings.home / "backfills")
    name = name_for([KEY], f"no reason given (run {run})")

    def is_folding() -> bool:
        return store.has(name) and store.find(name).state().of(KEY).status is Status.RUNNING

    served.wait_until(is_folding, "the hour is being folded")
    served.wait_until(lambda: "raw: 2 of 2" in served.logs_of(run), "its records are gathered")
    (command,) = served.process.pids_with("-m", "cli", "backfill")
    return command


@pytest.mark.slow  # one is started for it alone; in `make test` the browser's tests start one
def test_a_second_one_refuses_and_says_so(served: Conductor) -> None:
    second = served.start()
    try:
        done = second.wait(60)
    finally:
        second.end()
    assert done.code == 1
    assert "another `paywave ui` serves" in done.stderr
    assert "Traceback" not in done.stderr
    assert served.process.is_alive


@pytest.mark.long
def test_killed_as_a_whole_it_leaves_nothing_behind_and_the_next_one_goes_on(
    served: Conductor, pipeline: Pipeline, tmp_path: Path
) -> None:
    damage = Damage(pipeline)
    run = served.launch(*CURATED, checked=False, partition=KEY)
    await_work(served, pipeline, run)
    os.kill(served.process.pid, signal.SIGKILL)
    served.process.wait(60)  # fails where anything of its session is left
    damage.look()
    second = Conductor(pipeline, tmp_path, **SETTINGS)
    try:
        second.wait_until(lambda: second.tries_of(run)[-1].status == "SUCCESS", "it succeeds", damage.look)
        assert [found.status for found in second.tries_of(run)] == ["FAILURE", "SUCCESS"]
        damage.assert_repaired()
        assert second.process.terminate().code == 0
    finally:
        second.end()
