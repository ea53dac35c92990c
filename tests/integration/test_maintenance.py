"""Maintenance on the real stack: no row changes, nothing that anybody needs goes, whatever else goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from lakehouse.catalog import CATALOG_NAME
from lakehouse.consistency import standings
from lakehouse.definitions import PAYMENTS, PUBLISH_LOG, QUARANTINE, RAW, VERSIONS
from lakehouse.errors import AuditFailed
from lakehouse.log_keeper import keep_log
from lakehouse.maintenance.compact import Compacted, Compactor, CompactSettings
from lakehouse.maintenance.expire import Expired, Expirer, ExpireSettings
from lakehouse.maintenance.manifests import ManifestMerger
from lakehouse.maintenance.measure import figures_of
from lakehouse.maintenance.orphans import remove_orphans
from lakehouse.maintenance.reachable import known_files, plain
from lakehouse.publish import Plan, Publisher, Stage
from lakehouse.refs import PROGRESS_TAG, Head, ancestry, read_head, stamp_of, tag_to
from lakehouse.staging import append
from streaming.raw_reader import next_batch
from tests.crashes import Crash, crash_once
from tests.lake import once
from tests.pipeline import ANY_HOUR, Pipeline
from tests.reference import assert_the_law, contents, expected, keyed
from tests.stacks import object_store
from tests.streams import dirty

pytestmark = pytest.mark.integration
CURATED = (VERSIONS, PAYMENTS)
NOW = timedelta(0)


@dataclass
class Upkeep:
    """Maintenance of a pipeline's tables, in a Spark session of its own."""

    pipeline: Pipeline

    def __post_init__(self) -> None:
        self.spark = self.pipeline.spark.newSession()

    def compactor(self, settings: CompactSettings = ANY_HOUR) -> Compactor:
        properties = self.pipeline.settings.catalog_properties()
        return Compactor(self.pipeline.catalog, lambda: self.spark, properties, settings)

    def compact(self, table: str, settings: CompactSettings = ANY_HOUR) -> Compacted:
        return self.compactor(settings).run(table)

    def expirer(self, newest: int = 1) -> Expirer:
        catalog = self.pipeline.catalog
        return Expirer(catalog, lambda: keep_log(catalog, self.spark), ExpireSettings(newest, NOW))

    def expire(self, *tables: str, dry_run: bool = False) -> list[Expired]:
        return self.expirer().run(tables, dry_run)

    def load(self, table: str) -> Table:
        found: Table = self.pipeline.catalog.load_table(table)
        return found

    def lineage(self, table: str) -> list[Any]:
        """Iceberg's own id and version of each row, which readers of changes go by."""
        columns = "topic_id, partition, offset, content_hash, _row_id, _last_updated_sequence_number"
        return sorted(self.pipeline.spark.sql(f"SELECT {columns} FROM {CATALOG_NAME}.{table}").collect())


@pytest.fixture
def upkeep(pipeline: Pipeline) -> Upkeep:
    return Upkeep(pipeline)


@pytest.fixture
def clean(pipeline: Pipeline) -> None:
    """Folders without files of tables that earlier tests dropped: the catalog names folders by table."""
    for table in (RAW, *CURATED, QUARANTINE):
        remove_orphans(pipeline.catalog, table, NOW)


def feed(pipeline: Pipeline, seed: int, batches: int = 3, each: int = 60) -> None:
    """Let the live jobs do small batches: corrections and reversals leave deletes behind."""
    lines = list(dirty(batches * each, seed).lines())
    for i in range(batches):
        pipeline.send_lines(lines[i * each : (i + 1) * each])
        pipeline.run()


def there(pipeline: Pipeline, table: Table) -> set[str]:
    """Every file in a table's folder."""
    from pyarrow.fs import FileSelector

    folder = plain(table.location())
    found = object_store(pipeline.settings).get_file_info(FileSelector(folder, recursive=True))
    return {info.path for info in found if info.is_file}


def assert_whole(pipeline: Pipeline, table: Table) -> None:
    """Every file of every kept snapshot exists."""
    assert {plain(path) for path in known_files(table)} <= there(pipeline, table)


