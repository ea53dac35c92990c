"""Real kills of the real jobs while events arrive: nothing lost, nothing twice, whatever the moment.

Belongs here: SIGKILL and SIGTERM to `paywave stream`. Does not: chosen points of interruption
(`integration/test_interrupted_job.py`).
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.settings import Settings
from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.refs import read_head
from streaming.message import message_of
from streaming.producer import send
from tests.commands import Running
from tests.pipeline import Pipeline, dirty
from tests.reference import assert_raw_is_the_topic, assert_the_law

pytestmark = [pytest.mark.integration, pytest.mark.faults]

IS_LONG = bool(os.environ.get("PAYWAVE_LONG_FAULTS"))
KILLS = 24 if IS_LONG else 3
EVENTS_PER_KILL = 600
SEED = 20261120
JOBS = ("raw", "curated")
START_SECONDS = 120.0
LONGEST_DELAY = 3.0
TABLES = (RAW, VERSIONS, PAYMENTS, QUARANTINE)


@contextmanager
def jobs(pipeline: Pipeline, folder: Path) -> Iterator[dict[str, Running]]:
    """Both jobs as services; whatever happens, nothing of them is left behind."""
    environment = pipeline.environment()
    running = {
        name: Running("stream", name, "--output", "json", folder=folder, environment=environment)
        for name in JOBS
    }
    try:
        yield running
    finally:
        for job in running.values():
            job.end()


def wait_until(what: Callable[[], bool], running: dict[str, Running]) -> None:
    """Wait for something that the jobs must bring about; they must not end meanwhile."""
    deadline = time.monotonic() + START_SECONDS
    while not what():
        for name, job in running.items():
            assert job.is_alive, f"{name} ended: {job.said}"
            assert time.monotonic() < deadline, f"{name} came to nothing: {job.said}"
        time.sleep(0.1)


def snapshot_of(pipeline: Pipeline, table: str) -> int:
    return read_head(pipeline.catalog, table).snapshot.snapshot_id


def kill_in_the_midst(pipeline: Pipeline, folder: Path, rng: random.Random) -> str:
    """Start both jobs, wait until a table of chance has moved and a moment of chance more, kill both."""
    table, delay = rng.choice(TABLES), rng.uniform(0, LONGEST_DELAY)
    order = rng.sample(JOBS, 2)
    before = snapshot_of(pipeline, table)
    with jobs(pipeline, folder) as running:
        wait_until(lambda: snapshot_of(pipeline, table) != before, running)
        time.sleep(delay)
        for name in order:
            running[name].kill()
    return f"{delay:.3f} s after {table} moved, {order[0]} first"


@pytest.mark.timeout(KILLS * 100 + 200)
def test_jobs_killed_at_any_moment_lose_nothing_and_double_nothing(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    simulation = dirty(KILLS * EVENTS_PER_KILL, SEED)
    lines = list(simulation.lines())
    killed = []
    for nth in range(KILLS):
        part = lines[nth * EVENTS_PER_KILL : (nth + 1) * EVENTS_PER_KILL]
        with ThreadPoolExecutor(1) as pool:
            # the first of them are there when the jobs start, the others come while they run and die
            sending = pool.submit(trickle, pipeline, part)
            killed.append(kill_in_the_midst(pipeline, tmp_path, rng))
            assert sending.result() == len(part)
    print("killed:", *killed, sep="\n  ")

    pipeline.run()
    assert_raw_is_the_topic(pipeline)
    assert Counter(row["value"] for row in pipeline.rows(RAW)) == Counter(lines)
    assert_the_law(pipeline)
    stock, wanted = pipeline.stock(), simulation.outcome.as_dict()
    counted = ("redelivered", "versions", "events", "payments", "quarantined", "reversed_payments")
    assert {name: getattr(stock, name) for name in counted} == {name: wanted[name] for name in counted}
    assert {str(reading.amount) for reading in stock.readers.values()} == {wanted["amount"]}


def trickle(pipeline: Pipeline, lines: list[bytes]) -> int:
    """Send half at once and the rest over about twenty seconds; returns what was acknowledged."""
    half = len(lines) // 2
    kafka = pipeline.settings.kafka_properties()
    messages = [message_of(line, "bank") for line in lines]
    first = send(messages[:half], pipeline.topic, kafka)
    rest = send(messages[half:], pipeline.topic, kafka, rate=(len(lines) - half) / 20)
    return first.acknowledged + rest.acknowledged


def test_jobs_told_to_stop_finish_their_batch_and_tell_no_secrets(
    stack: Settings, pipeline: Pipeline, tmp_path: Path
) -> None:
    secrets = [stack.s3.access_key, stack.s3.secret_key]
    pipeline.send_lines(dirty(300, 5).lines())
    before = snapshot_of(pipeline, QUARANTINE)
    with jobs(pipeline, tmp_path) as running:
        wait_until(lambda: snapshot_of(pipeline, QUARANTINE) != before, running)
        shown = [line for job in running.values() for line in job.command_lines()]
        done = {name: job.terminate() for name, job in running.items()}
    assert any("java" in line for line in shown)
    for name, job in done.items():
        assert job.code == 0, job.stderr
        assert job.json == {"records": 300}, name
        assert "Traceback" not in job.stderr
        shown += [job.stdout, job.stderr]
    shown += [path.read_text(errors="replace") for path in (stack.home / "logs").iterdir()]
    for secret in secrets:
        assert secret is not None
        assert not [text for text in shown if secret.get_secret_value() in text]
    assert_raw_is_the_topic(pipeline)
    assert_the_law(pipeline)
