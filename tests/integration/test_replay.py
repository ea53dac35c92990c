"""Replay on the real stack: what verify finds, what apply puts right, beside live writers, after crashes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, TRANSACTIONS, VERSIONS
from lakehouse.moments import Moment
from lakehouse.publish import Publisher, Stage
from lakehouse.refs import read_head
from lakehouse.tables import ensure_tables
from streaming.replay.apply import Applied, Applier
from streaming.replay.copies import Copies
from streaming.replay.repair import repair
from streaming.replay.scope import ALL, Scope
from streaming.replay.verify import ReplaySettings, Verification, Verifier
from tests.crashes import Crash, crash_once
from tests.events import wire
from tests.pipeline import Pipeline
from tests.reference import assert_the_law, assert_transactions, contents
from tests.streams import dirty

pytestmark = pytest.mark.integration
CURATED = (VERSIONS, PAYMENTS, QUARANTINE)
YESTERDAY = datetime.now(UTC).replace(minute=10, second=0, microsecond=0) - timedelta(days=1)


def event(name: str, **changes: Any) -> bytes:
    times = {"event_ts": YESTERDAY.isoformat(), "ingest_ts": YESTERDAY.isoformat()}
    return wire(name, **(times | changes))


class Replay:
    """Replays on a pipeline's tables, with their journals in a folder of the test."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self._pipeline = pipeline
        self._settings = ReplaySettings(pipeline.settings.tables.buckets, folder, 250, 200)

    def verify(self, scope: Scope = ALL) -> Verification:
        return self._made(Verifier).run(scope)

    def apply(self, scope: Scope = ALL) -> Applied:
        return self._made(Applier).run(scope)

    def repair(self, dry_run: bool = False) -> Any:
        return repair(self._pipeline.catalog, self._pipeline.spark, self._settings.buckets, dry_run)

    def _made(self, kind: Any) -> Any:
        return kind(self._pipeline.catalog, self._pipeline.spark, self._settings, lambda *_: None)


@pytest.fixture
def replay(pipeline: Pipeline, tmp_path: Path) -> Replay:
    return Replay(pipeline, tmp_path)


def fill(pipeline: Pipeline, count: int = 500, seed: int = 4) -> None:
    pipeline.send_lines(dirty(count, seed).lines())
    pipeline.run()


def damage(pipeline: Pipeline, sql: str) -> None:
    """Change a table behind everybody's back."""
    for statement in filter(None, map(str.strip, sql.split(";"))):
        pipeline.spark.sql(statement)


SPOIL = f"""
    DELETE FROM {CATALOG_NAME}.{PAYMENTS} WHERE offset = 7;
    UPDATE {CATALOG_NAME}.{PAYMENTS} SET amount = amount + 1 WHERE offset = 8;
    DELETE FROM {CATALOG_NAME}.{VERSIONS} WHERE offset = 10;
    UPDATE {CATALOG_NAME}.{VERSIONS} SET content_hash = 'bogus' WHERE offset = 11;
    DELETE FROM {CATALOG_NAME}.{QUARANTINE} WHERE partition = 0;
    UPDATE {CATALOG_NAME}.{QUARANTINE} SET contract_version = 99 WHERE partition = 1
"""

# Beside this the live job would halt: its audit finds more rows of a payment than there may be.
REPEAT = f"""
    INSERT INTO {CATALOG_NAME}.{PAYMENTS} SELECT * FROM {CATALOG_NAME}.{PAYMENTS} WHERE offset = 6;
    INSERT INTO {CATALOG_NAME}.{QUARANTINE} SELECT * FROM {CATALOG_NAME}.{QUARANTINE} WHERE partition = 2
"""


