"""A pipeline whose topic takes each record's time from who sends it: days of long ago, for retention."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from confluent_kafka import Producer

from lakehouse.maintenance.retention import Retention, RetentionSettings
from streaming.counting_job import CountingJob, CountingSettings
from streaming.message import message_of
from streaming.profile.count import TALLY
from streaming.schemas.drift_job import DriftJob
from streaming.simulate import Plan, Simulation
from streaming.topics import ensure_topics, payments_topic
from tests.pipeline import DIRTY, PARTITIONS, SPAN, Pipeline


class AgedPipeline(Pipeline):
    """The main job on records of any Kafka time. Ours never take it from a producer: LogAppendTime."""

    def create_topic(self) -> None:
        topic = payments_topic(self.topic, PARTITIONS, 1, 1, 1)
        config = {**topic.config, "message.timestamp.type": "CreateTime", "retention.ms": "-1"}
        ensure_topics(self.settings.kafka_properties(), replace(topic, config=config))

    def send_at(self, moment: datetime, lines: Iterable[bytes], source: str = "bank") -> None:
        """Send lines as of one Kafka time, each after the other."""
        producer = Producer({**self.settings.kafka_properties(), "acks": "all"})
        failed: list[str] = []
        for message in (message_of(line, source) for line in lines):
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

    def retention(self, now: datetime | None = None) -> Retention:
        """Retention of raw, as of now unless another time is given."""
        properties, at = self.settings.catalog_properties(), now or datetime.now(UTC)
        return Retention(self.catalog, lambda: self.spark, properties, RetentionSettings(), lambda: at)


def lines_of(day: datetime, count: int, seed: int) -> list[bytes]:
    """Events with every kind of dirt, of the day before one, so that its noon may take them."""
    start = day.astimezone(UTC) - timedelta(days=1)
    return list(Simulation(Plan(count, seed, start, SPAN, DIRTY)).lines())
