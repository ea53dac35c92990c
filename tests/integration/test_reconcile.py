"""Reconciliation on the real stack: what is right balances, and whatever was changed by hand is named."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table.update import AssertTableUUID
from pyspark.sql import SparkSession
from structlog.testing import capture_logs

from cli.main import paywave
from config.settings import Settings
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import (
    PAYMENTS,
    QUARANTINE,
    RAW,
    RECONCILIATION,
    TRANSACTIONS,
    VERSIONS,
)
from lakehouse.quarantine import QuarantineReader
from lakehouse.quarantined import Selection
from lakehouse.refs import MAIN, branch_to, read_head
from quality.contract import in_force
from quality.reconciliation import Account
from streaming.partitions import hour_of, start_of
from streaming.partners.profile import find_profile
from streaming.reconcile.hours import PassedHours, count_hours
from streaming.reconcile.reconcile import Reconciler
from streaming.reconcile.result import Reconciliation
from streaming.reconcile.standing import OTHER_AMOUNT, REPEATED, UNACCOUNTED
from streaming.reconcile.store import keep
from streaming.redrive.again import PASSES, Terms
from streaming.redrive.send import Redrive
from streaming.replay.scope import ALL, Scope
from streaming.replay.verify import ReplaySettings
from streaming.topic_state import inspect_topic
from tests.dropzones import Place, rows_of
from tests.events import wire
from tests.pipeline import Pipeline
from tests.streams import dirty

pytestmark = pytest.mark.integration
HOUR = timedelta(hours=1)
Row = dict[str, Any]


class Books:
    """A pipeline's tables, and what reconciliation says of them."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self.pipeline = pipeline
        self.settings = ReplaySettings(pipeline.settings.tables.buckets, folder, 200, 300)

    def reconcile(self, scope: Scope = ALL) -> Reconciliation:
        pipeline = self.pipeline
        topic = inspect_topic(pipeline.settings.kafka_properties(), pipeline.topic)
        made = Reconciler(pipeline.catalog, pipeline.spark, self.settings, topic, lambda *_: None)
        return made.run(scope)

    @contextmanager
    def damaged(self, table: str, sql: str) -> Iterator[None]:
        """Change a table behind everybody's back, and bring it back to what it was."""
        catalog = self.pipeline.catalog
        before = read_head(catalog, table).snapshot.snapshot_id
        self.pipeline.spark.sql(sql.format(table=f"{CATALOG_NAME}.{table}"))
        try:
            yield
        finally:
            loaded = catalog.load_table(table)
            same = AssertTableUUID(uuid=loaded.metadata.table_uuid)
            catalog.commit_table(loaded, (same,), (branch_to(MAIN, before),))


