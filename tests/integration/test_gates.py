"""Gates on the real stack: one partner held from start to end, all blocked, spoilt stages, overrides."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cli.main import paywave
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.fold import Coordinates
from lakehouse.gate_log import GateLog, holds_of, standing_holds
from lakehouse.gates import CLOSED, HELD, HOLD_ENDED, OPENED, OVERRIDDEN, GateState
from lakehouse.publish import Stage
from lakehouse.redrive_mark import Mark
from lakehouse.refs import read_head
from lakehouse.staging import append
from lakehouse.tables import ensure_tables
from quality.policy import CONSERVATION, OFFSET_GAP, SLICE_HELD, SLICE_SURGE, STAGED_ROWS, SURGE
from streaming.curated_batch import CuratedBatch
from streaming.curated_job import CuratedJob, CuratedSettings
from streaming.errors import GateClosed
from streaming.message import Message, message_of
from streaming.raw_reader import read_batch
from streaming.replay.apply import Applier
from streaming.replay.scope import ALL
from streaming.replay.verify import ReplaySettings, Verifier
from tests.crashes import Crash, crash_once
from tests.events import event_id, wire
from tests.pipeline import Pipeline
from tests.reference import assert_the_law, contents

pytestmark = pytest.mark.integration
CURATED = (VERSIONS, PAYMENTS, QUARANTINE)
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).replace(minute=30, second=0, microsecond=1)


def good(source: str, names: str, count: int, headers: Any = ()) -> list[Message]:
    times = {"event_ts": YESTERDAY.isoformat(), "ingest_ts": YESTERDAY.isoformat()}
    lines = (wire(f"{names}{k}", account_id=f"{names}{k}", **times) for k in range(count))
    return [message_of(line, source, headers) for line in lines]


def broken(source: str, count: int) -> list[Message]:
    return [message_of(b'{"account_id": "%d"}' % k, source) for k in range(count)]


def published(pipeline: Pipeline) -> set[str]:
    return {row["event_id"] for row in pipeline.rows(PAYMENTS)}


def ids(names: str, count: int) -> set[str]:
    return {event_id(f"{names}{k}") for k in range(count)}


def told(pipeline: Pipeline) -> list[tuple[str, str, str | None]]:
    return [(e.event, e.gate, e.source or e.table_name) for e in GateLog(pipeline.catalog).events()]


def state(pipeline: Pipeline) -> GateState:
    return GateLog(pipeline.catalog).state()


def heads(pipeline: Pipeline) -> dict[str, int]:
    return {table: read_head(pipeline.catalog, table).snapshot.snapshot_id for table in CURATED}


def stages(pipeline: Pipeline) -> list[str]:
    refs = [ref for table in CURATED for ref in pipeline.catalog.load_table(table).metadata.refs]
    return [ref for ref in refs if ref.startswith("stage_")]


@pytest.fixture
def replay(pipeline: Pipeline, tmp_path: Path) -> Callable[[type], Any]:
    settings = ReplaySettings(pipeline.settings.tables.buckets, tmp_path)
    return lambda kind: kind(pipeline.catalog, pipeline.spark, settings, lambda *_: None).run(ALL)


@pytest.fixture
def command(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    for name, value in pipeline.environment().items():
        if name.startswith("PAYWAVE_"):
            monkeypatch.setenv(name, value)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(paywave, ["gate", *arguments, "--output", "json"])

    return run


@pytest.mark.parametrize("is_replayed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_partner_that_turns_malformed_is_held_alone_until_it_is_good_again(
    pipeline: Pipeline, replay: Callable[[type], Any], monkeypatch: pytest.MonkeyPatch, is_replayed: bool
) -> None:
    """And, at more length, a replay agrees midway and in the end, and making the tables anew does too."""

    def a_round(nth: int, *others: Message) -> None:
        """The bank's events of a round come between the shop's, and one run has to bring them all."""
        bank = good("bank", f"bank{nth}-", 40)
        pipeline.send([*bank[:20], *others, *bank[20:]])
        pipeline.run_raw()

    def bank_is_there(rounds: int) -> bool:
        return all(ids(f"bank{nth}-", 40) <= published(pipeline) for nth in range(rounds))

    a_round(0, *good("shop", "early-", 30))
    pipeline.run_curated()
    assert bank_is_there(1)

    # the hold is recorded, then the process ends before anything is published
    a_round(1, *broken("shop", 300), *good("shop", "held-", 30))
    crash_once(monkeypatch, CuratedBatch, "plan_versions", lambda *_: True)
    with pytest.raises(Crash):
        pipeline.run_curated()
    monkeypatch.undo()
    assert told(pipeline) == [(HELD, SLICE_SURGE, "shop")]
    pipeline.run_curated()
    assert bank_is_there(2)
    assert not ids("held-", 30) & published(pipeline)
    assert ids("early-", 30) <= published(pipeline), "what was published before stays"
    assert_the_law(pipeline)

    # the hold goes on over a crash between tables; what is redriven is let through
    earlier = datetime.now(UTC) - timedelta(minutes=1)
    mark = Mark(Coordinates("t", 0, 1), earlier, earlier, 1)
    redriven = good("shop", "redriven-", 5, mark.headers())
    a_round(2, *broken("shop", 5), *good("shop", "late-", 5), *redriven)
    crash_once(monkeypatch, CuratedBatch, "plan_payments", lambda *_: True)
    with pytest.raises(Crash):
        pipeline.run_curated()
    monkeypatch.undo()
    pipeline.run_curated()
    assert bank_is_there(3)
    assert ids("redriven-", 5) <= published(pipeline)
    rules = [(row["source"], v["rule"]) for row in pipeline.rows(QUARANTINE) for v in row["violations"]]
    assert {source for source, _ in rules} == {"shop"}
    assert sum(rule == SLICE_HELD for _, rule in rules) == 35
    assert [hold.source for hold in standing_holds(pipeline.catalog)] == ["shop"]
    assert_the_law(pipeline)
    assert not is_replayed or replay(Verifier).is_equal

    # most of what the partner sends is good again
    a_round(3, *good("shop", "again-", 250), *broken("shop", 3))
    pipeline.run_curated()
    assert bank_is_there(4)
    assert ids("again-", 250) <= published(pipeline)
    assert told(pipeline) == [(HELD, SLICE_SURGE, "shop"), (HOLD_ENDED, SLICE_SURGE, "shop")]
    assert not standing_holds(pipeline.catalog)
    assert_the_law(pipeline)
    assert replay(Verifier).is_equal
    if not is_replayed:
        return

    # and however the tables are made again, the same records stand aside
    before = contents(pipeline)
    for table in CURATED:
        pipeline.catalog.drop_table(table)
    ensure_tables(pipeline.catalog, pipeline.settings.tables.buckets)
    pipeline.run_curated()
    assert contents(pipeline) == before
    pipeline.run_transactions()
    pipeline.spark.sql(f"DELETE FROM {CATALOG_NAME}.{QUARANTINE} WHERE partition < 2")
    assert set(+replay(Applier).changed) == {f"{QUARANTINE}: added"}
    assert contents(pipeline) == before
    assert len(holds_of(pipeline.catalog)) == 1


@pytest.mark.slow
def test_all_partners_at_once_are_blocked_until_a_person_says_otherwise_or_it_is_over(
    pipeline: Pipeline, command: Callable[..., Any]
) -> None:
    for source in ("bank", "shop"):
        pipeline.send([*good(source, f"{source}-", 150), *broken(source, 100)])
    pipeline.run_raw()
    before = heads(pipeline)
    for _ in range(2):  # the second look changes nothing
        with pytest.raises(
            GateClosed, match=r"one in the middle has 40.0% .* for example .*-\d@\d+ missing"
        ) as closed:
            pipeline.run_curated()
        assert "paywave gate override surge" in closed.value.hint
    assert heads(pipeline) == before
    assert told(pipeline) == [(CLOSED, SURGE, None)]
    (shown,) = json.loads(command("status").stdout)["standing"]
    assert (shown["state"], shown["gate"], shown["overridden_by"]) == (CLOSED, SURGE, None)
    assert "40.0%" in shown["reason"]

    # an override is checked, recorded, and bound to what was there
    refused = command("override", CONSERVATION, "--reason", "hurry")
    assert (refused.exit_code, str(refused.exception).split(":")[0]) == (
        1,
        "gate conservation cannot be overridden",
    )
    assert command("override", SLICE_SURGE, "--source", "bank", "--reason", "x").exit_code == 1
    assert command("override", SURGE, "--reason", "known", "--dry-run").exit_code == 0
    assert told(pipeline) == [(CLOSED, SURGE, None)]
    made = json.loads(command("override", SURGE, "--reason", "known to the scheme").stdout)["override"]
    assert made["reason"] == "known to the scheme" and "@" in made["actor"]
    for source in ("bank", "shop"):
        pipeline.send([*good(source, f"{source}-later-", 150), *broken(source, 100)])
    pipeline.run_raw()
    assert json.loads(command("status").stdout)["standing"][0]["overridden_by"] == made["actor"]
    with pytest.raises(GateClosed):
        pipeline.run_curated()
    assert published(pipeline) == ids("bank-", 150) | ids("shop-", 150)
    assert [event for event, *_ in told(pipeline)] == [CLOSED, OVERRIDDEN, OPENED, CLOSED]

    # what comes thins it out: the gate opens by itself
    for source in ("bank", "shop"):
        pipeline.send(good(source, f"{source}-at-last-", 400))
    pipeline.run()
    assert [event for event, *_ in told(pipeline)] == [CLOSED, OVERRIDDEN, OPENED, CLOSED, OPENED]
    assert json.loads(command("status").stdout) == {"standing": []}
    assert [e["event"] for e in json.loads(command("log").stdout)["events"]][-1] == OPENED
    assert_the_law(pipeline)


@pytest.mark.slow
def test_a_hold_is_ended_by_a_person_and_the_next_one_is_not_prevented(
    pipeline: Pipeline, command: Callable[..., Any]
) -> None:
    pipeline.send([*broken("shop", 250), *good("shop", "first-", 20)])
    pipeline.run()
    assert told(pipeline) == [(HELD, SLICE_SURGE, "shop")]
    said = command("override", SLICE_SURGE, "--source", "shop", "--reason", "the rest is good")
    assert said.exit_code == 0, said.output
    assert standing_holds(pipeline.catalog), "it is for the job to say where it ends"
    pipeline.run_curated()
    assert [event for event, *_ in told(pipeline)] == [HELD, OVERRIDDEN, HOLD_ENDED]
    assert not standing_holds(pipeline.catalog)
    pipeline.send(good("shop", "second-", 20))
    pipeline.run()
    assert ids("second-", 20) <= published(pipeline)
    pipeline.send([*broken("shop", 250), *good("shop", "third-", 20)])
    pipeline.run()
    assert [event for event, *_ in told(pipeline)] == [HELD, OVERRIDDEN, HOLD_ENDED, HELD]
    assert published(pipeline) == ids("second-", 20)
    assert_the_law(pipeline)


@pytest.mark.slow
def test_a_rebuild_by_the_job_decides_nothing_anew(pipeline: Pipeline) -> None:
    for nth in range(5):  # each run is a new job: it never knows enough of the shop
        pipeline.send([*good("bank", f"b{nth}-", 40), *good("shop", f"s{nth}-", 20), *broken("shop", 40)])
        pipeline.run()
    before = contents(pipeline)
    assert not told(pipeline)
    for table in CURATED:
        pipeline.catalog.drop_table(table)
    ensure_tables(pipeline.catalog, pipeline.settings.tables.buckets)
    pipeline.run()  # in one batch: 200 of the shop's 300 records are broken
    assert not told(pipeline)
    assert contents(pipeline) == before
    pipeline.send([*good("bank", "late-", 40), *good("shop", "last-", 60), *broken("shop", 200)])
    pipeline.run()
    assert told(pipeline) == [(HELD, SLICE_SURGE, "shop")]
    assert not ids("last-", 60) & published(pipeline)


@contextmanager
def running(job: CuratedJob) -> Iterator[threading.Thread]:
    """The job as a service: it goes on until it is told to stop."""
    thread = threading.Thread(target=job.run, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        job.stop()
        thread.join(60)
        assert not thread.is_alive()


def await_that(holds: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_a_spoilt_stage_stays_unpublished_and_the_job_goes_on_once_it_is_right(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.send(good("bank", "first-", 20))
    pipeline.run()
    before, rows = heads(pipeline), pipeline.rows(PAYMENTS)
    spoil = threading.Event()
    spoil.set()

    def spoiling(stage: Stage, frame: DataFrame, partitions: int | None = None) -> None:
        if spoil.is_set() and stage.head.name == PAYMENTS:
            frame = frame.withColumn("currency", F.lit("4111111111111111"))
        append(stage, frame, partitions)

    monkeypatch.setattr("streaming.curated_batch.append", spoiling)
    pipeline.send([*good("bank", "second-", 20), *broken("bank", 2)])
    pipeline.run_raw()
    with (
        monkeypatch.context() as reading,
        pytest.raises(GateClosed, match=r"offset_gap is closed: .*21 records read"),
    ):
        reading.setattr("streaming.curated_batch.read_batch", lambda *batch: read_batch(*batch).limit(21))
        pipeline.run_curated()
    assert [(e.gate, e.table_name) for e in state(pipeline).standing] == [(OFFSET_GAP, RAW)]
    job = CuratedJob(
        pipeline.catalog, pipeline.spark, CuratedSettings(pipeline.settings.tables.buckets, poll_seconds=0.1)
    )
    with running(job) as service:
        await_that(lambda: len(state(pipeline).standing) == 2)
        time.sleep(0.5)  # it looks again meanwhile
        _, closed = state(pipeline).standing
        assert (closed.gate, closed.table_name) == (STAGED_ROWS, PAYMENTS)
        assert closed.snapshot_id == before[PAYMENTS]
        assert "a known currency (20: " in closed.reason and "'4111… (16 characters)'" in closed.reason
        assert "411111" not in closed.reason
        assert heads(pipeline)[PAYMENTS] == before[PAYMENTS]
        assert pipeline.rows(PAYMENTS) == rows
        assert service.is_alive()
        spoil.clear()
        await_that(lambda: not state(pipeline).standing)
        # another cause, in the table itself: a row stands twice, and its event is corrected
        payments = f"{CATALOG_NAME}.{PAYMENTS}"
        right = (
            f"SELECT * FROM {payments} VERSION AS OF {heads(pipeline)[PAYMENTS]} WHERE account_id = 'first-1'"
        )
        pipeline.spark.sql(f"INSERT INTO {payments} {right}")
        times = {"event_ts": YESTERDAY.isoformat(), "account_id": "first-1"}
        pipeline.send([message_of(wire("first-1", revision=2, amount="9", **times), "bank")])
        pipeline.run_raw()
        await_that(lambda: state(pipeline).standing)
        assert [(e.gate, e.table_name) for e in state(pipeline).standing] == [(CONSERVATION, PAYMENTS)]
        pipeline.spark.sql(f"DELETE FROM {payments} WHERE account_id = 'first-1'")
        pipeline.spark.sql(f"INSERT INTO {payments} {right}")
        await_that(lambda: not state(pipeline).standing)
    assert [e for e, *_ in told(pipeline)] == [CLOSED, CLOSED, OPENED, OPENED, CLOSED, OPENED]
    assert stages(pipeline) == []
    assert_the_law(pipeline)
