"""Real kills of the real jobs while events arrive: nothing lost, nothing twice, whatever the moment.

Belongs here: SIGKILL and SIGTERM to `paywave stream`. Does not: chosen points of interruption
(`integration/test_interrupted_job.py`).
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from config.settings import Settings
from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.refs import read_head
from tests.pipeline import Pipeline
from tests.reference import assert_raw_is_the_topic, assert_the_law
from tests.services import Services, consumed, trickle
from tests.streams import dirty

pytestmark = [pytest.mark.integration, pytest.mark.faults]

KILLS = 24 if os.environ.get("PAYWAVE_LONG_FAULTS") else 2
SEED = 20261120
EVENTS_PER_ROUND = 500
LONGEST_DELAY = 2.0
TABLES = {"raw": (RAW,), "curated": (VERSIONS, PAYMENTS, QUARANTINE)}
VICTIMS = (("raw",), ("curated",), ("raw", "curated"))


def snapshot_of(pipeline: Pipeline, table: str) -> int:
    return read_head(pipeline.catalog, table).snapshot.snapshot_id


def kill_in_the_midst(
    pipeline: Pipeline, services: Services, victims: tuple[str, ...], lines: list[bytes], rng: random.Random
) -> str:
    """Let events arrive, wait until a table of a victim has moved and a moment of chance more, and kill."""
    table, delay = rng.choice(TABLES[rng.choice(victims)]), rng.uniform(0, LONGEST_DELAY)
    before = snapshot_of(pipeline, table)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(trickle, pipeline, lines)
        services.wait_until(lambda: snapshot_of(pipeline, table) != before)
        time.sleep(delay)
        services.kill(*victims)
        services.start(*victims)
        assert sending.result() == len(lines)
    return f"{' and '.join(victims)}, {delay:.3f} s after {table} moved"


def stop(services: Services, stack: Settings) -> None:
    """SIGTERM: each ends by itself with its result, and nothing that it showed meanwhile is a secret."""
    shown = [line for job in services.running.values() for line in job.command_lines()]
    assert any("java" in line for line in shown)
    for job in services.running.values():
        done = job.terminate()
        assert done.code == 0, done.stderr
        assert list(done.json) == ["records"]
        assert "Traceback" not in done.stderr
        shown += [done.stdout, done.stderr]
    shown += [path.read_text(errors="replace") for path in (stack.home / "logs").iterdir()]
    for secret in (stack.s3.access_key, stack.s3.secret_key):
        assert secret is not None
        assert not [text for text in shown if secret.get_secret_value() in text]


@pytest.mark.timeout(KILLS * 100 + 200)
def test_jobs_killed_at_any_moment_lose_nothing_and_double_nothing(
    stack: Settings, pipeline: Pipeline, services: Services
) -> None:
    rng, simulation = random.Random(SEED), dirty(KILLS * EVENTS_PER_ROUND, SEED)
    lines = list(simulation.lines())
    victims = [names for _ in range(KILLS) for names in rng.sample(VICTIMS, len(VICTIMS))]
    print(f"seed {SEED}, killed:")
    for nth in range(KILLS):
        part = lines[nth * EVENTS_PER_ROUND : (nth + 1) * EVENTS_PER_ROUND]
        print(" ", kill_in_the_midst(pipeline, services, victims[nth], part, rng))

    services.wait_until(lambda: all(consumed(pipeline, t) == len(lines) for t in TABLES["curated"]))
    stop(services, stack)
    pipeline.run()  # as `--once` does; there should be nothing left to do
    assert_raw_is_the_topic(pipeline)
    assert Counter(row["value"] for row in pipeline.rows(RAW)) == Counter(lines)
    assert_the_law(pipeline)
    stock, wanted = pipeline.stock(), simulation.outcome.as_dict()
    counted = ("redelivered", "versions", "events", "payments", "quarantined", "reversed_payments")
    assert {name: getattr(stock, name) for name in counted} == {name: wanted[name] for name in counted}
    assert {str(reading.amount) for reading in stock.readers.values()} == {wanted["amount"]}
