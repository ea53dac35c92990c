"""Transactions as a table: whatever happens to payments, the job follows, exact to the row.

What a transaction is: unit/test_transactions.py. Here it is driven through the whole pipeline, in steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from click.testing import CliRunner
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from cli.commands import stream
from cli.main import paywave
from config.settings import Settings
from lakehouse.catalog import CATALOG_NAME
from lakehouse.changed_partitions import changed_partitions
from lakehouse.definitions import BY_NAME, PAYMENTS, TRANSACTIONS
from lakehouse.errors import LakehouseError
from lakehouse.offsets import OffsetVector
from lakehouse.publish import Plan, Publisher, Stage
from lakehouse.refs import Head, read_head
from lakehouse.staging import append, delete, merge
from streaming.message import ARCHIVE, Message, message_of
from tests.events import wire
from tests.pipeline import Pipeline
from tests.reference import assert_same_transactions, assert_the_law, assert_transactions
from tests.rows import Row, arrow
from tests.streams import dirty
from tests.transactions import payment

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC).replace(microsecond=0)
# Within few hours: what a batch costs goes by the partitions that it touches.
AN_HOUR_AGO = (NOW - timedelta(hours=1)).replace(minute=0)
A_QUARTER_AGO = NOW - timedelta(days=90)
Record = tuple[str, dict[str, Any]]


def told(kind: str, name: str = "", /, at: datetime = AN_HOUR_AGO, **changes: Any) -> Record:
    """A record of transaction T1, by default the only one of its kind."""
    return name or kind, {"event_type": kind, "event_ts": at.isoformat(), "transaction_ref": "T1"} | changes


def auth(name: str = "", **changes: Any) -> Record:
    return told("AUTH", name, **changes)


def capture(name: str = "", **changes: Any) -> Record:
    return told("CAPTURE", name, **changes)


def refund(name: str = "", **changes: Any) -> Record:
    return told("REFUND", name, **changes)


def undo(name: str = "undo", **changes: Any) -> Record:
    """A reversal of the capture, under an id and a time of its own."""
    return told(
        "CAPTURE", name, **({"status": "REVERSED", "at": AN_HOUR_AGO + timedelta(minutes=30)} | changes)
    )


# Each on an account of its own; the job runs after every step. A record's time is fixed by contract.
CASES: dict[str, list[list[Record]]] = {
    "corrected, then lifted again": [
        [auth(), capture()],
        [capture(revision=1, amount="90")],
        [capture(revision=2, amount="110")],
    ],
    "retracted, then live again": [
        [auth(), capture(revision=1)],
        [capture(revision=1, status="REVERSED")],
        [capture(revision=2)],
    ],
    "retracted by a notice": [[capture()], [], [capture("notice", status="REVERSED", original="CAPTURE")]],
    "a notice before its event": [
        [capture("twin", merchant_id="other"), capture("notice", status="REVERSED", original="CAPTURE")],
        [capture()],
        [capture(revision=1)],
    ],
    "moved to another transaction": [[auth(), capture()], [capture(revision=1, transaction_ref="T2")], []],
    "moved there and back": [
        [capture()],
        [capture(revision=1, transaction_ref="T2")],
        [capture(revision=2, transaction_ref="T1")],
    ],
    "moved alone: the transaction is gone": [[capture()], [capture(revision=1, transaction_ref="T2")], []],
    "another currency": [[auth(), capture()], [capture(revision=1, currency="EUR")], []],
    "standing alone, then named": [[capture(transaction_ref=...)], [capture(revision=1)], []],
    "named by its duplicate": [[capture(transaction_ref=...)], [], [capture("again")]],
    "joins the least, which comes last": [
        [capture(transaction_ref=...), capture("again", transaction_ref="T2")],
        [capture("once more", transaction_ref="T1")],
        [],
    ],
    # the original comes late: the payment of 90 loses its only member, and its key
    "a lost member, standing alone": [
        [capture(revision=2, amount="90", transaction_ref=...)],
        [capture(revision=1, transaction_ref=...)],
        [],
    ],
    "a lost member": [
        [capture(revision=2, amount="90"), capture("other", amount="90")],
        [capture(revision=1)],
        [],
    ],
    "voided, and the void is corrected": [
        [auth(), capture(), capture("twin", merchant_id="other")],
        [undo()],
        [undo(revision=1, amount="40")],
    ],
    "a void that waits": [[undo()], [capture()], [capture("twin", merchant_id="other")]],
    "a void that lives up": [[capture()], [undo(revision=1)], [undo(revision=2, status="APPROVED")]],
    "a refund a quarter later": [[auth(at=A_QUARTER_AGO), capture(at=A_QUARTER_AGO)], [refund(at=NOW)], []],
    "charged back a quarter later": [
        [auth(at=A_QUARTER_AGO), capture(at=A_QUARTER_AGO)],
        [told("CHARGEBACK", at=NOW, amount="30")],
        [refund(at=NOW), told("CHARGEBACK", at=NOW, amount="30", status="REVERSED")],
    ],
    "declined, then approved": [[auth(status="DECLINED")], [auth("second", at=NOW)], []],
    "sent again": [[auth(), capture()], [capture()], [auth(), capture()]],
}
STEPS = 3


def message(account: str, record: Record) -> Message:
    """A record on the wire; from the archive, so that a sale may be a quarter old."""
    name, changes = record
    named = {k: f"{account}/{v}" if k == "original" else v for k, v in changes.items()}
    times = {"ingest_ts": (NOW - timedelta(hours=1)).isoformat(), "account_id": account}
    line = wire(f"{account}/{name}", **(times | named))
    return message_of(line, "bank", ((ARCHIVE, b"true"),))


def messages(step: int) -> Iterator[Message]:
    for account, steps in CASES.items():
        for record in steps[step]:
            yield message(account, record)


def head_of(pipeline: Pipeline, table: str) -> Head:
    return read_head(pipeline.catalog, table)


def assert_it_stands_where_payments_stand(pipeline: Pipeline) -> None:
    payments, transactions = head_of(pipeline, PAYMENTS), head_of(pipeline, TRANSACTIONS)
    assert transactions.progress.source_snapshot == payments.snapshot.snapshot_id
    assert transactions.offsets == payments.offsets
    assert transactions.progress.complete_to == payments.progress.complete_to


@pytest.mark.slow
def test_every_case_and_random_histories_step_by_step(pipeline: Pipeline) -> None:
    lines = list(dirty(200, 31).lines())
    done = []
    for step in range(STEPS):
        pipeline.send(messages(step))
        pipeline.send_lines(lines[step::STEPS])
        pipeline.run()
        done.append(pipeline.run_transactions())
        assert_transactions(pipeline)
        assert_it_stands_where_payments_stand(pipeline)
    assert done[0].keys() == {"insert"}
    assert all(done[step].keys() == {"insert", "update", "delete"} for step in (1, 2)), done
    written = {t["account_id"] for t in pipeline.rows(TRANSACTIONS)}
    assert CASES.keys() <= written
    assert pipeline.run_transactions() == {}
    assert_partitions_that_differ_are_found(pipeline)
    assert_the_law(pipeline)


def assert_partitions_that_differ_are_found(pipeline: Pipeline) -> None:
    """Between any two snapshots of payments, what differs by its files is what differs by its rows."""
    table = pipeline.catalog.load_table(PAYMENTS)
    kept = [s for s in table.snapshots() if s.snapshot_id != table.snapshots()[0].snapshot_id]
    for before, after in ((kept[0], kept[-1]), (kept[-1], kept[0]), (kept[-2], kept[-1])):
        found = changed_partitions(table, before, after)
        there, here = (rows_by_hour(pipeline, s.snapshot_id) for s in (before, after))
        assert {hour for hour, _ in found} == {h for h in there | here if there.get(h) != here.get(h)}
        assert changed_partitions(table, after, after) == set()


def rows_by_hour(pipeline: Pipeline, snapshot_id: int) -> dict[int, list[str]]:
    rows = pipeline.catalog.load_table(PAYMENTS).scan(snapshot_id=snapshot_id).to_arrow().to_pylist()
    by_hour: dict[int, list[str]] = {}
    for row in rows:
        by_hour.setdefault(int(row["event_ts"].timestamp() // 3600), []).append(str(row))
    return {hour: sorted(of_hour) for hour, of_hour in by_hour.items()}


@dataclass
class Payments:
    """Payments written directly, as a curated job or a repair would; the tables start empty."""

    pipeline: Pipeline
    numbers: Iterator[int] = field(default_factory=count)

    def publish(self, *rows: Row, gone: str = "", moves_progress: bool = True) -> None:
        """Append rows and delete those for which the condition `gone` holds, in one publish."""
        head = head_of(self.pipeline, PAYMENTS)
        progress = OffsetVector({"topic": {0: next(self.numbers) + 1}}) if moves_progress else None
        plan = Plan(lambda stage: self._write(stage, rows, gone), unchecked, progress=progress)
        writer = "test" if moves_progress else "repair"
        assert Publisher(self.pipeline.catalog, writer).publish(PAYMENTS, lambda _head: plan)
        assert head_of(self.pipeline, PAYMENTS).snapshot.snapshot_id != head.snapshot.snapshot_id

    def _write(self, stage: Stage, rows: tuple[Row, ...], gone: str) -> None:
        spark = self.pipeline.spark
        append(stage, spark.createDataFrame(arrow(BY_NAME[PAYMENTS], list(rows))))
        if gone:
            keys = spark.table(f"{CATALOG_NAME}.{PAYMENTS}").where(gone)
            delete(stage, keys, ("business_key", "transaction_ref"))

    def call(self, procedure: str) -> None:
        self.pipeline.spark.sql(f"CALL {CATALOG_NAME}.system.{procedure}").collect()

    def transact(self, **options: Any) -> dict[str, int]:
        """Run the job, and hold what it leaves to the view."""
        done = dict(self.pipeline.run_transactions(**options))
        assert_same_transactions(self.pipeline)
        assert_it_stands_where_payments_stand(self.pipeline)
        return done


def unchecked(_table: object, _staged: object) -> None:
    """Stands for a plan's audit."""


