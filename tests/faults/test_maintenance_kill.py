"""Maintenance killed in the midst of its work, as a process: nothing is lost, and running it again is enough.

Belongs here: real processes. Does not: chosen points of interruption (`integration/test_maintenance.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pyiceberg.table import Table

from lakehouse.definitions import PAYMENTS, VERSIONS
from lakehouse.maintenance.orphans import remove_orphans
from lakehouse.publish import STAGE_PREFIX
from lakehouse.refs import read_head
from lakehouse.turns import drop_abandoned
from tests.commands import Done, Running
from tests.pipeline import Pipeline
from tests.reference import assert_the_law, contents
from tests.streams import dirty

pytestmark = [pytest.mark.integration, pytest.mark.faults]
COMPACT = ("maintain", "compact", "--closed-after", "0s", "--quiet", "0s", "--least-saved", "1")
EXPIRE = ("maintain", "expire", "--keep", "1", "--older-than", "0s", "--table", PAYMENTS)
SECONDS = 240.0


def run(pipeline: Pipeline, folder: Path, *arguments: str) -> Done:
    running = Running(*arguments, "--output", "json", folder=folder, environment=pipeline.environment())
    try:
        return running.wait(SECONDS)
    finally:
        running.end()


def kill_when(pipeline: Pipeline, folder: Path, is_time: Callable[[], bool], *arguments: str) -> None:
    running = Running(*arguments, folder=folder, environment=pipeline.environment())
    try:
        deadline = time.monotonic() + SECONDS
        while not is_time():
            assert running.is_alive, running.said
            assert time.monotonic() < deadline, running.said
            time.sleep(0.02)
        running.kill()
    finally:
        running.end()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_compaction_and_expiry_are_killed_and_run_again(pipeline: Pipeline, tmp_path: Path) -> None:
    # of the hour before the last one, so that it is over: only such hours are compacted
    lines = list(dirty(200, 21, timedelta(hours=3)).lines())
    for i in range(0, 200, 50):
        pipeline.send_lines(lines[i : i + 50])
        pipeline.run()
    before = contents(pipeline)

    def load(table: str = PAYMENTS) -> Table:
        found: Table = pipeline.catalog.load_table(table)
        return found

    def stages() -> list[str]:
        refs = [*load().metadata.refs, *load(VERSIONS).metadata.refs]
        return [ref for ref in refs if ref.startswith(f"{STAGE_PREFIX}compact_")]

    kill_when(pipeline, tmp_path, lambda: bool(stages()), *COMPACT)
    assert contents(pipeline) == before
    done = run(pipeline, tmp_path, *COMPACT)
    assert done.code == 0, done.stderr
    assert sum(table["done"] for table in done.json["tables"]) > 0
    assert contents(pipeline) == before

    kept = len(load().metadata.snapshots)
    kill_when(pipeline, tmp_path, lambda: len(load().metadata.snapshots) < kept, *EXPIRE)
    assert contents(pipeline) == before
    for table in (PAYMENTS, VERSIONS):
        drop_abandoned(pipeline.catalog, table, "compact", older_than=-1)
    done = run(pipeline, tmp_path, *EXPIRE)
    assert done.code == 0, done.stderr
    remove_orphans(pipeline.catalog, PAYMENTS, timedelta(0))
    assert contents(pipeline) == before
    pipeline.send_lines(dirty(50, 22).lines())
    pipeline.run()
    assert_the_law(pipeline)
    assert read_head(pipeline.catalog, PAYMENTS).progress.writer == "curated"
