"""Reading back without Spark: now, as readers saw it then, by snapshot, by tag; by both readers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from config.settings import Settings
from lakehouse import transactions_sql
from lakehouse.definitions import PAYMENTS, RAW, VERSIONS
from lakehouse.errors import UnknownMoment
from lakehouse.moments import Moment
from lakehouse.query import QueryError, Result, run_query
from tests.events import wire
from tests.pipeline import Pipeline

pytestmark = pytest.mark.integration

HAPPENED = datetime.now(UTC) - timedelta(hours=2)
READERS = ("duckdb", "pyiceberg")
COUNT = f"SELECT count(*), sum(amount) FROM {PAYMENTS}"


@dataclass
class Story:
    """Two batches: three payments of 100; then a correction to 90 and one payment more."""

    pipeline: Pipeline
    before: datetime
    between: datetime
    first: int
    second: int

    def ask(self, sql: str, reader: str = "duckdb", **moment: object) -> Result:
        properties = self.pipeline.settings.catalog_properties()
        return run_query(self.pipeline.catalog, properties, sql, Moment(**moment), reader)  # type: ignore[arg-type]


def capture(name: str, **changes: object) -> bytes:
    times = {"event_ts": HAPPENED.isoformat(), "ingest_ts": HAPPENED.isoformat()}
    return wire(name, **(times | {"merchant_id": f"shop-{name}"} | changes))


@pytest.fixture(scope="module")
def story(stack: Settings, catalog: RestCatalog, spark: SparkSession) -> Story:
    """The tables after two batches; tests only read them."""
    before = datetime.now(UTC)
    pipeline = Pipeline(stack, catalog, spark)
    pipeline.send_lines(capture(name) for name in ("e1", "e2", "e3"))
    pipeline.run()
    first, between = catalog.load_table(PAYMENTS).current_snapshot(), datetime.now(UTC)
    pipeline.send_lines([capture("e1", revision=1, amount="90"), capture("e4")])
    pipeline.run()
    second = catalog.load_table(PAYMENTS).current_snapshot()
    assert first
    assert second
    return Story(pipeline, before, between, first.snapshot_id, second.snapshot_id)


@pytest.mark.parametrize("reader", READERS)
def test_moments(story: Story, reader: str) -> None:
    then, now = [(3, Decimal(300))], [(4, Decimal(390))]
    assert story.ask(COUNT, reader).rows == now
    assert story.ask(COUNT, reader, as_of=story.between).rows == then
    assert story.ask(COUNT, reader, as_of=datetime.now(UTC)).rows == now
    assert story.ask(COUNT, reader, snapshots={PAYMENTS: story.first}).rows == then
    assert story.ask(COUNT, reader, tag="progress").rows == now
    assert story.ask(COUNT, reader).snapshots == {PAYMENTS: story.second}


@pytest.mark.parametrize("reader", READERS)
def test_the_view_of_transactions_reads_payments_at_the_moment_that_is_meant(
    story: Story, reader: str
) -> None:
    sql = f"SELECT count(*), sum(captured), any_value(status) FROM {transactions_sql.VIEW}"
    then, now = [(3, Decimal(300), "CAPTURED")], [(4, Decimal(390), "CAPTURED")]
    assert story.ask(sql, reader).rows == now
    assert story.ask(sql, reader, as_of=story.between).rows == then
    at_first = story.ask(sql, reader, snapshots={PAYMENTS: story.first})
    assert (at_first.rows, at_first.snapshots) == (then, {PAYMENTS: story.first})
    beside = f"{sql} WHERE business_key IN (SELECT business_key FROM {PAYMENTS})"
    assert story.ask(beside, reader).rows == now


def test_as_of_means_what_readers_saw_not_when_it_was_staged(story: Story) -> None:
    table = story.pipeline.catalog.load_table(PAYMENTS)
    staged = table.snapshot_by_id(story.second)
    assert staged is not None
    published = table.history()[-1]
    assert published.snapshot_id == story.second
    while_staged = datetime.fromtimestamp(staged.timestamp_ms / 1000, UTC)
    assert story.ask(COUNT, as_of=while_staged).rows == [(3, Decimal(300))]
    at_once = datetime.fromtimestamp(published.timestamp_ms / 1000, UTC)
    assert story.ask(COUNT, as_of=at_once).rows == [(4, Decimal(390))]


@pytest.mark.parametrize("reader", READERS)
def test_tables_join_at_the_moment_that_is_meant_for_each(story: Story, reader: str) -> None:
    sql = f"SELECT (SELECT count(*) FROM {VERSIONS}), (SELECT count(*) FROM {RAW})"
    assert story.ask(sql, reader).rows == [(5, 5)]
    assert story.ask(sql, reader, as_of=story.between).rows == [(3, 3)]


@pytest.mark.parametrize("reader", READERS)
def test_every_type_comes_back_as_it_is(story: Story, reader: str) -> None:
    sql = (
        f"SELECT amount, event_ts, event_ids, flags, revision, source, attributes FROM {PAYMENTS} "
        "WHERE merchant_id = 'shop-e1'"
    )
    ((amount, event_ts, event_ids, flags, revision, source, attributes),) = story.ask(sql, reader).rows
    assert (amount, event_ts) == (Decimal("90.0000"), HAPPENED)
    assert event_ts.utcoffset() == timedelta(0)
    assert (len(event_ids), flags, revision, source, attributes) == (1, [], 1, "bank", "{}")
    ((value, key),) = story.ask(f'SELECT value, "key" FROM {RAW} LIMIT 1', reader).rows
    assert json.loads(value)["account_id"].encode() == key


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT * FROM curated.missing", "no table curated.missing"),
        ("SELECT * FROM nowhere.payments", "no table nowhere.payments"),
        ("SELECT nothing FROM curated.payments", "nothing"),
        ("SELEC 1", "SELEC"),
        ("", "one SELECT"),
        ("SELECT 1; SELECT 2", "one SELECT"),
        ("DROP TABLE curated.payments", "only reads"),
        ("DELETE FROM curated.payments", "only reads"),
        ("INSERT INTO curated.payments SELECT * FROM curated.payments", "only reads"),
        ("COPY curated.payments TO '/tmp/stolen.csv'", "only reads"),
        ("ATTACH 'other.db'", "only reads"),
    ],
)
def test_what_does_not_read_is_refused(story: Story, sql: str, said: str) -> None:
    with pytest.raises(QueryError, match=said) as refused:
        story.ask(sql)
    assert refused.value.hint
    assert story.ask(COUNT).rows == [(4, Decimal(390))]


def test_moments_that_there_are_not(story: Story) -> None:
    with pytest.raises(UnknownMoment, match="keeps no snapshot from") as refused:
        story.ask(COUNT, as_of=story.before - timedelta(days=1))
    assert "oldest moment" in refused.value.hint
    with pytest.raises(UnknownMoment, match="keeps no snapshot 12345"):
        story.ask(COUNT, snapshots={PAYMENTS: 12345})
    with pytest.raises(UnknownMoment, match="has no tag audit") as refused:
        story.ask(COUNT, tag="audit")
    assert "progress" in refused.value.hint


def test_the_command_gives_one_json_object(story: Story) -> None:
    sql = f"SELECT event_id, amount, event_ts, flags FROM {PAYMENTS} ORDER BY amount LIMIT 1"
    command = [Path(sys.executable).with_name("paywave"), "query", sql, "--output", "json"]
    done = subprocess.run(
        [*command, "--snapshot", f"{PAYMENTS}={story.second}"],
        env=story.pipeline.environment(),
        capture_output=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert answer["columns"] == ["event_id", "amount", "event_ts", "flags"]
    ((_, amount, event_ts, flags),) = answer["rows"]
    assert (amount, datetime.fromisoformat(event_ts), flags) == ("90.0000", HAPPENED, [])
    assert answer["snapshots"] == {PAYMENTS: str(story.second)}
