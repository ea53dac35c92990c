"""A pipeline whose topic takes each record's time from who sends it: days of long ago, for retention.

Belongs here: making it old, driving retention and what holds it to account. Does not: what must hold then.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from config.settings import Settings
from lakehouse.definitions import RAW
from lakehouse.maintenance.retention import Dropped, Retention, RetentionSettings
from streaming.counting_job import CountingJob, CountingSettings
from streaming.message import Headers, message_of
from streaming.profile.count import TALLY
from streaming.reconcile.reconcile import Reconciler
from streaming.reconcile.result import Reconciliation
from streaming.replay.apply import Applier
from streaming.replay.scope import ALL, Scope
from streaming.replay.verify import ReplaySettings, Verifier
from streaming.schemas.drift_job import DriftJob
from streaming.simulate import Plan
from streaming.topic_state import inspect_topic
from streaming.topics import ensure_topics, payments_topic
from tests.pipeline import PARTITIONS, Pipeline
from tests.streams import DIRTY, SPAN, steady


class AgedPipeline(Pipeline):
    """The main job on records of any Kafka time. Ours never take it from a producer: LogAppendTime."""

    def create_topic(self) -> None:
        topic = payments_topic(self.topic, PARTITIONS, 1, 1, 1)
        config = {**topic.config, "message.timestamp.type": "CreateTime", "retention.ms": "-1"}
        ensure_topics(self.settings.kafka_properties(), replace(topic, config=config))

    def send_at(
        self, moment: datetime, lines: Iterable[bytes], source: str = "bank", extra: Headers = ()
    ) -> None:
        """Send lines as of one Kafka time, each after the other."""
        producer = Producer({**self.settings.kafka_properties(), "acks": "all"})
        failed: list[str] = []
        for message in (message_of(line, source, extra) for line in lines):
            producer.produce(
                self.topic,
                message.value,
                message.key,
                headers=list(message.headers),
                timestamp=int(moment.timestamp() * 1000),
                on_delivery=lambda error, _: failed.append(str(error)) if error else None,
            )
        assert producer.flush(60) == 0
        assert not failed, failed[:3]

    def count(self) -> None:
        """Run the jobs that count: retention drops nothing that they have still to read."""
        for job in (DriftJob(self.catalog, self.spark, CountingSettings()),
                    CountingJob(self.catalog, self.spark, TALLY, CountingSettings())):  # fmt: skip
            job.run(once=True)

    def retention(self, now: datetime) -> Retention:
        """Retention of raw, as of a time."""
        properties = self.settings.catalog_properties()
        return Retention(self.catalog, lambda: self.spark, properties, RetentionSettings(), lambda: now)


def lines_of(day: datetime, count: int, seed: int) -> list[bytes]:
    """Events with every kind of dirt, of the day before one, so that its noon may take them."""
    start = day.astimezone(UTC) - timedelta(days=1)
    return list(steady(Plan(count, seed, start, SPAN, DIRTY)).lines())


NOON, NO_TIME = timedelta(hours=12), timedelta(0)
FIRST, SECOND, THIRD = (datetime(2020, 1, day, tzinfo=UTC) for day in (10, 11, 14))
NOW = datetime.now(UTC)
AT = ("reason", "approver", "actor")


class Aged:
    """A pipeline of three old days; the third repeats and corrects some of the first."""

    def __init__(self, pipeline: AgedPipeline, folder: Path) -> None:
        self.pipeline, self.catalog, self.spark = pipeline, pipeline.catalog, pipeline.spark
        self._replay = ReplaySettings(pipeline.settings.tables.buckets, folder)
        self.first = lines_of(FIRST, 50, 1)
        days = {FIRST: self.first, SECOND: lines_of(SECOND, 20, 2), THIRD: self.third()}
        for moment, lines in days.items():
            pipeline.send_at(moment + NOON, lines)
            pipeline.run_raw()
        pipeline.send_at(NOW, lines_of(NOW, 5, 6))
        pipeline.run_raw()
        pipeline.run_curated()

    def third(self) -> list[bytes]:
        """Records of the third day: of the first day's some again, some corrected, and new ones."""
        again = self.first[:10]
        return [*again, *filter(None, map(corrected, self.first[10:30])), *lines_of(THIRD, 20, 3)]

    def count(self) -> None:
        self.pipeline.count()

    def retention(self, now: datetime = NOW) -> Retention:
        return self.pipeline.retention(now)

    def drop(self, before: date) -> Dropped:
        return self.retention().drop(before, *AT)

    def reconcile(self, scope: Scope = ALL) -> Reconciliation:
        topic = inspect_topic(self.pipeline.settings.kafka_properties(), self.pipeline.topic)
        return Reconciler(self.catalog, self.spark, self._replay, topic, lambda *_: None).run(scope)

    def verify(self, scope: Scope = ALL) -> Any:
        return Verifier(self.catalog, self.spark, self._replay, lambda *_: None).run(scope)

    def apply(self, scope: Scope = ALL) -> Any:
        return Applier(self.catalog, self.spark, self._replay, lambda *_: None).run(scope)

    def stages(self) -> list[str]:
        return [ref for ref in self.catalog.load_table(RAW).metadata.refs if ref.startswith("stage_")]


def corrected(line: bytes) -> bytes | None:
    """The same event with another amount, as a later revision; None where a line is broken."""
    try:
        event = json.loads(line)
        return json.dumps({**event, "revision": 7, "attributes": {"corrected": "yes"}}).encode()
    except (ValueError, TypeError):
        return None


@pytest.fixture(scope="module")
def aged(
    stack: Settings, catalog: RestCatalog, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Aged:
    """The pipeline of three old days that retention is shown on, for each module anew."""
    return Aged(AgedPipeline(stack, catalog, spark), tmp_path_factory.mktemp("aged"))