@pytest.mark.slow
def test_what_is_damaged_is_named_and_put_right_through_crashes(
    pipeline: Pipeline, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(pipeline)
    pipeline.run_transactions()
    before = contents(pipeline)
    damage(pipeline, f"{SPOIL}; {REPEAT}; DELETE FROM {CATALOG_NAME}.{TRANSACTIONS} WHERE captured > 0")
    spoiled = {table: pipeline.query(f"SELECT * FROM {table} ORDER BY ALL") for table in CURATED}

    found = replay.verify()
    assert not found.is_equal
    assert found.findings.counts.keys() >= {
        f"{PAYMENTS}: missing",
        f"{PAYMENTS}: different",
        f"{PAYMENTS}: repeated",
        f"{VERSIONS}: missing",
        f"{VERSIONS}: different",
        f"{QUARANTINE}: missing",
        f"{QUARANTINE}: different",
        f"{QUARANTINE}: repeated",
        f"{TRANSACTIONS}: missing",
    }
    assert {"content_hash"} in [set(d.columns) for d in found.findings.first]

    read: list[int] = []
    monkeypatch.setattr(Copies, "gather", noting(read))
    for table in ("replay.", PAYMENTS):
        crash_at_second_publish(monkeypatch, table)
        with pytest.raises(Crash):
            replay.apply()
    applied = replay.apply()
    assert sum(read) < 2 * len(pipeline.rows(RAW)), "what was gathered is not gathered again"
    assert contents(pipeline) == before
    assert_the_law(pipeline)
    assert_transactions(pipeline)

    then = Moment(tag=applied.tag)
    assert {t: pipeline.query(f"SELECT * FROM {t} ORDER BY ALL", moment=then) for t in CURATED} == spoiled
    again = replay.apply()
    assert not again.changed
    assert not again.is_tagged
    assert not pipeline.catalog.list_tables("replay"), "the scratch table is gone"
    assert replay.verify().is_equal


def test_a_range_that_still_receives_events_keeps_them(
    pipeline: Pipeline, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.send_lines([event("first"), event("second", merchant_id="another")])
    pipeline.run()
    read_scope = Applier._read_scope

    def beside_the_live_job(self: Applier, *arguments: Any) -> None:
        read_scope(self, *arguments)
        pipeline.send_lines([event("meanwhile", merchant_id="third")])
        pipeline.run()

    monkeypatch.setattr(Applier, "_read_scope", beside_the_live_job)
    replay.apply(Scope(start=YESTERDAY, end=datetime.now(UTC) + timedelta(hours=1)))
    assert len(pipeline.rows(VERSIONS)) == len(pipeline.rows(PAYMENTS)) == 3
    assert_the_law(pipeline)


def crash_at_second_publish(monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    """Let the replay end at its second publish to a table whose name begins so."""
    seen: list[str] = []

    def is_second(_self: Publisher, stage: Stage, _staged: Any) -> bool:
        if stage.stamp.writer == "replay" and stage.head.name.startswith(table):
            seen.append(stage.head.name)
        return len(seen) == 2

    crash_once(monkeypatch, Publisher, "_swap", is_second)


def noting(read: list[int]) -> Any:
    """Gather, and note how many records each chunk has that was read for it."""
    original = Copies.gather

    def gather(self: Copies, source: Any, records: int) -> Any:
        for chunk, decoded in original(self, source, records):
            read.append(chunk.records)
            yield chunk, decoded

    return gather


@pytest.mark.slow
def test_a_scope_covers_what_it_says(pipeline: Pipeline, replay: Replay) -> None:
    fill(pipeline, 100, seed=5)
    first = read_head(pipeline.catalog, RAW).snapshot.snapshot_id
    middle = datetime.now(UTC)
    fill(pipeline, 100, seed=6)
    damage(pipeline, f"DELETE FROM {CATALOG_NAME}.{VERSIONS} WHERE kafka_ts >= TIMESTAMP '{middle}'")
    for early in (Scope(end=middle), Scope(raw_snapshot=first)):
        found = replay.verify(early)
        assert found.records == 100
        assert not found.findings.counts[f"{VERSIONS}: missing"]
    late = replay.verify(Scope(start=middle))
    assert late.records == 100
    assert late.findings.counts[f"{VERSIONS}: missing"] > 50

    hit = next(iter(late.touched))
    assert replay.apply(Scope(partitions=(hit,))).touched == {hit}
    one = replay.verify(Scope(partitions=(hit,)))
    assert one.folded == {hit}
    assert one.is_equal
    replay.apply(Scope(start=middle))
    assert_the_law(pipeline)


@pytest.mark.slow  # beside the range above
def test_curated_tables_are_rebuilt_from_nothing_without_raws_snapshots(
    pipeline: Pipeline, replay: Replay
) -> None:
    for seed in (7, 8):
        fill(pipeline, 100, seed)
    before = contents(pipeline)
    expire = f"CALL {CATALOG_NAME}.system.expire_snapshots(table => '{RAW}', retain_last => 1, "
    pipeline.spark.sql(expire + "older_than => TIMESTAMP '2999-01-01 00:00:00')")
    for table in (*CURATED, TRANSACTIONS):
        pipeline.catalog.drop_table(table)
    ensure_tables(pipeline.catalog, pipeline.settings.tables.buckets)
    assert replay.apply().is_rebuilt
    assert contents(pipeline) == before
    assert_the_law(pipeline)
    assert_transactions(pipeline)


@pytest.mark.long
def test_replay_beside_the_live_job(
    pipeline: Pipeline, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the replay is about to publish to a curated table, the live job is first, a few times over."""
    stream = list(dirty(300, 11).lines())
    pipeline.send_lines(stream[:200])
    pipeline.run()
    damage(pipeline, SPOIL)
    original, batches = Publisher._open, [stream[i : i + 25] for i in range(200, 300, 25)]

    def live_goes_first(self: Publisher, stage: Stage) -> None:
        if self.writer == "replay" and stage.head.name in CURATED and batches:
            pipeline.send_lines(batches.pop())
            pipeline.run()
        original(self, stage)

    monkeypatch.setattr(Publisher, "_open", live_goes_first)
    replay.apply()
    assert not batches
    assert_the_law(pipeline)
    assert replay.verify().is_equal


@pytest.mark.slow
def test_identity_conflicts_are_listed_and_repaired(pipeline: Pipeline, replay: Replay) -> None:
    assert replay.verify().is_equal, "nothing is equal to nothing"
    later = (YESTERDAY + timedelta(hours=3)).isoformat()
    pipeline.send_lines(
        [
            event("e1"),
            event("e2"),  # shares e1's business key
            event("e1", revision=1, event_ts=later, account_id="acct-2", amount="90"),
            event("e3", event_ts=later, account_id="acct-2"),
            event("e4", account_id="acct-3"),
        ]
    )
    pipeline.run()
    found = replay.verify()
    assert [(c.what, c.is_open, len(c.groups)) for c in found.conflicts] == [("event_id", True, 2)]
    assert not found.findings
    assert not found.is_equal
    with pytest.raises(AssertionError):
        assert_the_law(pipeline)

    head = read_head(pipeline.catalog, PAYMENTS).snapshot.snapshot_id
    assert len(replay.repair(dry_run=True)) == 1
    assert read_head(pipeline.catalog, PAYMENTS).snapshot.snapshot_id == head
    assert [c.is_open for c in replay.repair()] == [True]
    assert_the_law(pipeline)
    assert replay.verify().is_equal
    assert not replay.apply().is_tagged
