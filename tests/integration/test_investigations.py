"""Investigations on the real stack: Spark's Bloom filters are asked, and what readers saw comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from config.settings import Settings
from lakehouse.definitions import PAYMENTS, RAW, TRANSACTIONS, VERSIONS
from lakehouse.investigations import story as kinds
from lakehouse.investigations.investigate import Answer, Question, investigate
from lakehouse.investigations.lookup import Counted
from lakehouse.investigations.subject import ACCOUNT, EVENT, TRANSACTION, Kind, Subject
from lakehouse.investigations.telling import lines_of
from lakehouse.log_keeper import keep_log
from lakehouse.maintenance.expire import Expirer, ExpireSettings
from lakehouse.moments import Moment
from lakehouse.publish import CODE_VERSION
from tests.commands import Done, paywave
from tests.events import event_id, wire
from tests.pipeline import Pipeline
from tests.streams import dirty

pytestmark = pytest.mark.integration

HAPPENED = datetime.now(UTC) - timedelta(hours=26)
ROW = f"SELECT * FROM {PAYMENTS} WHERE account_id = 'acct-1' ORDER BY event_ts, business_key"
HEADER = "headers.list.element.value"


@dataclass
class Case:
    """A payment that came late, was resent, doubled, corrected and taken back, among many of others."""

    pipeline: Pipeline
    times: list[datetime]

    def ask(self, kind: Kind, id_: str, **asked: Any) -> Answer:
        return investigate(self.pipeline.catalog, Question(Subject(kind, id_), **asked))

    def rows(self, at: datetime) -> list[dict[str, Any]]:
        """The account's payments as readers saw them, by another reader."""
        columns = [c.name for c in self.pipeline.catalog.load_table(PAYMENTS).schema().fields]
        found = self.pipeline.query(ROW, moment=Moment(as_of=at))
        return [dict(zip(columns, row, strict=True)) for row in found]

    def run(self, *arguments: str) -> Done:
        return paywave("investigate", *arguments, **self.pipeline.environment())


def event(name: str, minute: int = 0, **changes: Any) -> bytes:
    happened, ingested = HAPPENED, HAPPENED + timedelta(hours=26, minutes=minute - 60)
    times = {"event_ts": happened.isoformat(), "ingest_ts": ingested.isoformat()}
    return wire(name, **(times | {"transaction_ref": "T-1"} | changes))


@pytest.fixture(scope="module")
def case(stack: Settings, catalog: RestCatalog, spark: SparkSession) -> Case:
    pipeline, times = Pipeline(stack, catalog, spark), []
    others = list(dirty(400, seed=9).lines())
    steps = [
        [event("e1"), *others[:200]],
        [event("e1", minute=1), event("e2", minute=2), event("e1", minute=3, revision=1, amount="90")],
        [event("r1", event_type="REFUND", amount="1.234"), *others[200:]],
        [event("e9", minute=4, status="REVERSED", original="e1")],
    ]
    for lines in steps:
        pipeline.send_lines(lines)
        pipeline.run()
        pipeline.run_transactions()
        times.append(datetime.now(UTC))
    return Case(pipeline, times)


def test_the_transaction_reads_like_a_story(case: Case) -> None:
    answer = case.ask(TRANSACTION, "T-1")
    assert sorted(e.kind for e in answer.story.entries) == sorted(
        [kinds.FIRST, kinds.REDELIVERY, kinds.DUPLICATE, kinds.CORRECTION, kinds.QUARANTINED, kinds.REVERSAL]
    )
    told = "\n".join(lines_of(answer.story))
    for words in (
        "late: 1 d",
        "nothing to count again",
        "merged into one payment",
        "it supersedes",
        "scale",
    ):
        assert words in told
    (transaction,) = answer.story.seen.transactions
    assert (transaction["transaction_ref"], transaction["net"]) == ("T-1", 0)