def random_rows(seed: int, accounts: str, number: int = 40) -> list[Row]:
    """Payments of random transactions, on accounts that begin alike."""
    rng = random.Random(seed)
    fixed = {"card_id": "card", "merchant_id": "shop", "network": "VISA", "attributes": "{}", "event_ids": []}
    fixed |= {
        "event_id": "e",
        "content_hash": "h",
        "topic_id": "t",
        "topic": "t",
        "partition": 0,
        "offset": 0,
    }
    times = {"first_ingest_ts": NOW, "event_ts": AN_HOUR_AGO}
    keys = [f"{accounts}-{i}" for i in range(number)]
    of = [payment(f"{accounts}-{rng.randrange(9)}", k, rng.choice([None, "T1", "T2"]), rng) for k in keys]
    return [fixed | times | row for row in of]


def sale(account: str, kind: str, **changes: Any) -> Row:
    """A payment of 100 in transaction T1."""
    row = random_rows(0, account, 1)[0] | {"business_key": f"{account}-{kind}", "account_id": account}
    plain = {"transaction_ref": "T1", "currency": "USD", "amount": Decimal(100), "status": "APPROVED"}
    return row | plain | {"event_type": kind, "flags": []} | changes


@pytest.fixture(scope="module")
def payments(stack: Settings, catalog: RestCatalog, spark: SparkSession) -> Payments:
    """Tables that tests add payments to, on accounts of their own, and leave right."""
    return Payments(Pipeline(stack, catalog, spark))


