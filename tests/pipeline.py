"""The main job as tests drive it: a topic and tables of their own, send, raw, curated, read back.

Belongs here: driving and reading. Does not: what must come out (`reference.py`).
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from config.settings import Settings
from lakehouse.conservation import Stock, take_stock
from lakehouse.definitions import TABLES
from lakehouse.maintenance.compact import CompactSettings
from lakehouse.maintenance.need import Limits
from lakehouse.query import run_query
from lakehouse.tables import ensure_tables
from streaming.curated_job import CuratedJob, CuratedSettings
from streaming.message import Message, message_of
from streaming.producer import send
from streaming.raw_job import RawJob, RawSettings
from streaming.topics import ensure_topics, payments_topic
from streaming.transactions_job import TransactionsJob, TransactionsSettings

PARTITIONS = 4
EVERYTHING = 200_000
# Everything is closed, and quiet at once: the tests' events are of the last hours.
ANY_HOUR = CompactSettings(
    Limits(least_saved=1), closed_after=timedelta(hours=-3), quiet=timedelta(seconds=-60)
)


@dataclass
class Pipeline:
    """The main job on the stack, with a topic of its own and new tables, of which there is one set only."""

    settings: Settings
    catalog: RestCatalog
    spark: SparkSession
    topic: str = field(default_factory=lambda: f"t-{uuid.uuid4()}")

    def __post_init__(self) -> None:
        self.create_topic()
        self.renew_tables()

    def create_topic(self) -> None:
        topic = payments_topic(self.topic, PARTITIONS, 1, 1, 1)
        ensure_topics(self.settings.kafka_properties(), topic)

    def renew_tables(self) -> None:
        """Drop every table and create it anew: what Kafka holds is consumed from the start again."""
        for table in TABLES:
            if self.catalog.table_exists(table.name):
                self.catalog.drop_table(table.name)
        ensure_tables(self.catalog, self.settings.tables.buckets)

    def send(self, messages: Iterable[Message]) -> int:
        """Send messages; every one of them must be acknowledged. Returns their number."""
        report = send(messages, self.topic, self.settings.kafka_properties())
        assert report.failed == 0, report
        return report.acknowledged

    def send_lines(self, lines: Iterable[bytes], source: str = "bank") -> int:
        return self.send(message_of(line, source) for line in lines)

    def raw_job(self, max_records: int = EVERYTHING, needs_durable: bool = False) -> RawJob:
        kafka, source = self.settings.kafka_properties(), self.settings.kafka_source_options()
        settings = RawSettings(self.topic, kafka, source, max_records, needs_durable=needs_durable)
        return RawJob(self.catalog, self.spark, settings)

    def curated_job(self, max_records: int = EVERYTHING) -> CuratedJob:
        settings = CuratedSettings(self.settings.tables.buckets, max_records)
        return CuratedJob(self.catalog, self.spark, settings)

    def run_raw(self, max_records: int = EVERYTHING) -> int:
        return self.raw_job(max_records).run(once=True)

    def run_curated(self, max_records: int = EVERYTHING) -> int:
        return self.curated_job(max_records).run(once=True)

    def run(self, max_records: int = EVERYTHING) -> None:
        """Drain the topic into raw, then raw into the curated tables."""
        self.run_raw(max_records)
        self.run_curated(max_records)

    def run_transactions(self, rebuild: bool = False, at_a_time: int = EVERYTHING) -> Counter[str]:
        """Bring curated.transactions to the payments. Returns how many rows it did insert, update, delete."""
        settings = TransactionsSettings(self.settings.tables.buckets, at_a_time=at_a_time)
        return TransactionsJob(self.catalog, self.spark, settings).run(once=True, rebuild=rebuild)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Every row of a table, read by pyiceberg."""
        found: list[dict[str, Any]] = self.catalog.load_table(table).scan().to_arrow().to_pylist()
        return found

    def query(self, sql: str, **options: Any) -> list[tuple[Any, ...]]:
        """Rows of a query, read by DuckDB unless options say otherwise."""
        return run_query(self.catalog, self.settings.catalog_properties(), sql, **options).rows

    def stock(self) -> Stock:
        return take_stock(self.catalog, self.settings.catalog_properties())

    def environment(self) -> dict[str, str]:
        """Environment of a `paywave` process that works on this topic."""
        own = {"PAYWAVE_HOME": str(self.settings.home), "PAYWAVE_KAFKA__TOPIC": self.topic}
        return {**os.environ, **own}