def test_the_commands_tell_it_and_print_what_was_read(case: Case) -> None:
    text = case.run("transaction", "T-1")
    assert text.code == 0, text.stderr
    assert "The story of transaction T-1, as readers see it now" in text.stdout
    told = case.run("event", event_id("e1"), "--as-of", case.times[0].isoformat(), "--output", "json").json
    assert [r["kind"] for r in told["records"]] == [kinds.FIRST]
    assert {p["code_version"] for p in told["publishes"]} == {CODE_VERSION}
    assert all(r["files_read"] <= r["files"] for r in told["read"])
    nowhere = case.run("account", "acct-nobody")
    assert nowhere.code == 1
    assert f"looked in {VERSIONS}" in nowhere.stderr


@pytest.mark.parametrize(
    ("kind", "id_"), [(TRANSACTION, "T-1"), (EVENT, event_id("e1")), (ACCOUNT, "acct-1")]
)
def test_fewer_files_are_read_than_there_are(case: Case, kind: Kind, id_: str) -> None:
    efforts = {e.table: e for e in case.ask(kind, id_).efforts}
    for table in (RAW, VERSIONS):
        assert 0 < len(efforts[table].read) < efforts[table].files, json.dumps(efforts[table].as_json())
        assert 0 < efforts[table].read_bytes < efforts[table].bytes
    assert efforts[RAW].denied


def test_spark_writes_the_filters_that_are_asked(case: Case) -> None:
    for table, columns in {RAW: ("key", HEADER), VERSIONS: ("event_id", "transaction_ref")}.items():
        chunks = list(chunks_of(case.pipeline.catalog, table))
        for column in columns:
            of_column = [c for c in chunks if c.path_in_schema == column]
            filters = [c for c in of_column if c.bloom_filter_offset is not None]
            assert all(c.bloom_filter_length < 16_384 for c in filters), "a small file has a small filter"
            without = [c for c in of_column if c.bloom_filter_offset is None]
            assert all("PLAIN" not in _of_values(c) for c in without), (
                f"{column}: neither filter nor dictionary"
            )
            if column in (HEADER, "event_id"):
                assert filters, f"{column}: no file has a filter"


def chunks_of(catalog: RestCatalog, table: str) -> Iterator[Any]:
    stored = catalog.load_table(table)
    for task in stored.scan().plan_files():
        with Counted(stored.io, task.file.file_path) as file:
            metadata = pq.read_metadata(file)
        groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
        yield from (group.column(i) for group in groups for i in range(group.num_columns))


def _of_values(chunk: Any) -> set[str]:
    """Encodings of a chunk's values; where there is a dictionary, that is written plainly too."""
    return set(chunk.encodings) - ({"PLAIN"} if chunk.has_dictionary_page else set())


def test_before_and_after_a_correction(case: Case) -> None:
    before, after = (case.ask(EVENT, event_id("e1"), at=at).story for at in case.times[:2])
    assert [row["amount"] for row in before.seen.payments] == [100]
    assert [row["amount"] for row in after.seen.payments] == [90]
    changed = case.ask(TRANSACTION, "T-1", before=case.times[0], at=case.times[1]).story.changes
    assert "amount 100.0000 -> 90.0000" in changed


def test_what_readers_saw_is_what_another_reader_reads(case: Case) -> None:
    for at in case.times:
        assert list(case.ask(ACCOUNT, "acct-1", at=at).story.seen.payments) == case.rows(at)


def test_an_expired_moment_is_folded_again_to_the_same_rows(case: Case, spark: SparkSession) -> None:
    """The last test: it expires what the others read."""
    held = [case.rows(at) for at in case.times]
    transactions = [case.ask(TRANSACTION, "T-1", at=at).story.seen.transactions for at in case.times]
    catalog = case.pipeline.catalog
    Expirer(catalog, lambda: keep_log(catalog, spark), ExpireSettings(1, timedelta(0))).run(
        (PAYMENTS, TRANSACTIONS)
    )
    for at, rows, of_transaction in zip(case.times[:-1], held, transactions, strict=False):
        story = case.ask(TRANSACTION, "T-1", at=at).story
        assert story.seen.folded_again or at != case.times[0]
        assert list(story.seen.payments) == rows
        assert story.seen.transactions == of_transaction
    assert not case.ask(TRANSACTION, "T-1", at=case.times[-1]).story.seen.folded_again
