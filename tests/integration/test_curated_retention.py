"""Retention of the curated tables on the real stack: what goes, what stays, and that the law holds after."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import PAYMENTS, QUARANTINE, RETENTION_LOG, VERSIONS
from lakehouse.errors import RetentionRefused, TooYoung
from lakehouse.hold_log import HoldLog
from lakehouse.holds import Scope as HeldScope
from lakehouse.log_keeper import keep_log
from lakehouse.maintenance.curated_retention import CURATED, CuratedRetention
from lakehouse.maintenance.expire import Expirer, ExpireSettings
from lakehouse.refs import read_head
from streaming.curated_batch import CuratedBatch
from streaming.message import ARCHIVE
from streaming.replay.scope import Scope
from streaming.replay.transactions import check_transactions
from tests.aged import AT, NO_TIME, NOON, NOW, SECOND, THIRD, Aged, lines_of
from tests.crashes import Crash, crash_once
from tests.reference import contents

pytestmark = pytest.mark.integration
CUT = SECOND.date()  # of event time: the first two days' events lie before it


def retention(aged: Aged) -> CuratedRetention:
    properties = aged.pipeline.settings.catalog_properties()
    return CuratedRetention(aged.catalog, lambda: aged.spark, properties, 60, lambda: NOW)


def is_old(table: str, row: dict[str, Any]) -> bool:
    return bool(row["kafka_ts" if table == QUARANTINE else "event_ts"] < SECOND)


def without_old(rows: dict[str, dict[Any, dict[str, Any]]]) -> dict[str, dict[Any, dict[str, Any]]]:
    return {
        table: {key: row for key, row in of.items() if not is_old(table, row)} for table, of in rows.items()
    }


def check_all(aged: Aged) -> None:
    """Hold the tables to raw in every way that there is."""
    verified = aged.verify()
    assert verified.is_equal, verified.as_json()
    assert any("went by retention" in remark for remark in verified.range.remarks)
    reconciled = aged.reconcile()
    assert reconciled.is_balanced, reconciled.as_json()
    stock = aged.pipeline.stock()
    assert stock.conserved, stock.breaks


def without_old_days(aged: Aged) -> CuratedRetention:
    """Have the old days gone, of raw and of the curated tables, whichever test runs first."""
    aged.count()
    aged.drop(CUT)
    keeper = retention(aged)
    keeper.drop(CUT, *AT)
    return keeper


def test_old_days_go_and_the_tables_are_still_what_raw_says(
    aged: Aged, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, keeper = aged.pipeline, retention(aged)
    pipeline.run_transactions()
    before = contents(pipeline)
    old = {table: [r for r in rows.values() if is_old(table, r)] for table, rows in before.items()}
    assert all(old.values())

    # young, or still in raw: nothing goes
    with pytest.raises(TooYoung, match="younger than 60 months"):
        keeper.look(date(2026, 1, 1))
    with pytest.raises(RetentionRefused, match="raw still has everything"):
        keeper.drop(CUT, *AT)
    aged.count()
    aged.drop(CUT)
    due = keeper.look(CUT)
    assert {name: sum(day.records for day in days) for name, days in due.tables.items()} == {
        table: len(rows) for table, rows in old.items()
    }
    assert not due.blocked and due.held[PAYMENTS]

    # a hold of one account keeps all from its first day on
    account = old[VERSIONS][0]["account_id"]
    HoldLog(aged.catalog).place("case", HeldScope(account), *AT)
    with pytest.raises(RetentionRefused, match=f"hold case .account {account}. keeps"):
        keeper.drop(CUT, *AT)
    assert contents(pipeline) == before
    HoldLog(aged.catalog).release("case", *AT)

    # killed between two tables: what stands is still the fold of raw, and a second run goes on
    real = CuratedRetention._drop

    def dies(self: CuratedRetention, name: str, *rest: Any) -> bool:
        if name == VERSIONS:
            raise Crash("between two tables")
        return real(self, name, *rest)

    with monkeypatch.context() as killed:
        killed.setattr(CuratedRetention, "_drop", dies)
        with pytest.raises(Crash):
            keeper.drop(CUT, *AT)
    assert len(pipeline.rows(PAYMENTS)) < len(before[PAYMENTS])
    assert len(pipeline.rows(VERSIONS)) == len(before[VERSIONS])
    assert aged.verify().is_equal
    done = keeper.drop(CUT, *AT)
    assert set(done.snapshots) == {VERSIONS, QUARANTINE}

    assert contents(pipeline) == without_old(before)
    for table in CURATED:
        head = read_head(aged.catalog, table)
        assert head.retired.before == SECOND
        assert head.totals["retired"] == len(old[table])
        assert head.rows == len(pipeline.rows(table))
        summary = head.snapshot.summary
        assert summary is not None and summary.get("added-data-files") is None
    ledger = [row for row in pipeline.rows(RETENTION_LOG) if row["dropped_from"] in CURATED]
    assert sum(row["records"] for row in ledger) == sum(map(len, old.values()))
    assert not keeper.drop(CUT, *AT).snapshots, "a second run finds nothing"
    with pytest.raises(RetentionRefused, match="is behind that"):  # it would say that what stays is gone
        keeper.drop(CUT - timedelta(days=1), *AT)
    check_all(aged)

    # transactions follow the payments that stay
    pipeline.run_transactions()
    assert not check_transactions(aged.catalog, aged.spark, pipeline.settings.tables.buckets)

    # replay brings nothing back, and puts right what is damaged; raw still has copies of dropped events
    kept = contents(pipeline)
    victim = next(r for r in kept[VERSIONS].values() if r["kafka_ts"] >= THIRD and r["kafka_ts"] < NOW - NOON)
    its = f"event_id = '{victim['event_id']}' AND content_hash = '{victim['content_hash']}'"
    for table in (VERSIONS, PAYMENTS):
        aged.spark.sql(f"DELETE FROM {CATALOG_NAME}.{table} WHERE {its}")
    assert aged.apply().touched
    assert contents(pipeline) == kept
    check_all(aged)


@pytest.mark.slow  # as above
def test_versions_do_not_go_while_a_batch_is_half_folded(aged: Aged, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the batch would fold its late records without the versions, into a payment that nothing tells."""
    pipeline, keeper = aged.pipeline, without_old_days(aged)
    kept = contents(pipeline)
    late = ((ARCHIVE, b"true"),)  # the contract takes no others so late
    pipeline.send_at(NOW, aged.first[10:15], extra=late)
    pipeline.run_raw()
    with monkeypatch.context() as killed:
        crash_once(killed, CuratedBatch, "plan_payments", lambda *_: True)
        with pytest.raises(Crash):
            pipeline.run_curated()
        killed.setattr("lakehouse.maintenance.curated_retention._IN_STEP_SECONDS", 0.0)
        with pytest.raises(RetentionRefused, match="a batch is half folded"):
            keeper.drop(CUT, *AT)
    pipeline.run_curated()
    assert keeper.drop(CUT, *AT).snapshots
    rest = contents(pipeline)
    assert (rest[VERSIONS], rest[PAYMENTS]) == (kept[VERSIONS], kept[PAYMENTS])
    check_all(aged)


