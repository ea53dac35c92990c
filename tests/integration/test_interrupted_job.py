"""The main job interrupted: crashes between tables, topics that are not what they were, two of a kind.

Real kills of real processes are in `tests/faults/`; here each interruption is at a chosen point.
"""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.errors import ConcurrentWriter
from lakehouse.offsets import OffsetVector
from lakehouse.publish import Plan, Publisher, Stage
from lakehouse.refs import read_head
from lakehouse.staging import append_nothing
from streaming.curated_batch import CuratedBatch
from streaming.topic_state import TopicGone, inspect_topic
from streaming.topics import partitions_of, settled
from tests.crashes import Crash, crash_once
from tests.pipeline import Pipeline
from tests.reference import assert_raw_is_the_topic, assert_the_law
from tests.streams import dirty

pytestmark = pytest.mark.integration


def lines_of(count: int, seed: int) -> list[bytes]:
    return list(dirty(count, seed).lines())


def heads(pipeline: Pipeline) -> dict[str, int]:
    tables = (RAW, VERSIONS, PAYMENTS, QUARANTINE)
    return {table: read_head(pipeline.catalog, table).snapshot.snapshot_id for table in tables}


def branches(pipeline: Pipeline, table: str) -> set[str]:
    return set(pipeline.catalog.load_table(table).metadata.refs)


@pytest.mark.slow  # beside a partner that is held (`test_gates.py`), with a crash between tables too
def test_a_crash_between_tables_heals_on_the_next_run(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = lines_of(900, 11)
    for nth, plan in enumerate(("plan_versions", "plan_payments", "plan_quarantine")):
        pipeline.send_lines(lines[nth * 300 : nth * 300 + 300])
        pipeline.run_raw()
        crash_once(monkeypatch, CuratedBatch, plan, lambda *_: True)
        with pytest.raises(Crash):
            pipeline.run_curated()
        monkeypatch.undo()
    assert pipeline.stock().breaks, "the tables are apart, and taking stock says so"
    pipeline.run_curated()
    assert_the_law(pipeline)


@pytest.mark.slow
def test_a_crash_between_staging_and_publishing_leaves_nothing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.send_lines(lines_of(200, 12))
    before = heads(pipeline)
    for table, run in ((RAW, pipeline.run_raw), (PAYMENTS, pipeline.run_curated)):
        crash_once(
            monkeypatch, Publisher, "_swap", lambda _self, stage, _staged, t=table: stage.head.name == t
        )
        with pytest.raises(Crash):
            run()
        monkeypatch.undo()
        assert heads(pipeline)[table] == before[table]
        assert branches(pipeline, table) == {"main", "progress"}
        pipeline.run_raw()
    pipeline.run_curated()
    assert_raw_is_the_topic(pipeline)
    assert_the_law(pipeline)


def test_a_crash_after_publishing_is_not_repeated(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment of a checkpointed job: the table has the batch, the checkpoint does not."""
    pipeline.send_lines(lines_of(200, 13))
    original = Publisher.publish

    def publish_and_die(self: Publisher, table: str, build: Any) -> None:
        original(self, table, build)
        raise Crash("the process ends here")

    monkeypatch.setattr(Publisher, "publish", publish_and_die)
    for run in (pipeline.run_raw, pipeline.run_curated):
        with pytest.raises(Crash):
            run()
    monkeypatch.undo()
    assert pipeline.run_raw() == 0
    pipeline.run_curated()
    assert_raw_is_the_topic(pipeline)
    assert_the_law(pipeline)


def test_a_topic_created_again_halts_the_raw_job(pipeline: Pipeline) -> None:
    kafka = pipeline.settings.kafka_properties()
    pipeline.send_lines(lines_of(40, 14))
    pipeline.run()
    before, old = heads(pipeline), inspect_topic(kafka, pipeline.topic).topic_id
    admin = AdminClient(kafka)
    admin.delete_topics([pipeline.topic])[pipeline.topic].result(30)
    # A broker learns of it a moment later.
    assert settled(lambda: partitions_of(admin, pipeline.topic) == 0, 30)
    pipeline.create_topic()
    pipeline.send_lines(lines_of(50, 15))
    new = inspect_topic(kafka, pipeline.topic).topic_id
    assert new != old
    with pytest.raises(TopicGone, match="deleted and created again") as gone:
        pipeline.run_raw()
    assert old in str(gone.value)
    assert new in str(gone.value)
    assert heads(pipeline) == before


def test_records_deleted_before_raw_has_them_halt_the_raw_job(pipeline: Pipeline) -> None:
    kafka = pipeline.settings.kafka_properties()
    pipeline.send_lines(lines_of(100, 16))
    before, state = heads(pipeline), inspect_topic(kafka, pipeline.topic)
    partition = max(state.latest, key=lambda p: state.latest[p])
    admin = AdminClient(kafka)
    for future in admin.delete_records([TopicPartition(pipeline.topic, partition, 5)]).values():
        future.result(30)
    with pytest.raises(TopicGone, match=f"stands at offset 0 of {pipeline.topic}-{partition}.*offsets 5 to"):
        pipeline.run_raw()
    assert heads(pipeline) == before


def test_a_raw_table_ahead_of_its_topic_halts_the_raw_job(pipeline: Pipeline) -> None:
    pipeline.send_lines(lines_of(20, 17))
    state = inspect_topic(pipeline.settings.kafka_properties(), pipeline.topic)
    ahead = OffsetVector({state.topic_id: dict(state.latest) | {0: 1000}})
    plan = Plan(
        lambda stage: append_nothing(stage, pipeline.spark), lambda _table, _staged: None, progress=ahead
    )
    Publisher(pipeline.catalog, "test").publish(RAW, lambda _head: plan)
    before = heads(pipeline)
    with pytest.raises(TopicGone, match=f"stands at offset 1000 of {pipeline.topic}-0"):
        pipeline.run_raw()
    assert heads(pipeline) == before


@pytest.mark.parametrize("name", ["raw", pytest.param("curated", marks=pytest.mark.slow)])
def test_of_two_jobs_on_one_table_one_stops_and_nothing_is_twice(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lines = lines_of(300, 18)
    pipeline.send_lines(lines)
    if name == "curated":
        pipeline.run_raw()
    job = {"raw": pipeline.raw_job, "curated": pipeline.curated_job}[name]
    first, second = job(), job()
    original, pending = Publisher._open, [second]

    def let_the_other_go_first(self: Publisher, stage: Stage) -> None:
        if pending:  # the first has read the head and planned on it: now the second publishes
            assert pending.pop().run(once=True) == len(lines)
        original(self, stage)

    monkeypatch.setattr(Publisher, "_open", let_the_other_go_first)
    with pytest.raises(ConcurrentWriter, match="two of them run against one table") as stopped:
        first.run(once=True)
    assert "end the other one" in stopped.value.hint
    pipeline.run()
    assert_raw_is_the_topic(pipeline)
    assert_the_law(pipeline)
