"""Late data on the real stack: what it changed, the log that outlives snapshots, tables at one vector."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from config.settings import Settings
from lakehouse.arrivals_sql import HOUR
from lakehouse.catalog import CATALOG_NAME
from lakehouse.changes import Changes, State, changes_of_hour
from lakehouse.definitions import PAYMENTS, PUBLISH_LOG, QUARANTINE, RAW, VERSIONS
from lakehouse.log_keeper import keep_log
from lakehouse.moments import Moment
from lakehouse.publish import Publisher
from lakehouse.refs import read_head
from tests.commands import paywave
from tests.events import event_id, wire
from tests.pipeline import Pipeline

pytestmark = pytest.mark.integration

HAPPENED = (datetime.now(UTC) - timedelta(days=2)).replace(minute=30, second=0, microsecond=0)
THE_HOUR = HAPPENED.replace(minute=0)
LOG = f"SELECT * FROM {PUBLISH_LOG} ORDER BY table_name, published_at, snapshot_id"
COUNTS = "SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in (RAW, VERSIONS, PAYMENTS))
CONSISTENT = Moment(consistent=True)


class Crash(Exception):
    """Stands for the end of the process."""


@dataclass
class Story:
    """An hour with four payments; later one corrected, one reversed, one resent, one more, one next hour."""

    pipeline: Pipeline
    between: datetime

    def changes(self, hour: datetime = THE_HOUR) -> Changes:
        properties = self.pipeline.settings.catalog_properties()
        return changes_of_hour(self.pipeline.catalog, properties, hour, self.between)

    def states(self, **moment: Any) -> dict[tuple[str, str | None], State]:
        """The payments of the hour, as readers see them or saw them then."""
        sql = f"""
            SELECT business_key, transaction_ref, event_type, amount, currency, status, event_id,
              content_hash, event_ids, flags
            FROM {PAYMENTS} WHERE event_ts >= '{THE_HOUR.isoformat()}'
              AND event_ts < '{(THE_HOUR + HOUR).isoformat()}'"""
        rows = self.pipeline.query(sql, moment=Moment(**moment))
        return {(r[0], r[1]): State(*r[2:8], tuple(r[8]), tuple(r[9])) for r in rows}


def capture(name: str, hours: int = 0, **changes: Any) -> bytes:
    happened = (HAPPENED + timedelta(hours=hours)).isoformat()
    return wire(
        name, **({"event_ts": happened, "ingest_ts": happened, "merchant_id": f"shop-{name}"} | changes)
    )


@pytest.fixture(scope="module")
def story(stack: Settings, catalog: RestCatalog, spark: SparkSession) -> Story:
    pipeline = Pipeline(stack, catalog, spark)
    pipeline.send_lines(capture(name) for name in ("kept", "corrected", "reversed", "resent"))
    pipeline.run()
    between = datetime.now(UTC)
    pipeline.send_lines(
        [
            capture("corrected", revision=1, amount="90"),
            capture("reversed", status="REVERSED"),
            capture("resent", ingest_ts=datetime.now(UTC).isoformat()),
            capture("added"),
            capture("elsewhere", hours=1),
        ]
    )
    pipeline.run()
    return Story(pipeline, between)


def test_changes_are_what_readers_then_and_now_see(story: Story) -> None:
    found = story.changes()
    then, now = story.states(as_of=story.between), story.states()
    told = {(c.business_key, c.transaction_ref): (c.before, c.after) for c in found.changes}
    wanted = {k: (then.get(k), now.get(k)) for k in then.keys() | now.keys() if then.get(k) != now.get(k)}
    assert told == wanted
    assert len(told) == 3
    assert (found.sums[0].before, found.sums[0].after) == (Decimal(200), Decimal(190))
    assert story.changes() == found


def test_the_records_that_did_it_are_in_raw(story: Story) -> None:
    found = story.changes()
    names = {event_id(name) for name in ("corrected", "reversed", "added")}
    assert {v.event_id for c in found.changes for v in c.because_of} == names
    raw = {(r["topic_id"], r["partition"], r["offset"]): r for r in story.pipeline.rows(RAW)}
    for late in found.late:
        assert raw[late.coordinates]["kafka_ts"] == late.kafka_ts > story.between
        assert late.event_id.encode() in raw[late.coordinates]["value"]


def test_another_hour_has_its_own_changes(story: Story) -> None:
    assert [c.after.event_id for c in story.changes(THE_HOUR + HOUR).changes if c.after] == [
        event_id("elsewhere")
    ]
    assert not story.changes(THE_HOUR - HOUR).late


def test_the_commands_tell_it(story: Story) -> None:
    environment = story.pipeline.environment()
    since = ["--since", story.between.isoformat()]
    done = paywave("changes", "--hour", THE_HOUR.isoformat(), *since, "--output", "json", **environment)
    assert done.code == 0, done.stderr
    changes = done.json["changes"]
    assert sorted(c["change"] for c in changes) == ["added", "changed", "changed"]
    assert done.json["closed"] is True
    assert all(
        {"topic", "partition", "offset"} <= record.keys() for c in changes for record in c["because_of"]
    )
    done = paywave("complete", "--output", "json", **environment)
    assert done.code == 0, done.stderr
    head = read_head(story.pipeline.catalog, PAYMENTS)
    assert done.json["kafka_asked"] is True
    assert done.json["consistent_offsets"] == {
        topic: {str(p): o for p, o in parts.items()} for topic, parts in head.offsets.topics.items()
    }
    assert datetime.fromisoformat(done.json["complete_to"]) >= head.progress.complete_to
    assert {table["behind_raw"] for table in done.json["tables"].values()} == {0}


def test_the_log_is_fresh_before_it_is_kept_and_outlives_the_snapshots(story: Story) -> None:
    catalog, spark, ask = story.pipeline.catalog, story.pipeline.spark, story.pipeline.query
    fresh = ask(LOG)
    arrivals = "SELECT sum(records) FROM curated.arrivals"
    assert ask(arrivals) == [(9,)]
    consuming = [row for row in fresh if row[0] == PAYMENTS and row[5] == "curated"]
    assert len(consuming) == 2
    assert keep_log(catalog, spark, at_least=len(fresh) + 1) == 0
    assert not story.pipeline.rows(PUBLISH_LOG)
    assert keep_log(catalog, spark) == len(fresh)
    assert ask(LOG) == ask(LOG, reader="pyiceberg") == fresh
    assert keep_log(catalog, spark) == 0
    spark.sql(
        f"CALL {CATALOG_NAME}.system.expire_snapshots(table => '{QUARANTINE}', "
        "older_than => TIMESTAMP '2999-01-01 00:00:00', retain_last => 1)"
    )
    assert len(catalog.load_table(QUARANTINE).snapshots()) == 1
    assert ask(LOG) == fresh


def test_tables_that_a_crash_left_apart_are_read_at_one_vector(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, publish = story.pipeline, Publisher.publish
    assert pipeline.query(COUNTS) == pipeline.query(COUNTS, moment=CONSISTENT) == [(9, 8, 6)]

    def die_at_payments(self: Publisher, table: str, build: Any) -> Any:
        if table == PAYMENTS:
            raise Crash
        return publish(self, table, build)

    pipeline.send_lines([capture("one-more", amount="7")])
    pipeline.run_raw()
    monkeypatch.setattr(Publisher, "publish", die_at_payments)
    with pytest.raises(Crash):
        pipeline.run_curated()
    monkeypatch.undo()
    assert pipeline.query(COUNTS) == [(10, 9, 6)]
    for reader in ("duckdb", "pyiceberg"):
        assert pipeline.query(COUNTS, moment=CONSISTENT, reader=reader) == [(9, 8, 6)]
    pipeline.run_curated()
    assert pipeline.query(COUNTS, moment=CONSISTENT) == [(10, 9, 7)]
