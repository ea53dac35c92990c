"""The drift job: raw to curated.schema_drift, beside the curated job and out of its way.

Belongs here: the loop over raw, and what its publish consists of. Does not: counting (`drift_count.py`),
showing what was counted (`drift_report.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import structlog
from opentelemetry import metrics, trace
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import SparkSession

from lakehouse import audit
from lakehouse.definitions import DRIFT, RAW
from lakehouse.publish import Plan, Publisher, Stage
from lakehouse.refs import Head, read_head
from lakehouse.staging import append, append_nothing, delete
from lakehouse.turns import drop_abandoned
from streaming.frames import few
from streaming.raw_reader import RawBatch, next_batch, read_batch
from streaming.schemas.drift_count import KEY, SCHEMA, count, same_keys, total

WRITER = "drift"
ABANDONED_SECONDS = 600.0
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)
_new_fields = metrics.get_meter(__name__).create_counter("paywave.schema.new_fields", unit="{field}")
_FIELD = ("source", "field", "json_type")
_Field = tuple[str, str, str]


@dataclass(frozen=True)
class DriftSettings:
    """What the job needs to know: the size of a batch, the pause between looks at raw."""

    max_records: int = 1_000_000
    poll_seconds: float = 60.0


class DriftJob:
    """Counts unknown fields of raw's records until it is told to stop, or until it has caught up (`once`).

    The table's own progress says how far raw is counted: each record counts once, however often the job is
    killed, and any batching gives the same rows.
    """

    def __init__(self, catalog: RestCatalog, spark: SparkSession, settings: DriftSettings) -> None:
        self._catalog = catalog
        self._spark = spark
        self._settings = settings
        self._publisher = Publisher(catalog, WRITER)
        self._stopping = threading.Event()
        self._batch: RawBatch | None = None
        self._counts = SCHEMA.empty_table()
        self._known: set[_Field] | None = None
        self.records = 0

    def stop(self) -> None:
        """Ask the job to end after the batch at hand; safe from a signal handler."""
        self._stopping.set()

    def run(self, once: bool = False, on_batch: Callable[[int, int], None] | None = None) -> int:
        """Run; `on_batch` is told the records looked at and those left. Returns the records looked at."""
        self._stopping.clear()
        drop_abandoned(self._catalog, DRIFT, WRITER, ABANDONED_SECONDS)
        while not self._stopping.is_set():
            left = self._step()
            if left is not None and on_batch is not None:
                on_batch(self.records, left)
            if left is None:
                if once:
                    break
                self._stopping.wait(self._settings.poll_seconds)
        return self.records

    def _step(self) -> int | None:
        """Count one batch. Returns the records left in raw; None: there was no batch."""
        with _tracer.start_as_current_span("drift.batch"):
            if self._publisher.publish(DRIFT, self._build) is None or self._batch is None:
                return None
        self._tell_of_new_fields()
        self.records += self._batch.records
        return self._batch.end.records_to(read_head(self._catalog, RAW).offsets)

    def _build(self, head: Head) -> Plan | None:
        raw, hint = read_head(self._catalog, RAW), head.progress.source_snapshot
        self._batch = batch = next_batch(raw, head.offsets, hint, self._settings.max_records)
        if batch is None:
            return None
        if self._known is None:
            scan = head.table.scan(selected_fields=_FIELD, snapshot_id=head.snapshot.snapshot_id)
            self._known = _fields_in(scan.to_arrow())
        self._counts = counts = count(read_batch(self._spark, batch))
        replaced = same_keys(_rows(head, counts), counts)
        return self._plan(head, batch, counts, replaced)

    def _tell_of_new_fields(self) -> None:
        """Warn of each field that its partner has never sent before; once, when it is published."""
        assert self._known is not None
        for source, field, json_type in sorted(_fields_in(self._counts) - self._known):
            self._known.add((source, field, json_type))
            _new_fields.add(1, {"source": source})
            _log.warning("schema drift", source=source, field=field, json_type=json_type)

    def _plan(self, head: Head, batch: RawBatch, counts: pa.Table, replaced: pa.Table) -> Plan:
        added = total(replaced, counts)

        def write(stage: Stage) -> None:
            if not counts.num_rows:
                append_nothing(stage, self._spark)
                return
            if replaced.num_rows:
                delete(stage, few(self._spark, replaced.select(list(KEY))), KEY)
            append(stage, few(self._spark, added), partitions=1)

        def check(table: Table, staged: Snapshot) -> None:
            found = audit.added_rows(table, staged, head.snapshot.snapshot_id, [*KEY, "records"])
            audit.check_unique(found, KEY, DRIFT)
            audit.check_deleted(head.snapshot, staged, replaced.num_rows, DRIFT)
            audit.check_count(_sum(found) - _sum(replaced), _sum(counts), "fields counted", DRIFT)

        return Plan(
            write,
            check,
            progress=batch.end,
            source_snapshot=batch.consumed,
            complete_to=batch.complete_to,
            totals={"records": head.totals.get("records", 0) + batch.records},
        )


def _rows(head: Head, counts: pa.Table) -> pa.Table:
    """Read what the table has of the hours that a batch touches."""
    hours = ", ".join(f"'{hour.isoformat()}'" for hour in counts["kafka_hour"].unique().to_pylist())
    if not hours:
        return SCHEMA.empty_table()
    scan = head.table.scan(row_filter=f"kafka_hour in ({hours})", snapshot_id=head.snapshot.snapshot_id)
    return scan.to_arrow().select(SCHEMA.names).cast(SCHEMA)


def _fields_in(rows: pa.Table) -> set[_Field]:
    return {(row["source"], row["field"], row["json_type"]) for row in rows.to_pylist()}


def _sum(rows: pa.Table) -> int:
    return int(pc.sum(rows["records"]).as_py() or 0)