@pytest.fixture(scope="module")
def books(
    stack: Settings, catalog: RestCatalog, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Books:
    pipeline = Pipeline(stack, catalog, spark)
    pipeline.send_lines(dirty(300, 21).lines())
    pipeline.run()
    pipeline.run_transactions()
    return Books(pipeline, tmp_path_factory.mktemp("reconcile"))


def broken(found: Reconciliation) -> dict[str, Account]:
    return {a.formula.name: a for a in found.accounts if not a.is_balanced}


def first(account: Account) -> tuple[str, dict[str, str]]:
    assert account.first is not None
    return account.first.what, dict(account.first.row)


def test_a_dirty_stream_balances_and_its_result_is_kept(books: Books) -> None:
    found = books.reconcile()
    assert found.is_balanced, found.as_json()
    pipeline = books.pipeline
    stock = pipeline.stock()
    accounts = {account.formula.name: account for account in found.accounts}
    assert accounts["kafka"].total == (300, (300,))
    assert accounts["raw"].total == (300, (300, 0))
    records = accounts["records"].total
    assert records == (300, (stock.redelivered, stock.versions, stock.quarantined))
    assert min(records.right) > 0
    assert accounts["versions"].total == (stock.versions, (stock.superseded, stock.events))
    assert accounts["events"].total == (stock.events, (stock.payments, stock.duplicates))
    live = pipeline.query(
        f"SELECT currency, event_type, sum(amount) FROM {PAYMENTS} "
        "WHERE status NOT IN ('REVERSED', 'DECLINED') GROUP BY ALL"
    )
    amounts = {place: sums for place, sums in accounts["payment_amounts"].parts.items() if sums.left}
    assert amounts == {
        (("currency", currency), ("event_type", kind)): (amount, (amount,))
        for currency, kind, amount in live
        if amount
    }
    assert accounts["transactions"].total.left == len(pipeline.rows(TRANSACTIONS))

    keep(pipeline.catalog, pipeline.spark, found)
    kept = [row for row in pipeline.rows(RECONCILIATION) if row["run"] == found.run]
    assert {row["state"] for row in kept} == {"balanced"}
    assert {row["identity"] for row in kept} == accounts.keys()
    of_records = next(row for row in kept if row["identity"] == "records")
    assert (of_records["left_sum"], of_records["right_sum"]) == (Decimal(300), Decimal(300))
    assert json.loads(of_records["snapshots"]).keys() == {RAW, VERSIONS, PAYMENTS, QUARANTINE}


def coordinates(row: Row) -> Row:
    return {name: str(row[name]) for name in ("topic", "partition", "offset")}


def at(row: Row) -> str:
    return f"partition = {row['partition']} AND offset = {row['offset']}"


def in_order(books: Books, table: str, where: Callable[[Row], bool] = lambda _: True) -> list[Row]:
    """The rows of a table that are as wanted, in the order of coordinates."""
    rows = [row for row in books.pipeline.rows(table) if where(row)]
    return sorted(rows, key=lambda row: (row["partition"], row["offset"]))


def test_a_record_that_is_removed_from_raw_is_named_wherever_it_stood(books: Books) -> None:
    """By its offset: raw's stamps say that it was there. At the edges of an hour too."""
    raw = in_order(books, RAW)
    parts = [[row for row in raw if row["partition"] == partition] for partition in range(3)]
    gone = [parts[0][0], parts[1][-1], parts[2][7]]
    hour = start_of(hour_of(gone[0]["kafka_ts"]))
    with books.damaged(RAW, f"DELETE FROM {{table}} WHERE {' OR '.join(f'({at(row)})' for row in gone)}"):
        for scope in (ALL, Scope(hour, hour + HOUR)):
            found = broken(books.reconcile(scope))
            for name in ("raw", "kafka"):
                assert found[name].breaks == 3
                assert first(found[name])[1].items() >= coordinates(gone[0]).items()
                assert [(p["partition"], p["left"] - p["right"]) for p in found[name].shown()] == [
                    (str(partition), 1) for partition in range(3)
                ]
        *of_hours, of_tables = count_hours(books.pipeline.catalog, books.pipeline.spark, hour, hour + HOUR)
        assert first(broken(of_hours[0])["raw"])[1].items() >= coordinates(gone[0]).items()
        assert broken(of_tables).keys() == {"raw"}


def test_rows_that_are_removed_are_named_each_in_its_own_table(books: Books) -> None:
    held = in_order(books, QUARANTINE)[0]
    paid = in_order(books, PAYMENTS, lambda row: row["status"] == "APPROVED")[0]
    sums = next(r for r in books.pipeline.rows(TRANSACTIONS) if r["transaction_ref"] and r["captured"] > 0)
    key = f"business_key = '{paid['business_key']}'"
    with (
        books.damaged(QUARANTINE, f"DELETE FROM {{table}} WHERE {at(held)}"),
        books.damaged(PAYMENTS, f"DELETE FROM {{table}} WHERE {key}"),
        books.damaged(TRANSACTIONS, f"DELETE FROM {{table}} WHERE {of_transaction(sums)}"),
    ):
        found = broken(books.reconcile())
    assert found.keys() == {
        "records", "versions", "events", "payment_amounts", "transactions", "transaction_amounts",
    }  # fmt: skip
    what, named = first(found["records"])
    assert what == UNACCOUNTED
    assert named.items() >= coordinates(held).items()
    what, named = first(found["events"])
    assert what == f"missing in {PAYMENTS}"
    assert named["business_key"] == paid["business_key"]
    what, named = first(found["transactions"])
    assert what == f"missing in {TRANSACTIONS}"
    assert named["transaction_ref"] == sums["transaction_ref"]


def of_transaction(row: Row) -> str:
    return f"account_id = '{row['account_id']}' AND transaction_ref = '{row['transaction_ref']}'"


@pytest.mark.slow  # beside the rows above
def test_a_version_that_is_removed_is_named_by_its_record(books: Books) -> None:
    row = in_order(books, VERSIONS)[0]
    with books.damaged(VERSIONS, f"DELETE FROM {{table}} WHERE {at(row)}"):
        found = broken(books.reconcile())
        counted = count_hours(books.pipeline.catalog, books.pipeline.spark, *this_hour())
    what, named = first(found["records"])
    assert what == UNACCOUNTED
    assert named.items() >= coordinates(row).items()
    differs = found["records"].shown()[0]
    assert differs["left"] > differs["right"]
    assert broken(counted[-1]).keys() == {"records"}, "the count sees it too, and not which one it is"


@pytest.mark.slow
def test_amounts_that_are_changed_are_named(books: Books) -> None:
    paid = in_order(books, PAYMENTS, lambda row: row["status"] == "APPROVED")[0]
    told = in_order(books, VERSIONS, lambda row: row["account_id"] != paid["account_id"])[0]
    sums = next(row for row in books.pipeline.rows(TRANSACTIONS) if row["transaction_ref"])
    more = "UPDATE {{table}} SET {0} = {0} + 1 WHERE {1}"
    with (
        books.damaged(PAYMENTS, more.format("amount", at(paid))),
        books.damaged(TRANSACTIONS, more.format("captured", of_transaction(sums))),
    ):
        found = broken(books.reconcile())
    assert found.keys() == {"payment_amounts", "transaction_amounts"}
    what, named = first(found["payment_amounts"])
    assert what == f"different in {PAYMENTS} in amount"
    assert named["business_key"] == paid["business_key"]
    for account in found.values():
        (differing,) = account.differing.values()
        assert sum(differing.right) - differing.left == 1
    assert first(found["transaction_amounts"])[1]["transaction_ref"] == sums["transaction_ref"]

    with books.damaged(VERSIONS, more.format("amount", at(told))):
        found = broken(books.reconcile())
    what, named = first(found["version_amounts"])
    assert what == OTHER_AMOUNT
    assert named.items() >= coordinates(told).items()


@pytest.mark.slow  # beside the rows above
def test_rows_that_stand_twice_or_where_they_do_not_belong_are_named(books: Books) -> None:
    twice, moved = in_order(books, QUARANTINE)[:2]
    good = in_order(books, VERSIONS)[-1]
    to = f"partition = {good['partition']}, offset = {good['offset']}"
    with (
        books.damaged(QUARANTINE, f"UPDATE {{table}} SET {to} WHERE {at(moved)}"),
        books.damaged(QUARANTINE, f"INSERT INTO {{table}} SELECT * FROM {{table}} WHERE {at(twice)}"),
    ):
        account = broken(books.reconcile())["records"]
    assert account.breaks == 3, "one twice, one not where it was, one where it does not belong"
    what, named = first(account)
    assert what == REPEATED
    assert named.items() >= coordinates(twice).items()


def this_hour() -> tuple[datetime, datetime]:
    hour = start_of(hour_of(datetime.now(UTC)))
    return hour, hour + HOUR


def test_the_command_exits_with_0_or_1_and_keeps_its_result(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = books.pipeline
    for name, value in pipeline.environment().items():
        if name.startswith("PAYWAVE"):
            monkeypatch.setenv(name, value)
    monkeypatch.setattr("cli.commands.reconcile.spark_of", lambda *_: pipeline.spark)
    runner, before = CliRunner(), len(pipeline.rows(RECONCILIATION))
    hour = this_hour()[0] - HOUR
    answer = runner.invoke(paywave, ["reconcile", "--from", hour.isoformat(), "--output", "json"])
    assert answer.exit_code == 0, answer.output
    said = json.loads(answer.stdout)
    assert said["balanced"] is True
    assert said["records"] == 300
    assert any("transactions" in remark for remark in said["remarks"])
    kept = len(pipeline.rows(RECONCILIATION))
    assert kept > before

    row = in_order(books, QUARANTINE)[0]
    monkeypatch.setenv("PAYWAVE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    with books.damaged(QUARANTINE, f"DELETE FROM {{table}} WHERE {at(row)}"):
        answer = runner.invoke(paywave, ["reconcile", "--dry-run"])
    assert answer.exit_code == 1
    assert f"offset={row['offset']}" in answer.output
    assert "Kafka did not answer" in answer.output
    assert "not balanced" in answer.output
    assert len(pipeline.rows(RECONCILIATION)) == kept

    for wrong in (
        ["--hour", "2026-01-01T10:30Z"],
        ["--hour", "2026-01-01T10:00Z", "--from", "2026-01-01T00Z"],
    ):
        assert runner.invoke(paywave, ["reconcile", *wrong]).exit_code == 2


# Tests with tables of their own come last: there is one set of tables, and `books` is filled once.


def wait_for_an_hour_with(seconds: float) -> None:
    """Wait until this hour has so long to go, or the next one has begun."""
    left = 3600 - time.time() % 3600
    if left < seconds:
        time.sleep(left)


@pytest.mark.slow
def test_an_hour_is_counted_once_it_has_passed_and_never_stops_the_fold(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_an_hour_with(60)
    pipeline.send_lines(dirty(60, 22).lines())
    pipeline.run()
    assert not pipeline.rows(RECONCILIATION), "the hour of these records has not passed"
    catalog, spark = pipeline.catalog, pipeline.spark
    begun = min(row["kafka_ts"] for row in pipeline.rows(RAW))
    passed = start_of(hour_of(datetime.now(UTC)) + 1) + timedelta(minutes=5)
    assert PassedHours(catalog, spark).reconcile(None) == []
    found = PassedHours(catalog, spark).reconcile(passed)
    assert [result.is_balanced for result in found] == [True] * len(found)
    assert found[0].scope.start == start_of(hour_of(begun))
    assert sum(result.accounts[0].total.left for result in found[:-1]) == 60
    assert {row["depth"] for row in pipeline.rows(RECONCILIATION)} == {"counts"}
    again = PassedHours(catalog, spark)
    assert again.reconcile(passed) == []
    next_hour = again.reconcile(passed + HOUR)
    assert [result.scope.start for result in next_hour[:-1]] == [found[-2].scope.end]

    raw = f"{CATALOG_NAME}.{RAW}"
    pipeline.spark.sql(f"DELETE FROM {raw} WHERE partition = 1 AND offset = 2")
    with capture_logs() as logs:
        again.reconcile(passed + 2 * HOUR)
    assert [log["log_level"] for log in logs if log["event"] == "books do not balance"] == ["error"]

    spoilt = f"INSERT INTO {raw} SELECT * FROM {raw} WHERE partition = 1 AND offset = 3"
    pipeline.spark.sql(spoilt)  # as many rows as there were
    hours = count_hours(catalog, spark, found[0].scope.start, passed)
    (broken_hour,) = [result for result in hours if not result.is_balanced]
    _, named = first(broken(broken_hour)["raw"])
    assert (broken_hour.scope, named["partition"], named["offset"]) == (found[0].scope, "1", "2")

    def fails(_self: PassedHours, _complete_to: Any) -> None:
        raise RuntimeError("the books are shut")

    monkeypatch.setattr(PassedHours, "reconcile", fails)
    pipeline.send_lines(dirty(5, 23).lines())
    with capture_logs() as logs:
        pipeline.run()
    assert any("the books are shut" in str(log.get("error")) for log in logs)
    assert read_head(catalog, PAYMENTS).offsets == read_head(catalog, RAW).offsets


CAPTURES = {"currency": "USD", "event_type": "CAPTURE"}


def test_partners_files_are_held_against_what_stands_in_the_tables(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    place = Place(pipeline.settings, pipeline.catalog, pipeline.topic, tmp_path)
    content = rows_of(range(20), bad=lambda n: n == 7)

    def put(name: str, body: bytes, count: int, amount: str) -> None:
        totals = [{**CAPTURES, "count": count, "amount": amount}]
        place.put(name, body, marker=False)
        (place.root / "sim" / f"{name}.manifest.json").write_text(json.dumps({"rows": 20, "totals": totals}))

    put("good.csv", rows_of(range(100, 120)), 20, "30.00")
    put("day.csv", content, 20, "30.00")  # row 7 is counted by the partner, and is none
    assert place.zone().scan_once()["done"] == 2
    pipeline.run()
    books = Books(pipeline, tmp_path)
    good = [row for row in in_order(books, RAW) if header(row, "file") == b"good.csv"]
    gone = min(good, key=lambda row: int(header(row, "line")))
    with books.damaged(RAW, f"DELETE FROM {{table}} WHERE {at(gone)}"):
        found = broken(books.reconcile())
    _, named = first(found["file_records"])
    assert (named["file"], named["line"]) == ("good.csv", "2")
    for name in ("file_counts", "file_amounts"):
        _, named = first(found[name])
        assert (named["partner"], named["file"], named["line"]) == ("sim", "day.csv", "9")
    ((_, sums),) = found["file_amounts"].differing.items()
    assert (sums.left, sum(sums.right)) == (Decimal(60), Decimal(57)), "one row is bad, and one is gone"

    put("day.csv", rows_of(range(20)), 20, "30.00")  # put right: only what is new of it counts
    assert place.zone().scan_once()["done"] == 1
    pipeline.run()
    right = books.reconcile()
    assert right.is_balanced, right.as_json()
    assert next(a for a in right.accounts if a.formula.name == "file_records").total == (40, (40, 0))


@pytest.mark.slow
def test_a_row_that_is_mended_on_its_way_back_stays_one_row_of_its_file(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    place = Place(pipeline.settings, pipeline.catalog, pipeline.topic, tmp_path)
    content = rows_of(range(2)).replace(b"1.50", b'"1,50"', 1)
    place.put("day.csv", content)
    assert place.zone().scan_once()["done"] == 1
    pipeline.run()
    reader = QuarantineReader(pipeline.catalog, pipeline.settings.catalog_properties())
    mended = find_profile("card-transactions").model_copy(update={"decimal_comma": True})
    terms = Terms(in_force(datetime.now(UTC)), 3, profiles={"sim": mended})
    sent_again = Redrive(reader, Selection(), terms, 10)
    tally = sent_again.run(pipeline.settings.kafka_properties(), pipeline.topic, lambda *_: None)
    assert {(kind.outcome, count) for kind, count in tally.kinds.items()} == {(PASSES, 1)}
    pipeline.run()
    assert [row["state"] for row in pipeline.rows(QUARANTINE)] == ["redriven"]
    found = Books(pipeline, tmp_path).reconcile()
    assert found.is_balanced, found.as_json()
    assert next(a for a in found.accounts if a.formula.name == "file_records").total == (2, (2, 0))


def header(row: Row, name: str) -> bytes:
    return next(bytes(h["value"]) for h in row["headers"] if h["key"] == name)


@pytest.mark.slow
def test_identity_conflicts_are_listed_and_left_out(pipeline: Pipeline, tmp_path: Path) -> None:
    begun = datetime.now(UTC) - timedelta(hours=5)
    early, late = ({"event_ts": t.isoformat(), "ingest_ts": t.isoformat()} for t in (begun, begun + 3 * HOUR))
    moved = wire("e1", revision=1, amount="90", account_id="acct-2", **late)
    pipeline.send_lines([wire("e1", **early), wire("e2", **early), moved, wire("e3", account_id="a", **late)])
    pipeline.run()
    found = Books(pipeline, tmp_path).reconcile()
    assert found.is_balanced, found.as_json()
    assert [(conflict["what"], conflict["open"]) for conflict in found.conflicts] == [("event_id", True)]
    assert {a.formula.name: a.total.left for a in found.accounts}["events"] == 1, "e3, in no conflict"
