"""A backfill is killed in the midst of its work, as a process: it goes on, and what was done is left alone.

Belongs here: real processes. Does not: failures of single hours (`integration/test_backfill.py`).
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import PAYMENTS, VERSIONS
from streaming.backfill.state import Status
from streaming.backfill.store import Store
from tests.commands import Done, Running
from tests.pipeline import Pipeline
from tests.reference import assert_the_law, contents
from tests.streams import dirty

pytestmark = [
    pytest.mark.integration,
    pytest.mark.faults,
    pytest.mark.long,
]
SECONDS = 300.0


class Command:
    """`paywave backfill`, on a pipeline's home, with one hour to a chunk."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self._folder = folder
        self._environment = {**pipeline.environment(), "PAYWAVE_BACKFILL__CHUNK_HOURS": "1"}

    def start(self, *arguments: str) -> Running:
        arguments = ("backfill", *arguments, "--output", "json")
        return Running(*arguments, folder=self._folder, environment=self._environment)

    def run(self, *arguments: str) -> Done:
        running = self.start(*arguments)
        try:
            return running.wait(SECONDS)
        finally:
            running.end()


def kill_midway(
    command: Command, store: Store, name: str, done: int, kill: Callable[[Running], None]
) -> None:
    """Kill it, or a part of it, once so many hours are done and another one is at work."""
    running = command.start("run", name)
    deadline = time.monotonic() + SECONDS
    try:
        while not is_midway(store, name, done):
            assert running.is_alive, running.said
            assert time.monotonic() < deadline, running.said
            time.sleep(0.05)
        kill(running)
    finally:
        running.end()


def is_midway(store: Store, name: str, done: int) -> bool:
    found = Counter(hour.status for hour in store.find(name).state().hours.values())
    return found[Status.DONE] >= done and found[Status.RUNNING] > 0


def kill_spark(running: Running) -> None:
    """Kill the Spark driver alone: the command must say so and end."""
    (jvm,) = running.pids_of("java")
    os.kill(jvm, signal.SIGKILL)
    done = running.wait(SECONDS)
    assert done.code == 1
    assert "Spark or the catalog is gone" in done.stderr
    assert "goes on where it was" in done.stderr


@pytest.mark.timeout(1800)
def test_a_killed_backfill_goes_on_and_two_run_side_by_side(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.send_lines(dirty(150, 41, timedelta(hours=3)).lines())
    pipeline.run()
    before = contents(pipeline)
    hours = sorted({f"{row['event_ts']:%Y-%m-%dT%H}" for row in before[VERSIONS].values()})[-3:]
    for table in (VERSIONS, PAYMENTS):
        late = f"event_ts >= TIMESTAMP '{hours[0]}:00:00Z'"
        pipeline.spark.sql(f"DELETE FROM {CATALOG_NAME}.{table} WHERE {late} AND offset % 2 = 0")
    command, store = Command(pipeline, tmp_path), Store(pipeline.settings.home / "backfills")
    named = [part for hour in hours for part in ("--hour", hour)]
    names = [f"kill-{pipeline.topic[-8:]}-{nth}" for nth in (1, 2)]  # the home outlives the test
    for name in names:
        done = command.run("plan", *named, "--reason", "a kill", "--approver", "bob", "--name", name)
        assert done.code == 0, done.stderr

    kill_midway(command, store, names[0], 1, kill_spark)
    kill_midway(command, store, names[0], 2, Running.kill)
    killed = store.find(names[0]).state().hours
    finished = [hour for hour, found in killed.items() if found.status is Status.DONE]
    assert not store.find(names[0]).is_running(), "the lock went with the process"
    said = command.run("status", names[0]).json
    assert said["counts"] == {
        "hours": 3,
        "pending": 3 - len(finished),
        "running": 0,
        "done": len(finished),
        "failed": 0,
    }

    both = [command.start("run", name) for name in names]
    try:
        results: list[dict[str, Any]] = []
        for running in both:
            done = running.wait(SECONDS)
            assert done.code == 0, done.stderr
            results.append(done.json)
    finally:
        for running in both:
            running.end()
    assert not {hour["hour"] for hour in results[0]["hours"]} & set(finished), "done hours are left alone"
    assert all(result["done"] for result in results)
    assert contents(pipeline) == before
    assert_the_law(pipeline)
    assert not pipeline.catalog.list_tables("replay")
    assert command.run("run", names[0]).json["changed"] == {}
