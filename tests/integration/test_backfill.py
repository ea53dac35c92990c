"""Backfills on the real stack: planned, approved, through failures, beside the live job and one another."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import PAYMENTS, QUARANTINE, VERSIONS
from lakehouse.moments import Moment
from lakehouse.publish import Publisher, Stage
from streaming.backfill.errors import AlreadyRunning, EditedPlan, NotApproved, Stopped
from streaming.backfill.hours import read_hour
from streaming.backfill.plan import Plan
from streaming.backfill.planner import Planner
from streaming.backfill.run import WRITER, BackfillResult, Runner
from streaming.backfill.settings import BackfillSettings
from streaming.backfill.state import Status
from streaming.backfill.store import Store
from streaming.replay import apply
from tests.crashes import crash_once
from tests.pipeline import Pipeline
from tests.reference import assert_the_law, contents
from tests.streams import dirty

pytestmark = pytest.mark.integration
SPAN = timedelta(hours=4)
SPOIL = (
    f"DELETE FROM {CATALOG_NAME}.{VERSIONS} WHERE offset % 3 = 0",
    f"UPDATE {CATALOG_NAME}.{PAYMENTS} SET amount = amount + 1 WHERE offset % 3 = 1",
    f"DELETE FROM {CATALOG_NAME}.{PAYMENTS} WHERE offset % 3 = 2",
)


def no_spark() -> Any:
    raise AssertionError("there is no work for Spark")


class Backfills:
    """Backfills of a pipeline's tables, two hours at a time, kept in a folder of the test."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self.pipeline = pipeline
        self.settings = BackfillSettings(
            pipeline.settings.tables.buckets, folder, chunk_hours=2, raw_records=1000
        )
        self.planner = Planner(pipeline.catalog, self.settings)
        self.store = Store(folder)

    def plan(self, name: str, hours: list[str]) -> Plan:
        found = self.planner.plan(hours, "a test", "ann", "bob", name)
        self.store.add(found)
        return found

    def runner(self, spark: Callable[[], Any] | None = None) -> Runner:
        return Runner(self.pipeline.catalog, spark or (lambda: self.pipeline.spark), self.settings)

    def run(self, name: str, **options: Any) -> BackfillResult:
        return self.runner().run(name, **options)

    def hours(self) -> list[str]:
        """The event hours that the tables have anything of, without a gap."""
        sql = f"""
            SELECT strftime(h, '%Y-%m-%dT%H') FROM (
              SELECT unnest(generate_series(min(hour), max(hour), INTERVAL 1 HOUR)) h
              FROM (SELECT date_trunc('hour', event_ts AT TIME ZONE 'UTC') AS hour FROM {VERSIONS})
            )"""
        return [hour for (hour,) in self.pipeline.query(sql)][-4:]


@pytest.fixture
def backfills(pipeline: Pipeline, tmp_path: Path) -> Backfills:
    return Backfills(pipeline, tmp_path)


def spoil(pipeline: Pipeline, hours: list[str]) -> None:
    """Change the tables from the first of these hours on, behind everybody's back."""
    for statement in SPOIL:
        pipeline.spark.sql(f"{statement} AND event_ts >= TIMESTAMP '{hours[0]}:00:00Z'")


def event_id_of(line: bytes) -> str | None:
    """The event that a line names; None where it is broken."""
    try:
        return str(json.loads(line)["event_id"]).lower()
    except (ValueError, KeyError, TypeError):
        return None


def within(hours: list[str], found: dict[str, dict[Any, Any]]) -> dict[str, dict[Any, Any]]:
    """The rows of these hours."""
    return {
        table: {k: row for k, row in rows.items() if f"{row['event_ts']:%Y-%m-%dT%H}" in hours}
        for table, rows in found.items()
        if table != QUARANTINE
    }


def fail_in(monkeypatch: pytest.MonkeyPatch, hour: str) -> None:
    """Let each unit that holds this hour fail."""
    original = apply.replacement

    def failing(head: Any, found: Any, unit: Any, *rest: Any) -> Any:
        if read_hour(hour) in {partition.hour for partition in unit}:
            raise RuntimeError("no room on the device")
        return original(head, found, unit, *rest)

    monkeypatch.setattr(apply, "replacement", failing)


def is_of(table: str, publisher: Publisher, stage: Stage) -> bool:
    """Tell a backfill's publish to a table from others."""
    return publisher.writer == WRITER and stage.head.name == table


