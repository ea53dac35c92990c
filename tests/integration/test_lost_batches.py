"""A live batch that lost its race: what it wrote stays good unless somebody touched its partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyiceberg.table.snapshots import Snapshot

from lakehouse.audit import added_files
from lakehouse.definitions import PAYMENTS, VERSIONS
from lakehouse.maintenance.compact import Compactor
from lakehouse.publish import Outcome, Plan, Publisher, Stage
from lakehouse.staging import append_nothing
from streaming.curated_job import WRITER
from streaming.decisions import decide
from tests.pipeline import ANY_HOUR, Pipeline
from tests.reference import assert_the_law
from tests.streams import dirty

pytestmark = pytest.mark.integration


class Races:
    """Has others publish just before the live job's commits; keeps what each of its attempts had staged."""

    def __init__(
        self,
        pipeline: Pipeline,
        patch: pytest.MonkeyPatch,
        tables: tuple[str, ...],
        others: Callable[[str], object],
    ) -> None:
        self.decided = 0
        self.attempts: dict[str, list[frozenset[str]]] = {table: [] for table in tables}
        swap = Publisher._swap

        def swap_late(publisher: Publisher, stage: Stage, staged: Snapshot) -> Outcome:
            table = stage.head.name
            if publisher.writer == WRITER and table in self.attempts:
                loaded = pipeline.catalog.load_table(table)
                files = added_files(loaded, staged, stage.head.snapshot.snapshot_id)
                self.attempts[table].append(frozenset(files))
                if len(self.attempts[table]) == 1:
                    others(table)
            return swap(publisher, stage, staged)

        def count(*given: Any) -> Any:
            self.decided += 1
            return decide(*given)

        patch.setattr(Publisher, "_swap", swap_late)
        patch.setattr("streaming.curated_batch.decide", count)


@pytest.fixture
def due(pipeline: Pipeline) -> Iterator[Pipeline]:
    """Two batches in the tables, and a third one in raw that changes rows of theirs."""
    lines = list(dirty(300, 31).lines())
    for part in (lines[:100], lines[100:200]):
        pipeline.send_lines(part)
        pipeline.run()
    pipeline.send_lines(lines[200:])
    pipeline.run_raw()
    yield pipeline
    assert_the_law(pipeline)


def test_one_that_lost_to_others_partitions_names_its_files_again(
    due: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish_nothing(table: str) -> object:
        plan = Plan(lambda stage: append_nothing(stage, due.spark), lambda _table, _staged: None)
        return Publisher(due.catalog, "other").publish(table, lambda _head: plan)

    races = Races(due, monkeypatch, (VERSIONS, PAYMENTS), publish_nothing)
    due.run_curated()
    assert races.decided == 1
    for first, second in races.attempts.values():
        assert first == second and first


@pytest.mark.slow  # beside the one above
@pytest.mark.parametrize("touched", [VERSIONS, PAYMENTS])
def test_one_whose_partitions_were_touched_is_decided_and_written_anew(
    due: Pipeline, monkeypatch: pytest.MonkeyPatch, touched: str
) -> None:
    session = due.spark.newSession()
    properties = due.settings.catalog_properties()
    compactor = Compactor(due.catalog, lambda: session, properties, ANY_HOUR)
    races = Races(due, monkeypatch, (touched,), compactor.run)
    due.run_curated()
    assert races.decided == 2
    first, second = races.attempts[touched]
    assert first.isdisjoint(second)
