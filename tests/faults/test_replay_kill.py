"""Replay beside live jobs that are killed, and killed itself: the tables end as the fold of raw.

Belongs here: real processes. Does not: chosen points of interruption (`integration/test_replay.py`).
"""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import PAYMENTS, QUARANTINE, VERSIONS
from streaming.replay.scope import ALL
from streaming.replay.verify import ReplaySettings, Verifier
from tests.commands import Running
from tests.pipeline import Pipeline
from tests.reference import assert_raw_is_the_topic, assert_the_law
from tests.services import Services, consumed, trickle
from tests.streams import dirty

pytestmark = [
    pytest.mark.integration,
    pytest.mark.faults,
    pytest.mark.long,
]

CURATED = (VERSIONS, PAYMENTS, QUARANTINE)
ROUNDS = 4
EVENTS_PER_ROUND = 600
SEED = 20261122
LONGEST_DELAY = 25.0
REPLAY_SECONDS = 400.0


def damage(pipeline: Pipeline, nth: int) -> None:
    """Take rows away behind everybody's back; the live job may come in between, so it may take some tries."""
    for table in (VERSIONS, PAYMENTS):
        for _ in range(10):
            try:
                pipeline.spark.sql(f"DELETE FROM {CATALOG_NAME}.{table} WHERE offset % 7 = {nth}")
                break
            except Exception as error:
                assert "conflict" in str(error).lower() or "CommitFailed" in str(error), error


def apply_beside_kills(
    pipeline: Pipeline, services: Services, folder: Path, lines: list[bytes], rng: random.Random
) -> None:
    """Replay all while events arrive; kill the curated job at one moment of chance, the replay at another."""

    def replay() -> Running:
        environment = pipeline.environment()
        return Running("replay", "apply", "--all", "--output", "json", folder=folder, environment=environment)

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(trickle, pipeline, lines)
        running = replay()
        try:
            time.sleep(rng.uniform(5, LONGEST_DELAY))
            services.kill("curated")
            services.start("curated")
            time.sleep(rng.uniform(0, LONGEST_DELAY))
            if running.is_alive:
                running.kill()
                running = replay()
            done = running.wait(REPLAY_SECONDS)
            assert done.code == 0, done.stderr
        finally:
            running.end()
        assert sending.result() == len(lines)


@pytest.mark.timeout(ROUNDS * 600)
def test_replay_beside_kills_ends_at_the_fold_of_raw(
    pipeline: Pipeline, services: Services, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    lines = list(dirty(ROUNDS * EVENTS_PER_ROUND, SEED).lines())
    # Empty tables are rebuilt as the live job would do it, and of two live jobs one stops: let it be first.
    first = pipeline.send_lines(lines[:50])
    services.wait_until(lambda: all(consumed(pipeline, t) == first for t in CURATED))
    for nth in range(ROUNDS):
        apply_beside_kills(
            pipeline, services, tmp_path, lines[nth * EVENTS_PER_ROUND : (nth + 1) * EVENTS_PER_ROUND], rng
        )
        damage(pipeline, nth)
    apply_beside_kills(pipeline, services, tmp_path, lines[:100], rng)

    sent = first + len(lines) + 100
    services.wait_until(lambda: all(consumed(pipeline, t) == sent for t in CURATED))
    for job in services.running.values():
        assert job.terminate().code == 0
    assert_raw_is_the_topic(pipeline)
    assert_the_law(pipeline)
    settings = ReplaySettings(pipeline.settings.tables.buckets, tmp_path)
    assert Verifier(pipeline.catalog, pipeline.spark, settings, lambda *_: None).run(ALL).is_equal
