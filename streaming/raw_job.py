"""The raw job: Kafka to the raw table, bytes exactly as received, each offset once.

Belongs here: reading Kafka with Structured Streaming and handing each batch to the publish protocol.
Does not: any judgement of what the bytes say (`curated_job.py`).
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog
from opentelemetry import metrics, trace
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyspark.errors import StreamingQueryException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from lakehouse import audit
from lakehouse.definitions import RAW
from lakehouse.offsets import OffsetVector
from lakehouse.publish import Plan, Publisher, Stage
from lakehouse.redrive_mark import OF
from lakehouse.refs import Head, read_head
from lakehouse.staging import append
from lakehouse.turns import drop_abandoned
from streaming.completeness import complete_to
from streaming.errors import StreamingError
from streaming.frames import header_text
from streaming.topic_state import TopicState, inspect_topic, start_offsets
from streaming.topics import require_durable

WRITER = "raw"
ABANDONED_SECONDS = 600.0
_POLL_SECONDS = 1
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)
_consumed = metrics.get_meter(__name__).create_counter("messaging.client.consumed.messages", unit="{message}")
OnBatch = Callable[[int, int], None]


@dataclass(frozen=True)
class RawSettings:
    """What the raw job needs to know: the topic, how to reach Kafka (client and Spark), and batch sizes.

    `needs_durable` refuses to start against a topic that could lose what it acknowledged (production).
    """

    topic: str
    kafka_properties: Mapping[str, str]
    source_options: Mapping[str, str]
    max_records: int = 100_000
    trigger_seconds: float = 10.0
    needs_durable: bool = False


class RawJob:
    """Copies a topic into the raw table until it is told to stop, or until the topic is drained (`once`).

    The table is the checkpoint: each start makes a fresh one and reads from the table's progress. Raises
    StreamingError or LakehouseError; whatever it raises, nothing is lost or doubled by starting again.
    """

    def __init__(self, catalog: RestCatalog, spark: SparkSession, settings: RawSettings) -> None:
        self._catalog = catalog
        self._spark = spark
        self._settings = settings
        self._publisher = Publisher(catalog, WRITER)
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._topic_id = ""
        self._staged = 0
        self._left = 0
        self.records = 0

    def stop(self) -> None:
        """Ask the job to end after the batch at hand; safe from a signal handler."""
        self._stopping.set()

    def run(self, once: bool = False, on_batch: OnBatch | None = None) -> int:
        """Run; `on_batch` is told the records done and those left. Returns the records done."""
        self._stopping.clear()
        if self._settings.needs_durable:
            require_durable(self._settings.kafka_properties, self._settings.topic)
        drop_abandoned(self._catalog, RAW, WRITER, ABANDONED_SECONDS)
        state = self._inspect()
        self._topic_id = state.topic_id
        starts = start_offsets(RAW, read_head(self._catalog, RAW).offsets, state)
        with tempfile.TemporaryDirectory(prefix="paywave-raw-") as checkpoint:
            query = self._start(starts, Path(checkpoint), once, on_batch)
            self._wait(query)
        if self._failure is not None:
            raise self._failure
        return self.records

    def _start(
        self, starts: dict[int, int], checkpoint: Path, once: bool, on_batch: OnBatch | None
    ) -> StreamingQuery:
        options = {
            **self._settings.source_options,
            "subscribe": self._settings.topic,
            "startingOffsets": json.dumps({self._settings.topic: {str(p): o for p, o in starts.items()}}),
            "maxOffsetsPerTrigger": str(self._settings.max_records),
            "includeHeaders": "true",
            "failOnDataLoss": "true",
        }
        source = self._spark.readStream.format("kafka").options(**options).load()

        def consume(batch: DataFrame, batch_id: int) -> None:
            if self._stopping.is_set():
                return  # not published, so not consumed: the next start reads it again
            try:
                self._consume(batch, planned_offsets(checkpoint, batch_id, self._settings.topic))
            except BaseException as error:  # the stack of the JVM would hide what happened
                self._failure = error
                self._stopping.set()
                raise
            if on_batch is not None:
                on_batch(self.records, self._left)

        writer = source.writeStream.foreachBatch(consume).option("checkpointLocation", checkpoint.as_uri())
        if once:
            return writer.trigger(availableNow=True).start()
        return writer.trigger(processingTime=f"{self._settings.trigger_seconds} seconds").start()

    def _wait(self, query: StreamingQuery) -> None:
        """Wait for the query to end; when asked to stop, let the batch at hand finish first."""
        try:
            while not query.awaitTermination(_POLL_SECONDS):
                if self._stopping.is_set() and not query.status["isTriggerActive"]:
                    query.stop()
        except StreamingQueryException as error:
            if self._failure is None:
                raise StreamingError(
                    f"reading {self._settings.topic} failed: {str(error).splitlines()[0]}",
                    "see whether Kafka runs: `paywave status`; start again, nothing is lost or doubled",
                ) from error

    def _consume(self, batch: DataFrame, ends: dict[int, int]) -> None:
        with _tracer.start_as_current_span("raw.batch", attributes={"topic": self._settings.topic}):
            self._staged = 0
            if self._publisher.publish(RAW, lambda head: self._plan(head, batch, ends)) is None:
                return
            self.records += self._staged  # of the attempt that got in; earlier ones count for nothing
            _consumed.add(self._staged, {"messaging.destination.name": self._settings.topic})

    def _plan(self, head: Head, batch: DataFrame, ends: dict[int, int]) -> Plan | None:
        state = self._inspect()
        start_offsets(RAW, head.offsets, state)  # the topic may have been replaced since the last batch
        target = head.offsets.greatest(head.offsets.advanced(state.topic_id, ends))
        count = head.offsets.records_to(target)
        if count == 0:
            return None
        rows = raw_rows(batch, state.topic_id).where(_at_or_after(head.offsets, state.topic_id, ends))

        def write(stage: Stage) -> None:
            append(stage, rows)

        def check(table: Table, staged: Snapshot) -> None:
            columns = ["topic_id", "partition", "offset"]
            found = audit.added_rows(table, staged, head.snapshot.snapshot_id, columns)
            audit.check_dense(found, head.offsets, target, RAW)
            self._staged = count
            self._left = target.records_to(OffsetVector({state.topic_id: state.latest}))

        return Plan(write, check, progress=target, complete_to=self._complete_to(head, state, target))

    def _complete_to(self, head: Head, state: TopicState, target: OffsetVector) -> datetime | None:
        """Tell up to which Kafka time raw has every record once it stands at `target`; never back again."""
        found = complete_to(self._settings.kafka_properties, state, target.topics[state.topic_id])
        known = (moment for moment in (head.progress.complete_to, found) if moment is not None)
        return max(known, default=None)

    def _inspect(self) -> TopicState:
        return inspect_topic(self._settings.kafka_properties, self._settings.topic)


def planned_offsets(checkpoint: Path, batch_id: int, topic: str) -> dict[int, int]:
    """Read from this run's own log how far Spark planned a batch: partition to the offset after its last.

    Kafka would have to be read twice to learn it from the rows. It is only a plan: the audit holds the rows
    that were staged against it.
    """
    *_, offsets = (checkpoint / "offsets" / str(batch_id)).read_text().splitlines()
    return {int(p): int(offset) for p, offset in json.loads(offsets)[topic].items()}


def raw_rows(batch: DataFrame, topic_id: str) -> DataFrame:
    """Turn Kafka source rows into the raw table's columns."""
    return batch.select(
        F.lit(topic_id).alias("topic_id"),
        "topic",
        "partition",
        "offset",
        F.col("timestamp").alias("kafka_ts"),
        "headers",
        "key",
        "value",
        F.try_to_timestamp(header_text("ce_time")).alias("event_ts"),
        header_text(OF).alias("redrive_of"),
    )


def _at_or_after(progress: OffsetVector, topic_id: str, ends: Mapping[int, int]) -> Column:
    """Keep what the table does not have yet: another writer, or an older plan, may have been ahead of us."""
    keep = F.lit(False)
    for partition in ends:
        start = progress.next_offset(topic_id, partition)
        keep = keep | ((F.col("partition") == partition) & (F.col("offset") >= start))
    return keep