@pytest.mark.slow
def test_planned_hours_are_put_right_and_one_that_failed_is_done_again_alone(
    pipeline: Pipeline, backfills: Backfills, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.send_lines(dirty(150, 31, SPAN).lines())
    pipeline.run()
    hours, before = backfills.hours(), contents(pipeline)
    assert len(hours) == 4
    spoil(pipeline, hours)
    spoiled = contents(pipeline)

    plan = backfills.plan("fix-fees", hours)
    for name in (VERSIONS, PAYMENTS):
        rows = Counter(f"{row['event_ts']:%Y-%m-%dT%H}" for row in spoiled[name].values())
        column = "versions" if name == VERSIONS else "payments"
        assert {h.hour: getattr(h, column) for h in plan.hours} == {hour: rows[hour] for hour in hours}
    assert plan.hours[0].raw_read == 150
    assert plan.estimate.minutes > 0

    with monkeypatch.context() as patched:
        fail_in(patched, hours[1])
        first = backfills.run("fix-fees")
    assert [hour.status for hour in first.hours] == [Status.DONE, Status.FAILED, Status.DONE, Status.DONE]
    assert "no room" in str(first.failed[0].error)
    assert not first.is_done
    done = [hour for hour in hours if hour != hours[1]]
    assert within(done, contents(pipeline)) == within(done, before)
    assert within([hours[1]], contents(pipeline)) == within([hours[1]], spoiled)

    crash_once(monkeypatch, Publisher, "_swap", lambda self, stage, _: is_of(PAYMENTS, self, stage))
    monkeypatch.setattr(Runner, "_is_alive", lambda self: False)
    with pytest.raises(Stopped, match="the process ends here"):
        backfills.run("fix-fees")
    monkeypatch.undo()
    assert pipeline.catalog.list_tables("replay"), "what was gathered is kept"
    second = backfills.run("fix-fees")
    assert [(hour.hour, hour.attempts) for hour in second.hours] == [(hours[1], 3)]
    assert set(second.changed) == {f"{PAYMENTS}: added", f"{PAYMENTS}: deleted"}, "versions were done already"
    assert second.is_done
    assert within(hours, contents(pipeline)) == within(hours, before)
    assert not pipeline.catalog.list_tables("replay"), "no scratch table is left"
    then = Moment(tag="before-backfill-fix-fees")
    count = pipeline.query(f"SELECT count(*) FROM {PAYMENTS}", moment=then)
    assert count == [(len(spoiled[PAYMENTS]),)]

    done_already = backfills.runner(no_spark).run("fix-fees")
    assert (done_already.hours, done_already.is_done) == ((), True)
    assert not backfills.run("fix-fees", hours=hours[:1], again=True).changed
    assert Store(backfills.settings.folder).factor() != 1.0


@pytest.mark.long
def test_two_backfills_and_the_live_job_at_once(
    pipeline: Pipeline, backfills: Backfills, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When one is about to publish, another backfill of the same hours is first, and the live job."""
    stream = list(dirty(120, 32, SPAN).lines())
    pipeline.send_lines(stream[:100])
    pipeline.run()
    hours = backfills.hours()[-2:]
    spoil(pipeline, hours)
    # A copy of a version that is lost at the time counts as its first, until all is counted anew (ADR 0012).
    known = {event_id_of(line) for line in stream[:100]} - {None}
    for name in ("one", "other"):
        backfills.plan(name, hours)
    others: list[Any] = []
    batches = [[line for line in stream[100:] if event_id_of(line) not in known]]
    assert batches[0]
    original = Publisher._open

    def others_go_first(self: Publisher, stage: Stage) -> None:
        if is_of(PAYMENTS, self, stage) and not others:
            with pytest.raises(AlreadyRunning):
                backfills.runner(no_spark).run("one")
            others.append(None)
            others[:] = [backfills.run("other")]
        if self.writer == WRITER and stage.head.name == VERSIONS and batches:
            pipeline.send_lines(batches.pop())
            pipeline.run()
        original(self, stage)

    monkeypatch.setattr(Publisher, "_open", others_go_first)
    found = backfills.run("one")
    assert not batches
    assert found.is_done
    assert others[0].is_done
    assert not pipeline.catalog.list_tables("replay")
    assert_the_law(pipeline)


def test_what_nobody_approved_or_somebody_edited_is_refused(pipeline: Pipeline, backfills: Backfills) -> None:
    hours = ["2026-11-20T10", "2026-11-20T12"]
    adopted = backfills.planner.adopt(hours, "asked by a schedule", "dagster", "bob")
    assert backfills.planner.adopt(reversed(hours), "asked by a schedule", "dagster", "carol") == adopted
    assert backfills.store.names() == [adopted.name]

    plan = backfills.planner.plan(hours, "a test", "ann")
    backfill = backfills.store.add(plan)
    runner = backfills.runner(no_spark)
    for approver in (None, "Ann "):
        with pytest.raises(NotApproved):
            runner.run(plan.name, approver=approver)
    text = backfill.plan_path.read_text()
    backfill.plan_path.write_text(text.replace("2026-11-20T12", "2026-11-20T13"))
    with pytest.raises(EditedPlan):
        runner.run(plan.name, approver="bob")
    backfill.plan_path.write_text(text)
    runner.stop()
    stopped = runner.run(plan.name, approver="bob")
    assert stopped.is_stopped
    assert [hour.status for hour in stopped.hours] == [Status.PENDING, Status.PENDING]
    found = backfills.run(plan.name)
    assert found.is_done, "hours of nothing are done"
    assert not found.changed
    assert found.tag is None