# -- compaction --------------------------------------------------------------------------------------------


def test_compaction_changes_no_row_whoever_asks_and_the_jobs_go_on(
    pipeline: Pipeline, upkeep: Upkeep
) -> None:
    feed(pipeline, 1)
    rows, progress = contents(pipeline), {t: read_head(pipeline.catalog, t).progress for t in CURATED}
    totals = {t: read_head(pipeline.catalog, t).totals for t in CURATED}
    for table in CURATED:
        loaded, lineage = upkeep.load(table), upkeep.lineage(table)
        pinned = read_head(pipeline.catalog, table).snapshot.snapshot_id
        pipeline.catalog.commit_table(loaded, (), (tag_to("audit", pinned),))

        dry = upkeep.compactor().run(table, dry_run=True)
        assert dry.chosen and dry.after == dry.before == figures_of(upkeep.load(table))
        done = upkeep.compact(table)
        assert (done.done, done.commits, done.lost) == (len(dry.chosen), 1, 0)
        assert done.after.files < done.before.files
        assert (done.after.delete_files, done.after.deleted_rows) == (0, 0)
        assert not upkeep.compact(table).chosen, "what was rewritten is not worth rewriting again"

        assert upkeep.lineage(table) == lineage
        head = read_head(pipeline.catalog, table)
        assert head.snapshot.summary is not None and head.snapshot.summary.operation is Operation.REPLACE
        assert (head.progress, head.totals) == (progress[table], totals[table])
        tagged = upkeep.load(table).scan(snapshot_id=pinned).to_arrow().to_pylist()
        assert keyed(table, tagged) == rows[table]
    assert any(f.deleted_rows for f in [done.before]), "deletes were there to be folded in"
    assert contents(pipeline) == rows
    feed(pipeline, 2, batches=1)
    assert_the_law(pipeline)


@pytest.mark.long
def test_beside_a_live_job_that_is_fed_the_whole_time_every_state_is_exact(
    pipeline: Pipeline, upkeep: Upkeep
) -> None:
    feed(pipeline, 4, batches=2)
    with ThreadPoolExecutor(1) as pool:
        live = pool.submit(feed, pipeline, 5, 3, 40)
        found = []
        while not live.done():
            found += [upkeep.compact(table) for table in CURATED]
        live.result()
    assert sum(f.commits for f in found) > 0
    assert_every_state_was_exact(pipeline, upkeep)
    assert_the_law(pipeline)


def assert_every_state_was_exact(pipeline: Pipeline, upkeep: Upkeep) -> None:
    """Whatever readers saw of a table at any time is the fold of raw at the offsets that it stood at."""
    raw = pipeline.rows(RAW)
    for table in CURATED:
        loaded = upkeep.load(table)
        for snapshot_id, vector in standings(loaded):
            below = [r for r in raw if r["offset"] < vector.next_offset(r["topic_id"], r["partition"])]
            seen = keyed(table, loaded.scan(snapshot_id=snapshot_id).to_arrow().to_pylist())
            assert seen == expected(below)[table], (table, snapshot_id)


def meanwhile(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, do: Callable[[], object]) -> None:
    """Do something before the next call of a method."""
    original, first = getattr(owner, method), once(do)

    def calling(*args: Any, **kwargs: Any) -> Any:
        first()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, method, calling)