def test_what_changes_payments_without_consuming_anything_is_seen(payments: Payments) -> None:
    """A repair or a replay changes them so; compaction changes nothing, and is not taken for a change."""
    payments.publish(*random_rows(1, "repaired"))
    assert payments.transact().keys() == {"insert"}
    lost = "account_id LIKE 'repaired-%' AND (transaction_ref = 'T1' OR event_type = 'AUTH')"
    payments.publish(*random_rows(2, "repaired")[:5], gone=lost, moves_progress=False)
    assert payments.transact().keys() == {"insert", "update", "delete"}
    for table in (PAYMENTS, TRANSACTIONS):
        payments.call(f"rewrite_data_files(table => '{table}', options => map('rewrite-all', 'true'))")
    assert payments.transact() == {}


@pytest.mark.slow  # folding everything is what a first run does
def test_where_the_snapshot_it_read_has_expired_it_folds_everything_anew(payments: Payments) -> None:
    payments.publish(*random_rows(3, "expired"))
    payments.transact()
    read = head_of(payments.pipeline, TRANSACTIONS).progress.source_snapshot
    payments.publish(sale("expired", "AUTH"), gone="account_id = 'expired-1'")
    latest = datetime.now(UTC).replace(tzinfo=None).isoformat(sep=" ")
    older = f"older_than => TIMESTAMP '{latest}', retain_last => 1"
    payments.call(f"expire_snapshots(table => '{PAYMENTS}', {older})")
    assert head_of(payments.pipeline, PAYMENTS).table.snapshot_by_id(read) is None
    done = payments.transact(at_a_time=1)
    assert done["insert"] == 1
    assert done["delete"] > 0


