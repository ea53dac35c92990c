"""The Spark fold against the reference: hundreds of random histories at once, in small batches, with crashes.

Belongs here: histories side by side in one table, each under its own account. `PAYWAVE_TEST_SEED` chooses
them; the seed of a failure is in its output.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakehouse.errors import LakehouseError
from streaming.curated_batch import CuratedBatch
from tests.histories import histories
from tests.pipeline import Pipeline
from tests.reference import assert_raw_is_the_topic, assert_the_law

pytestmark = [pytest.mark.integration, pytest.mark.faults]

IS_LONG = bool(os.environ.get("PAYWAVE_LONG_FAULTS"))
ROUNDS, BATCHES = (12, 6) if IS_LONG else (1, 4)
SEED = int(os.environ.get("PAYWAVE_TEST_SEED") or 20261122)
HISTORIES = 400
STEPS = ("plan_versions", "plan_payments", "plan_quarantine")
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).replace(minute=0, second=0, microsecond=0)


class Crash(LakehouseError):
    """Stands for the end of the process: an error of ours, which is not taken for a passing one."""


class Crashes:
    """Makes the job die once before each table, each at a batch of chance."""

    def __init__(self, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = {step: rng.randint(1, BATCHES - 1) for step in STEPS}
        print(f"crashes before (the nth time): {self.left}")
        for step in STEPS:
            monkeypatch.setattr(CuratedBatch, step, self._crashing(step, getattr(CuratedBatch, step)))

    def _crashing(self, step: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def plan(*arguments: Any) -> Any:
            if step in self.left:
                self.left[step] -= 1
                if self.left[step] == 0:
                    del self.left[step]
                    raise Crash("the process ends here")
            return original(*arguments)

        return plan


def run_whatever_crashes(pipeline: Pipeline, batch: int) -> int:
    """Start the job again and again until it has caught up. Returns how often it crashed."""
    crashes = 0
    while True:
        try:
            pipeline.run_curated(max_records=batch)
        except Crash:
            crashes += 1
        else:
            return crashes


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(SEED, SEED + ROUNDS))
def test_random_histories_come_to_what_the_reference_says(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    print(f"PAYWAVE_TEST_SEED={seed}")
    rng = random.Random(seed)
    records = histories(rng, HISTORIES, YESTERDAY)
    pipeline.send_lines(records)
    pipeline.run_raw()
    crashes = Crashes(rng, monkeypatch)
    assert run_whatever_crashes(pipeline, len(records) // BATCHES + 1) == len(STEPS)
    assert not crashes.left
    assert_raw_is_the_topic(pipeline)
    assert_the_law(pipeline)