@pytest.mark.slow
def test_a_compaction_that_lost_to_the_live_job_is_done_again_on_what_that_left(
    pipeline: Pipeline, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(pipeline, 6, batches=2)
    meanwhile(monkeypatch, Compactor, "_audit", lambda: feed(pipeline, 6, batches=1, each=130))
    done = upkeep.compact(PAYMENTS)
    assert done.commits == 1 and not done.lost
    assert done.after.deleted_rows == 0
    assert_the_law(pipeline)
    assert_every_state_was_exact(pipeline, upkeep)


@pytest.mark.slow
def test_what_is_hot_is_left_what_changes_rows_is_not_published_and_of_two_at_once_one_wins(
    pipeline: Pipeline, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(pipeline, 7, batches=2)
    rows, before = contents(pipeline), read_head(pipeline.catalog, PAYMENTS).snapshot
    every = upkeep.compactor().run(PAYMENTS, dry_run=True).chosen
    still_open = CompactSettings(ANY_HOUR.limits, timedelta(days=400), ANY_HOUR.quiet)
    just_written = CompactSettings(ANY_HOUR.limits, ANY_HOUR.closed_after, timedelta(hours=1))
    assert every
    for hot in (still_open, just_written):
        assert not upkeep.compact(PAYMENTS, hot).chosen

    def damaging(stage: Stage, *_: Any) -> None:
        append(stage, upkeep.spark.table(f"{CATALOG_NAME}.{PAYMENTS}").limit(1))

    with monkeypatch.context() as damage:
        damage.setattr("lakehouse.maintenance.compact.rewrite_files", damaging)
        with pytest.raises(AuditFailed, match="would change the rows"):
            upkeep.compact(PAYMENTS)
    assert read_head(pipeline.catalog, PAYMENTS).snapshot == before

    won: list[Compacted] = []
    meanwhile(monkeypatch, Compactor, "_audit", lambda: won.append(upkeep.compact(PAYMENTS)))
    lost = upkeep.compact(PAYMENTS)
    assert (won[0].done, won[0].overtaken) == (len(every), 0)
    assert (lost.done, lost.commits, lost.overtaken) == (0, 0, len(every))
    assert contents(pipeline) == rows


# -- manifests ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_manifests_are_merged_and_the_same_files_and_rows_stay(pipeline: Pipeline, upkeep: Upkeep) -> None:
    feed(pipeline, 9, batches=2)
    lineage, rows = upkeep.lineage(VERSIONS), contents(pipeline)
    merger = ManifestMerger(pipeline.catalog, lambda: upkeep.spark, at_least=2)
    assert merger.run(VERSIONS, dry_run=True).small >= 2
    done = merger.run(VERSIONS)
    assert done.merged and done.after.manifests < done.before.manifests
    assert (done.after.files, done.after.delete_files) == (done.before.files, done.before.delete_files)
    assert not merger.run(VERSIONS).merged
    assert (upkeep.lineage(VERSIONS), contents(pipeline)) == (lineage, rows)
    feed(pipeline, 10, batches=1)
    assert_the_law(pipeline)


# -- expiry ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("clean")
@pytest.mark.slow  # beside test_exports_beside_maintenance.py, where snapshots that nothing keeps expire too
def test_expiry_keeps_what_tags_stages_and_jobs_need_and_writes_down_what_goes(
    pipeline: Pipeline, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(pipeline, 11, batches=2)
    tables, payments = (RAW, *CURATED, QUARANTINE), read_head(pipeline.catalog, PAYMENTS)
    then = list(ancestry(payments.table.metadata, payments.snapshot))[1].snapshot_id
    pipeline.catalog.commit_table(payments.table, (), (tag_to("snowflake", then),))
    tagged = payments.table.scan(snapshot_id=then).to_arrow().to_pylist()
    rows, seen = contents(pipeline), {s for t in tables for s, _ in standings(upkeep.load(t))}

    assert all(d.before == d.after and d.snapshots for d in upkeep.expire(*tables, dry_run=True))

    def records_arrive() -> None:
        for seed in (12, 13):
            pipeline.send_lines(dirty(30, seed).lines())
            pipeline.run_raw()

    meanwhile(monkeypatch, Expirer, "_forget", records_arrive)
    done = upkeep.expire(*tables)
    assert [d.attempts for d in done] == [2, 1, 1, 1], "the raw job moved main, so expiry began again"
    assert all(d.snapshots > 0 and d.files > 0 for d in done)
    assert not any(d.snapshots for d in upkeep.expire(*CURATED)), "a second run finds nothing"

    assert contents(pipeline) == rows
    assert upkeep.load(PAYMENTS).scan(snapshot_id=then).to_arrow().to_pylist() == tagged
    for table in map(upkeep.load, tables):
        assert_whole(pipeline, table)
        assert not remove_orphans(pipeline.catalog, ".".join(table.name()), NOW, dry_run=True).files
    logged = {snapshot_id for (snapshot_id,) in pipeline.query(f"SELECT snapshot_id FROM {PUBLISH_LOG}")}
    assert seen <= logged

    hint = payments.progress.source_snapshot
    batch = next_batch(read_head(pipeline.catalog, RAW), payments.offsets, hint, 1000)
    assert batch is not None
    assert batch.after == hint, "the curated job goes on by snapshots"
    pipeline.run_curated()
    assert_the_law(pipeline)


@pytest.mark.usefixtures("clean")
@pytest.mark.slow
def test_an_expiry_that_dies_before_it_removes_files_leaves_orphans_and_nothing_else(
    pipeline: Pipeline, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(pipeline, 16, batches=1)
    reading = upkeep.load(PAYMENTS).scan()
    feed(pipeline, 18, batches=1)
    upkeep.compact(PAYMENTS)
    rows, would_go = contents(pipeline), upkeep.expire(PAYMENTS, dry_run=True)[0].files
    crash_once(monkeypatch, Expirer, "_clean", lambda *_: True)
    with pytest.raises(Crash):
        upkeep.expire(PAYMENTS)
    assert not upkeep.expire(PAYMENTS)[0].snapshots
    assert remove_orphans(pipeline.catalog, PAYMENTS, NOW).files == would_go > 0
    table = upkeep.load(PAYMENTS)
    assert {plain(path) for path in known_files(table)} == there(pipeline, table)
    assert contents(pipeline) == rows
    with pytest.raises(FileNotFoundError):
        reading.to_arrow()  # a reader that took longer is told, and never given less


# -- orphans -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("clean")
def test_orphans_go_but_nothing_that_a_stage_is_writing(pipeline: Pipeline, upkeep: Upkeep) -> None:
    feed(pipeline, 17, batches=1)
    store, folder = object_store(pipeline.settings), plain(upkeep.load(PAYMENTS).location())
    rows = contents(pipeline)

    def leave(name: str) -> str:
        path = f"{folder}/data/{name}.parquet"
        with store.open_output_stream(path) as file:
            file.write(b"left behind")
        return path

    old, young = leave("old"), leave("young")
    age(pipeline, old)
    assert not remove_orphans(pipeline.catalog, PAYMENTS, timedelta(hours=2)).files
    found = remove_orphans(pipeline.catalog, PAYMENTS, timedelta(minutes=30), dry_run=True)
    assert (found.paths, found.young) == ((old,), 1)

    in_flight: list[str] = []

    def build(head: Head) -> Plan:
        def write(stage: Stage) -> None:
            append(stage, upkeep.spark.table(f"{CATALOG_NAME}.{PAYMENTS}").limit(0))
            in_flight.append(leave("in-flight"))
            done = remove_orphans(pipeline.catalog, PAYMENTS, NOW)
            assert done.paths == (old,), "even where no age was asked for"
            assert {young, *in_flight} <= there(pipeline, upkeep.load(PAYMENTS))

        return Plan(write, lambda *_: None)

    assert Publisher(pipeline.catalog, "other").publish(PAYMENTS, build) is not None
    assert set(remove_orphans(pipeline.catalog, PAYMENTS, NOW).paths) == {young, *in_flight}
    assert_whole(pipeline, upkeep.load(PAYMENTS))
    assert contents(pipeline) == rows
    stamp = stamp_of(read_head(pipeline.catalog, PAYMENTS).snapshot)
    assert stamp is not None and stamp.writer == "other"
    assert PROGRESS_TAG in upkeep.load(PAYMENTS).metadata.refs


def age(pipeline: Pipeline, path: str, seconds: float = 3600) -> None:
    """Make a file in the embedded store older than it is."""
    found = [p for p in pipeline.settings.home.rglob(Path(path).name) if p.is_file()]
    assert found, path
    for file in found:
        os.utime(file, (time.time() - seconds,) * 2)
