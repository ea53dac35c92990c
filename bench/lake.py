"""The stack of a benchmark: its own home in a temporary folder, raw filled through Kafka, stopped at the end.

Belongs here: starting, filling, running one batch and weighing what it wrote. Does not: what is compared.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession
from rich.console import Console

from bench.cpu import CpuMeter, Spent
from cli.commands.stream import curated_settings, raw_settings
from cli.context import bring_up, catalog_of, spark_of
from cli.logs import start_logs
from config.settings import Settings, load_settings
from lakehouse.definitions import RAW, TABLES
from lakehouse.tables import ensure_tables
from local.services.base import data_of
from local.stack import down, find
from streaming.curated_job import CuratedJob
from streaming.message import message_of
from streaming.producer import send
from streaming.raw_job import RawJob
from streaming.simulate import PRESETS, Mix, Plan, Simulation
from streaming.simulate.generator import DEFAULT_SPAN

SOURCE = "bench"  # who sends all events


@dataclass(frozen=True)
class Cost:
    """What one batch took: records, CPU seconds, seconds, and bytes written by kind of file."""

    records: int
    spent: Spent
    seconds: float
    written: Counter[str]

    @property
    def cpu_per_100k(self) -> float:
        return self.spent.job / self.records * 100_000


class Lake:
    """A running stack with its Spark session and the job under test."""

    def __init__(self, settings: Settings, spark: SparkSession, meter: CpuMeter) -> None:
        self.settings = settings
        self.spark = spark
        self.catalog: RestCatalog = catalog_of(settings)
        self._meter = meter
        self._objects = data_of(settings.home, "s3")
        self.bytes_per_event = 0.0

    def fill_raw(
        self, records: int, seed: int, mix: Mix = PRESETS["demo"], span: timedelta = DEFAULT_SPAN
    ) -> Plan:
        """Send generated events, with the usual dirt or another mix, through Kafka, and into raw."""
        plan = Plan.recent(records, seed, mix, span)
        size = 0

        def messages() -> Iterator[Any]:
            nonlocal size
            for line in Simulation(plan).lines():
                size += len(line)
                yield message_of(line, SOURCE)

        send(messages(), self.settings.kafka.topic, self.settings.kafka_properties())
        RawJob(self.catalog, self.spark, raw_settings(self.settings)).run(once=True)
        self.bytes_per_event = size / records
        return plan

    def renew_curated(self) -> None:
        """Start again with empty tables; raw stays."""
        for table in TABLES:
            if table.name != RAW and self.catalog.table_exists(table.name):
                self.catalog.drop_table(table.name)
        ensure_tables(self.catalog, self.settings.tables.buckets)

    def job(self, batch: int) -> CuratedJob:
        """The curated job, in batches of this size."""
        settings = replace(curated_settings(self.settings), max_records=batch)
        return CuratedJob(self.catalog, self.spark, settings)

    @contextmanager
    def costs(self, records: int) -> Iterator[list[Cost]]:
        """Measure what a block takes; the list has its cost afterwards."""
        found: list[Cost] = []
        files = self._sizes()
        before, began = self._meter.spent(), time.monotonic()
        yield found
        seconds, spent = time.monotonic() - began, self._meter.spent() - before
        written: Counter[str] = Counter()
        for path, size in self._sizes().items():
            if path not in files:
                written[path.suffix] += size
        found.append(Cost(records, spent, seconds, written))

    def one_batch(self, job: CuratedJob) -> Cost:
        """Fold the next batch of raw."""
        done = job.records
        with self.costs(0) as found:
            job.run(once=True, on_batch=lambda *_: job.stop())
        cost = found[0]
        return replace(cost, records=job.records - done)

    def _sizes(self) -> dict[Path, int]:
        return {path: path.stat().st_size for path in self._objects.rglob("*") if path.is_file()}


@contextmanager
def running_lake() -> Iterator[Lake]:
    """Start everything in a folder of its own, with the settings that production on one machine has."""
    start_logs()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or nothing here would be stopped
    with tempfile.TemporaryDirectory(prefix="paywave-bench-") as home:
        settings = load_settings(home=Path(home) / "home")
        try:
            settings, _ = bring_up(settings, Console(stderr=True))
            spark = spark_of(settings, "bench")
            servers = [found.pid for name in ("s3", "catalog") if (found := find(settings.home, name))]
            with CpuMeter(servers) as meter:
                yield Lake(settings, spark, meter)
            spark.stop()
        finally:
            down(settings)