def test_a_rebuild_puts_right_what_another_rule_had_left(payments: Payments) -> None:
    payments.publish(sale("wrong", "CAPTURE"))
    payments.transact()
    spark = payments.pipeline.spark
    wrong = spark.sql("SELECT 'wrong' AS account_id")
    same = "t.account_id = s.account_id WHEN MATCHED THEN UPDATE SET t.net = 7"
    plan = Plan(lambda stage: merge(stage, wrong, same), unchecked)
    assert Publisher(payments.pipeline.catalog, "oldrule").publish(TRANSACTIONS, lambda _head: plan)
    assert payments.pipeline.run_transactions() == {}, "payments have not changed"
    with pytest.raises(AssertionError):
        assert_same_transactions(payments.pipeline)
    assert payments.transact(rebuild=True) == {"update": 1}


class Crash(LakehouseError):
    """Stands for the end of the process."""


def test_a_crash_before_or_after_the_commit_heals(
    payments: Payments, monkeypatch: pytest.MonkeyPatch
) -> None:
    payments.publish(sale("crashed", "AUTH"))
    before = head_of(payments.pipeline, TRANSACTIONS).snapshot.snapshot_id
    swap = Publisher._swap

    def crash(*_: Any) -> None:
        raise Crash("the process ends here")

    def swap_and_crash(*arguments: Any) -> None:
        swap(*arguments)
        crash()

    for swapping in (crash, swap_and_crash):
        monkeypatch.setattr(Publisher, "_swap", swapping)
        with pytest.raises(Crash):
            payments.pipeline.run_transactions()
        monkeypatch.undo()
        is_published = head_of(payments.pipeline, TRANSACTIONS).snapshot.snapshot_id != before
        assert is_published == (swapping is swap_and_crash)
    assert payments.transact() == {}, "the table has it, and knows that it has"


def test_payments_that_come_meanwhile_are_left_for_the_next_time(
    payments: Payments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published is the fold of one snapshot, though payments are published while it is made."""
    payments.publish(sale("beside", "CAPTURE"))
    pinned = head_of(payments.pipeline, PAYMENTS)
    pending: list[Callable[[], None]] = [
        lambda: payments.publish(sale("beside", "AUTH"), sale("new", "AUTH"), moves_progress=True)
    ]
    opened = Publisher._open

    def open_while_others_publish(self: Publisher, stage: Stage) -> None:
        if self.writer == "transactions" and pending:
            pending.pop()()
        opened(self, stage)

    monkeypatch.setattr(Publisher, "_open", open_while_others_publish)
    assert payments.pipeline.run_transactions() == {"insert": 1}
    transactions = head_of(payments.pipeline, TRANSACTIONS)
    assert transactions.progress.source_snapshot == pinned.snapshot.snapshot_id
    assert transactions.offsets == pinned.offsets
    sums = f"SELECT authorised, captured FROM {TRANSACTIONS} WHERE account_id = 'beside'"
    assert payments.pipeline.query(sums) == [(0, 100)]
    assert payments.transact() == {"insert": 1, "update": 1}
    assert payments.pipeline.query(sums) == [(100, 100)]


def test_the_command_says_what_it_did(payments: Payments, monkeypatch: pytest.MonkeyPatch) -> None:
    payments.publish(sale("commanded", "AUTH"))
    monkeypatch.setenv("PAYWAVE_HOME", str(payments.pipeline.settings.home))
    monkeypatch.setattr(stream, "spark_of", lambda *_: payments.pipeline.spark)
    # the test run has its own handlers, and no spans that later tests would find in headers
    monkeypatch.setattr(stream, "stop_on_signals", lambda _stop: None)
    monkeypatch.setattr(stream, "start_telemetry", lambda: None)
    done = CliRunner().invoke(paywave, ["stream", "transactions", "--once", "--output", "json"])
    assert done.stdout.splitlines()[-1] == '{"insert": 1, "update": 0, "delete": 0}', done.output
    assert payments.transact() == {}
