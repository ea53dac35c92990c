"""Retention of raw on the real stack: what is old and read by all goes whole, and nothing else changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import paywave
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import LEGAL_HOLDS, PAYMENTS, QUARANTINE, RAW, RETENTION_LOG, VERSIONS
from lakehouse.errors import AuditFailed, HoldRefused, RetentionRefused, TooYoung
from lakehouse.log_keeper import keep_log
from lakehouse.maintenance.due import KEPT_MONTHS, latest_cut
from lakehouse.maintenance.expire import Expirer, ExpireSettings
from lakehouse.maintenance.old_files import OldFile, drop_files, files_before
from lakehouse.maintenance.retention import DRIFT, PARTNER_HOURS, Dropped
from lakehouse.publish import Publisher
from lakehouse.refs import MAIN, PROGRESS_TAG, ancestry, branch_to, read_head, snapshot_of, stamp_of
from lakehouse.retention_log import dropped_records
from lakehouse.tables import ensure_tables
from streaming.errors import RawRetired
from streaming.partitions import partition_of
from streaming.replay.scope import Scope
from tests.aged import AT, FIRST, NO_TIME, NOON, NOW, SECOND, THIRD, Aged, lines_of
from tests.crashes import Crash, crash_once
from tests.lake import once
from tests.reference import contents, expected

pytestmark = pytest.mark.integration


def day(of: datetime) -> date:
    return of.date()


@pytest.mark.slow
def test_nothing_goes_that_is_young_or_that_a_job_has_still_to_read(aged: Aged) -> None:
    main = read_head(aged.catalog, RAW).snapshot
    latest = latest_cut(NOW, KEPT_MONTHS)
    with pytest.raises(TooYoung, match=f"{latest} is younger than 30 months"):
        aged.drop(latest + 2 * NOON)
    with pytest.raises(TooYoung):  # a clock that is wrong by years
        aged.retention(NOW + timedelta(days=9999)).drop(latest + 4 * NOON, *AT)
    due = aged.retention().look(day(SECOND))
    assert due.behind.keys() == {DRIFT, PARTNER_HOURS}
    with pytest.raises(RetentionRefused, match=r"are not read by all: curated\.schema_drift lacks"):
        aged.drop(day(SECOND))
    aged.count()
    due = aged.retention().look()
    assert [d.day for d in due.days] == [day(FIRST), day(SECOND), day(THIRD)]
    old = [row for row in aged.pipeline.rows(RAW) if row["kafka_ts"] < THIRD + 2 * NOON]
    assert due.records == len(old) and not due.missing and not due.strays
    assert due.files == sum(d.files for d in due.days) > 0 and due.bytes > 0
    told = [row for row in aged.pipeline.rows(VERSIONS) if row["kafka_ts"] < THIRD + 2 * NOON]
    held = [row for row in aged.pipeline.rows(QUARANTINE) if row["kafka_ts"] < THIRD + 2 * NOON]
    assert due.loss.versions == len(told)
    still_open = [row for row in held if row["state"] == "open"]
    assert due.loss.open_records == {"bank": len(still_open)}
    assert due.held[PROGRESS_TAG] == due.files
    assert not due.behind
    assert read_head(aged.catalog, RAW).snapshot == main and not aged.pipeline.rows(RETENTION_LOG)


@pytest.mark.slow  # beside test_curated_retention.py, where a day of raw goes first
def test_a_day_goes_whole_and_all_that_stands_on_raw_says_the_truth_after(
    aged: Aged, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged.count()
    pipeline, before = aged.pipeline, aged.pipeline.rows(RAW)

    # nothing is dropped whose files say other rows than are read in them
    def one_more(*arguments: Any) -> list[OldFile]:
        return [file._replace(records=file.records + 1) for file in files_before(*arguments)]

    with monkeypatch.context() as damage:
        damage.setattr("lakehouse.maintenance.retention.files_before", one_more)
        with pytest.raises(AuditFailed, match="were read there"):
            aged.drop(day(SECOND))
    assert pipeline.rows(RAW) == before

    rows, progress = contents(pipeline), read_head(aged.catalog, RAW).progress
    gone = [row for row in before if row["kafka_ts"] < SECOND]
    done = aged.drop(day(SECOND))
    assert done.due.records == len(gone) and done.snapshot_id is not None

    # raw
    head = read_head(aged.catalog, RAW)
    summary = head.snapshot.summary
    assert summary is not None and summary.operation.value == "delete"
    assert summary.get("added-data-files") is None and summary.get("added-delete-files") is None
    assert summary.get("deleted-records") == str(len(gone))
    assert head.snapshot.snapshot_id == done.snapshot_id and head.progress == progress
    assert pipeline.rows(RAW) and all(row["kafka_ts"] >= SECOND for row in pipeline.rows(RAW))
    assert head.retired.before == SECOND and head.totals["retired"] == len(gone)
    (kept,) = pipeline.rows(RETENTION_LOG)
    assert (kept["day"], kept["records"], kept["snapshot_id"]) == (FIRST, len(gone), done.snapshot_id)
    assert tuple(kept[name] for name in AT) == AT
    (spans,) = json.loads(kept["offsets"]).values()
    assert {int(p): tuple(span) for p, span in spans.items()} == spans_of(gone)
    assert aged.drop(day(SECOND)).snapshot_id is None, "a second run finds nothing"

    with pytest.raises(RawRetired, match="raw no longer has these records"):
        aged.reconcile(Scope(FIRST, SECOND))
    with pytest.raises(RawRetired, match="raw no longer has these records"):
        aged.verify(Scope(FIRST, SECOND))

    # replay gives up no version that only dropped records told, and still puts the others right
    spoil(aged, rows)
    assert contents(pipeline) != rows
    assert aged.apply(Scope(THIRD, THIRD + 2 * NOON)).touched
    assert contents(pipeline) == rows

    # the live jobs go on, across the snapshot that dropped files, and what was dropped stays known
    pipeline.send_at(NOW, lines_of(NOW, 20, 4))
    pipeline.run()
    aged.count()
    there = pipeline.rows(RAW)
    assert contents(pipeline) == expected([*gone, *there])
    assert read_head(aged.catalog, RAW).retired.before == SECOND

    # all files of the day are gone once nothing needs them, and still the books balance
    expirer = Expirer(aged.catalog, lambda: keep_log(aged.catalog, aged.spark), ExpireSettings(1, NO_TIME))
    assert expirer.run([RAW])[0].files > 0
    verified = aged.verify(Scope(FIRST))
    assert verified.is_equal and verified.range.remarks, verified.as_json()
    assert verified.records == len(there)
    found = aged.reconcile()
    assert found.is_balanced, found.as_json()
    raw = next(account for account in found.accounts if account.formula.name == "raw")
    assert raw.total == (len(there) + len(gone), (len(there), len(gone)))
    assert any("retention dropped" in remark for remark in found.remarks)
    stock = pipeline.stock()
    assert stock.conserved and stock.retired == len(gone), stock.breaks

    # a table that is gone would have to be built again from what is to go
    with away(aged, VERSIONS):
        with pytest.raises(RetentionRefused, match=r"curated\.event_versions lacks"):
            aged.drop(day(THIRD))
        ensure_tables(aged.catalog, pipeline.settings.tables.buckets)
        with pytest.raises(RawRetired, match="begins at"):
            pipeline.run_curated()
        aged.catalog.drop_table(VERSIONS)


@contextmanager
def away(aged: Aged, table: str) -> Iterator[None]:
    """Do without a table for a while."""
    aged.catalog.rename_table(table, f"{table}_away")
    try:
        yield
    finally:
        aged.catalog.rename_table(f"{table}_away", table)


def spans_of(rows: list[dict[str, Any]]) -> dict[int, tuple[int, int, int]]:
    found: dict[int, list[int]] = {}
    for row in rows:
        found.setdefault(row["partition"], []).append(row["offset"])
    return {partition: (min(all_), max(all_), len(all_)) for partition, all_ in found.items()}


def spoil(aged: Aged, rows: dict[str, dict[Any, dict[str, Any]]]) -> None:
    """Take away a correction of an event that only a dropped record told first, and its payment."""
    dropped = {row["event_id"] for row in rows[VERSIONS].values() if row["kafka_ts"] < SECOND}
    late = next(r for r in rows[VERSIONS].values() if r["event_id"] in dropped and r["kafka_ts"] >= THIRD)
    at = f"partition = {late['partition']} AND offset = {late['offset']}"
    for table in (VERSIONS, PAYMENTS):
        aged.spark.sql(f"DELETE FROM {CATALOG_NAME}.{table} WHERE {at}")
    stale = f"event_ts = TIMESTAMP '{late['event_ts'].isoformat()}'"
    aged.spark.sql(f"DELETE FROM {CATALOG_NAME}.{PAYMENTS} WHERE {stale}")


@pytest.mark.long
def test_races_and_kills_leave_raw_whole_and_are_made_good(
    aged: Aged, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged.count()
    pipeline = aged.pipeline
    start, rows = read_head(aged.catalog, RAW).snapshot, pipeline.rows(RAW)

    # killed between stage and publish: the branch stays behind, readers see nothing
    with monkeypatch.context() as killed:
        killed.setattr(Publisher, "_drop", lambda *_: None)
        crash_once(killed, Publisher, "_swap", lambda *_: True)
        with pytest.raises(Crash):
            aged.drop(day(SECOND) + timedelta(days=1))
    assert len(aged.stages()) == 1
    assert read_head(aged.catalog, RAW).snapshot == start and pipeline.rows(RAW) == rows
    assert pipeline.stock().conserved

    # a stage that would drop more is not published
    def too_much(*arguments: Any) -> None:
        drop_files(*arguments[:-1], (THIRD + 2 * NOON).isoformat())

    with monkeypatch.context() as damage:
        damage.setattr("lakehouse.maintenance.dropping.drop_files", too_much)
        with pytest.raises(AuditFailed, match="others would go"):
            aged.drop(day(SECOND) + timedelta(days=1))
    assert read_head(aged.catalog, RAW).snapshot == start

    # two at once, the raw job in between, and the winner killed before it wrote the ledger
    original_swap: Callable[..., Any] = Publisher._swap
    won: list[Dropped] = []

    def others_first() -> None:
        pipeline.send_at(NOW, lines_of(NOW, 10, 5))
        pipeline.run_raw()
        with monkeypatch.context() as killed:
            killed.setattr("lakehouse.maintenance.retention.keep_retention_log", lambda *_: 0)
            won.append(aged.drop(day(SECOND) + timedelta(days=1)))

    first = once(others_first)

    def swap(*arguments: Any) -> Any:
        first()
        return original_swap(*arguments)

    known = len(pipeline.rows(RETENTION_LOG))
    with monkeypatch.context() as race:
        race.setattr(Publisher, "_swap", swap)
        lost = aged.drop(day(SECOND) + timedelta(days=1))
    assert won[0].snapshot_id is not None and lost.snapshot_id is None
    retired = read_head(aged.catalog, RAW).totals["retired"]
    assert dropped_records(aged.catalog).total() == retired, "what the ledger lacks is read from the stamp"
    assert len(pipeline.rows(RETENTION_LOG)) == known
    aged.drop(day(SECOND) + timedelta(days=1))
    assert len(pipeline.rows(RETENTION_LOG)) > known
    assert sum(row["records"] for row in pipeline.rows(RETENTION_LOG)) == retired
    pipeline.run_curated()
    told = contents(pipeline)
    spoil(aged, told)
    assert aged.apply().remarks
    assert contents(pipeline) == told
    assert pipeline.stock().conserved
    writers = [s.writer for s in map(stamp_of, newest(aged)) if s is not None]
    assert writers[:2] == ["retention", "raw"]

    # a payment that nothing else tells any more is not folded away
    shown = {(row["event_id"], row["content_hash"]) for row in told[PAYMENTS].values()}
    lost = next(
        row
        for row in told[VERSIONS].values()
        if SECOND <= row["kafka_ts"] < THIRD and (row["event_id"], row["content_hash"]) in shown
    )
    versions = read_head(aged.catalog, VERSIONS).snapshot.snapshot_id
    its = f"event_id = '{lost['event_id']}' AND content_hash = '{lost['content_hash']}'"
    aged.spark.sql(f"DELETE FROM {CATALOG_NAME}.{VERSIONS} WHERE {its}")
    partition = partition_of(lost["event_ts"], lost["account_id"], pipeline.settings.tables.buckets)
    with pytest.raises(RawRetired, match=f"shows event {lost['event_id']}"):
        aged.apply(Scope(partitions=(partition,)))
    aged.catalog.commit_table(aged.catalog.load_table(VERSIONS), (), (branch_to(MAIN, versions),))
    assert not aged.apply(Scope(partitions=(partition,))).changed, "once it is there again, nothing is wrong"
    assert contents(pipeline) == told


def newest(aged: Aged) -> list[Any]:
    head = read_head(aged.catalog, RAW)
    return list(ancestry(head.table.metadata, head.snapshot))


def test_what_a_hold_covers_stays_until_it_is_released(aged: Aged, monkeypatch: pytest.MonkeyPatch) -> None:
    aged.pipeline.run_curated()
    aged.count()
    catalog, before = aged.catalog, day(THIRD) + timedelta(days=1)
    pinned = read_head(catalog, RAW).snapshot.snapshot_id
    held = next(row for row in aged.pipeline.rows(RAW) if row["key"] and row["kafka_ts"] < THIRD + 2 * NOON)
    for name, value in aged.pipeline.environment().items():
        monkeypatch.setenv(name, value)
    why = ("--reason", "court order", "--approver", "J. Doe")

    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(paywave, ["retention", *arguments, "--output", "json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    account = held["key"].decode()
    assert run("hold", "case", "--account", account, *why, "--dry-run")["pinned"] == {}
    placed = run("hold", "case", "--account", account, *why)
    assert placed["pinned"][RAW] == str(pinned)
    assert run("hold", "case", "--account", account, *why) == placed, "placing it again changes nothing"
    run("hold", "others", "--from", "1999-01-01T00:00:00Z", "--to", "1999-02-01T00:00:00Z", *why)
    (keeps,) = aged.retention().look(before).holds
    old = [row for row in aged.pipeline.rows(RAW) if row["kafka_ts"].date() < before]
    its = [
        row for row in old if row["key"] == held["key"] or (not row["key"] and held["key"] in row["value"])
    ]
    assert (keeps.hold.name, keeps.records) == ("case", len(its))
    assert keeps.first == min(row["kafka_ts"] for row in its).date()
    with pytest.raises(RetentionRefused, match=r"hold case \(account .* approved by J\. Doe"):
        aged.drop(before)
    assert aged.drop(keeps.first).snapshot_id is None or read_head(catalog, RAW).retired.before is not None

    # expiry keeps what it pins, and only that
    Expirer(catalog, lambda: keep_log(catalog, aged.spark), ExpireSettings(1, NO_TIME)).run([RAW])
    assert any(row["key"] == held["key"] for row in rows_at(aged, pinned))

    # a hold on what came, or happened, in a time
    span = ("--from", (THIRD - 2 * NOON).isoformat(), "--to", (THIRD + 2 * NOON).isoformat())
    run("hold", "days", *span, *why)
    assert {held.hold.name for held in aged.retention().look(before).holds} == {"case", "days"}
    assert {hold["name"] for hold in run("holds")["holds"]} == {"case", "days", "others"}
    for name in ("case", "days", "others"):
        run("release", name, *why)
    assert not aged.retention().look(before).holds and not run("holds")["holds"]
    assert [row["event"] for row in run("holds", "--all")["history"]] == ["placed"] * 3 + ["released"] * 3
    assert not [ref for ref in catalog.load_table(RAW).metadata.refs if ref.startswith("legal-hold")]
    assert CliRunner().invoke(paywave, ["retention", "hold", "case", "--account", "x", *why]).exit_code == 1

    # a ledger that lost its last rows tells nothing: no day is dropped by it
    table = catalog.load_table(LEGAL_HOLDS)
    newest_of, earlier, *_ = ancestry(table.metadata, table.current_snapshot())
    catalog.commit_table(table, (), (branch_to(MAIN, earlier.snapshot_id),))
    there = read_head(catalog, RAW).snapshot.snapshot_id
    with pytest.raises(HoldRefused, match="removed at row"):
        aged.drop(before)
    assert read_head(catalog, RAW).snapshot.snapshot_id == there
    catalog.commit_table(table, (), (branch_to(MAIN, newest_of.snapshot_id),))


def rows_at(aged: Aged, snapshot_id: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        aged.catalog.load_table(RAW).scan(snapshot_id=snapshot_id).to_arrow().to_pylist()
    )
    return found


def test_the_command_shows_and_refuses(aged: Aged, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aged.pipeline.environment().items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str, command: str = "apply") -> Any:
        return CliRunner().invoke(paywave, ["retention", command, *arguments])

    monkeypatch.setattr("cli.commands.retention.spark_of", lambda *_: aged.spark)
    planned = run("--output", "json", command="plan")
    assert planned.exit_code == 0, planned.output
    stores = {store["name"]: store for store in json.loads(planned.stdout)["stores"]}
    assert stores["raw.payment_events"]["goes"] != "nothing"
    assert stores["curated tables"]["goes"] == "nothing" and "audit exports" in stores
    text = run(command="plan").output
    assert "no legal hold stands" in text and "Kafka topic" in text
    shown = run("--before", "2020-01-13", "--dry-run", "--output", "json")
    assert json.loads(shown.stdout)["dry_run"] is True
    aged.pipeline.run_curated()
    aged.count()
    named = ("--reason", "thirty months are over", "--approver", "J. Doe")
    young = run("--before", f"{datetime.now(UTC):%Y-%m-%d}", *named)
    assert young.exit_code == 2 and "younger than 30 months" in young.output
    done = run("--before", "2020-01-13", *named, "--output", "json")
    assert done.exit_code == 0, done.output
    assert read_head(aged.catalog, RAW).retired.before is not None
    assert "nothing before 2020-01-13 is left" in run("--before", "2020-01-13", *named).output
    assert snapshot_of(aged.catalog.load_table(RAW).metadata, PROGRESS_TAG) is not None


def test_a_broker_whose_clock_went_back_does_not_take_young_records_along(aged: Aged) -> None:
    aged.pipeline.send_at(FIRST + NOON, lines_of(FIRST, 8, 7))  # behind records of now
    aged.pipeline.run_raw()
    due = aged.retention().look(day(THIRD))
    assert due.strays > 0
    with pytest.raises(RetentionRefused, match="clock went back"):
        replace(due, behind={}).check()