@pytest.mark.slow  # the first one shows that the law holds after a drop
def test_a_record_that_comes_after_has_its_row_until_its_day_goes_again(aged: Aged) -> None:
    pipeline, keeper = aged.pipeline, without_old_days(aged)
    kept = contents(pipeline)
    pipeline.send_at(NOW, aged.first[:5], extra=((ARCHIVE, b"true"),))  # the contract takes no others so late
    pipeline.run()
    came = {table: rows.keys() - kept[table].keys() for table, rows in contents(pipeline).items()}
    assert came[VERSIONS] and came[PAYMENTS], "nothing that is kept tells it from a new event"
    check_all(aged)
    assert not aged.apply(Scope(THIRD)).changed
    assert keeper.look(CUT).rows == len(came[VERSIONS]) + len(came[PAYMENTS])
    assert keeper.drop(CUT, *AT).snapshots
    rest = contents(pipeline)
    assert (rest[VERSIONS], rest[PAYMENTS]) == (kept[VERSIONS], kept[PAYMENTS])
    check_all(aged)

    # the live job goes on, and the files are freed once nothing needs them
    pipeline.send_at(NOW, lines_of(datetime.now(UTC), 10, 8))
    pipeline.run()
    check_all(aged)
    expirer = Expirer(aged.catalog, lambda: keep_log(aged.catalog, aged.spark), ExpireSettings(1, NO_TIME))
    assert all(done.files > 0 for done in expirer.run([PAYMENTS, VERSIONS]))
    check_all(aged)
