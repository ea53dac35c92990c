"""A job that counts raw's records into a table, beside the curated job and out of its way.

Belongs here: the loop over raw, and what its publish consists of. Does not: counting (`counting.py`, and what
each table counts), showing what was counted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import SparkSession

from lakehouse import audit
from lakehouse.definitions import RAW
from lakehouse.publish import Plan, Publisher, Stage
from lakehouse.refs import Head, read_head
from lakehouse.staging import append, append_nothing, delete
from lakehouse.turns import drop_abandoned
from streaming.counting import RECORDS, Tally, records_in
from streaming.frames import few
from streaming.partitions import hour_of, hours_predicate
from streaming.raw_reader import RawBatch, next_batch, read_batch

ABANDONED_SECONDS = 600.0
_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True)
class CountingSettings:
    """What the job needs to know: the size of a batch, the pause between looks at raw."""

    max_records: int = 1_000_000
    poll_seconds: float = 60.0


class CountingJob:
    """Counts raw's records until it is told to stop, or until it has caught up (`once`).

    The table's own progress says how far raw is counted: each record counts once, however often the job is
    killed, and any batching gives the same rows.
    """

    def __init__(
        self, catalog: RestCatalog, spark: SparkSession, tally: Tally, settings: CountingSettings
    ) -> None:
        self._catalog = catalog
        self._spark = spark
        self._tally = tally
        self._settings = settings
        self._publisher = Publisher(catalog, tally.writer)
        self._stopping = threading.Event()
        self._batch: RawBatch | None = None
        self._counts = tally.schema.empty_table()
        self.records = 0

    def stop(self) -> None:
        """Ask the job to end after the batch at hand; safe from a signal handler."""
        self._stopping.set()

    def run(self, once: bool = False, on_batch: Callable[[int, int], None] | None = None) -> int:
        """Run; `on_batch` is told the records looked at and those left. Returns the records looked at."""
        self._stopping.clear()
        drop_abandoned(self._catalog, self._tally.table, self._tally.writer, ABANDONED_SECONDS)
        while not self._stopping.is_set():
            left = self._step()
            if left is not None and on_batch is not None:
                on_batch(self.records, left)
            if left is None:
                if once:
                    break
                self._stopping.wait(self._settings.poll_seconds)
        return self.records

    def _published(self, counts: pa.Table) -> None:
        """Told of each batch's counts once they are published."""

    def _step(self) -> int | None:
        """Count one batch. Returns the records left in raw; None: there was no batch."""
        with _tracer.start_as_current_span(f"{self._tally.writer}.batch"):
            if self._publisher.publish(self._tally.table, self._build) is None or self._batch is None:
                return None
        self._published(self._counts)
        self.records += self._batch.records
        return self._batch.end.records_to(read_head(self._catalog, RAW).offsets)

    def _build(self, head: Head) -> Plan | None:
        raw, hint = read_head(self._catalog, RAW), head.progress.source_snapshot
        # a table made anew counts what there still is
        start = head.offsets if list(head.offsets) else raw.retired.below
        self._batch = batch = next_batch(raw, start, hint, self._settings.max_records)
        if batch is None:
            return None
        self._counts = counts = self._tally.count(read_batch(self._spark, batch))
        return self._plan(head, batch, counts, self._tally.same_keys(self._rows(head, counts), counts))

    def _rows(self, head: Head, counts: pa.Table) -> pa.Table:
        """Read what the table has of the hours that a batch touches."""
        schema = self._tally.schema
        hours = ", ".join(f"'{hour.isoformat()}'" for hour in counts["kafka_hour"].unique().to_pylist())
        if not hours:
            return schema.empty_table()
        scan = head.table.scan(row_filter=f"kafka_hour in ({hours})", snapshot_id=head.snapshot.snapshot_id)
        return scan.to_arrow().select(schema.names).cast(schema)

    def _plan(self, head: Head, batch: RawBatch, counts: pa.Table, replaced: pa.Table) -> Plan:
        key, name = self._tally.key, self._tally.table
        added = self._tally.total(replaced, counts)
        touched = (hour_of(hour) for hour in replaced["kafka_hour"].unique().to_pylist())
        hours = hours_predicate(touched, "kafka_hour", "t")

        def write(stage: Stage) -> None:
            if not counts.num_rows:
                append_nothing(stage, self._spark)
                return
            if replaced.num_rows:
                delete(stage, few(self._spark, replaced.select(list(key))), key, hours)
            append(stage, few(self._spark, added), partitions=1)

        def check(table: Table, staged: Snapshot) -> None:
            found = audit.added_rows(table, staged, head.snapshot.snapshot_id, [*key, RECORDS])
            audit.check_unique(found, key, name)
            audit.check_deleted(head.snapshot, staged, replaced.num_rows, name)
            audit.check_count(records_in(found) - records_in(replaced), records_in(counts), "counted", name)

        return Plan(
            write,
            check,
            progress=batch.end,
            source_snapshot=batch.consumed,
            complete_to=batch.complete_to,
            totals={"records": head.totals.get("records", 0) + batch.records},
        )
