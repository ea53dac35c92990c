"""The curated job: raw to event_versions, payments and quarantine, batch by batch.

Belongs here: the order of the steps and what each table's publish consists of.
Does not: the rules (`quality/`), the fold (`lakehouse/fold.py`), the protocol (`lakehouse/publish.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from opentelemetry import metrics, trace
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.log_keeper import keep_log
from lakehouse.offsets import OffsetVector
from lakehouse.publish import Publisher
from lakehouse.refs import Head, decided_before, read_head
from lakehouse.turns import drop_abandoned
from quality.contract import contract
from streaming.curated_batch import CuratedBatch
from streaming.errors import GateClosed
from streaming.gates import Gates
from streaming.raw_reader import next_batch
from streaming.reconcile.hours import PassedHours

WRITER = "curated"
ABANDONED_SECONDS = 600.0
LONGEST_PAUSE_SECONDS = 60.0
# The publish log is looked at every so many batches, and written to when it lacks so many snapshots: few
# enough beside the 240 kept, and enough for a file.
LOG_EVERY_BATCHES, LOG_AT_LEAST = 20, 60
# The order matters: payments are folded from the versions published before them.
CURATED_TABLES = (VERSIONS, PAYMENTS, QUARANTINE)
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)
_folded = metrics.get_meter(__name__).create_counter("paywave.curated.records", unit="{record}")


@dataclass(frozen=True)
class CuratedSettings:
    """What the curated job needs to know: the tables' buckets, batch size, pause between looks at raw.

    `decides` is False where records were judged before: what the gate log says of them holds.
    """

    buckets: int
    max_records: int = 100_000
    poll_seconds: float = 2.0
    decides: bool = True


class CuratedJob:
    """Folds raw into the curated tables until it is told to stop, or until it has caught up (`once`).

    Stateless: a crash between tables heals because each table is brought on from its own progress, and
    writing a batch to a table that has it already changes nothing.
    """

    def __init__(self, catalog: RestCatalog, spark: SparkSession, settings: CuratedSettings) -> None:
        self._catalog = catalog
        self._spark = spark
        self._settings = settings
        self._publisher = Publisher(catalog, WRITER)
        self._gates = Gates(catalog, spark, WRITER)
        self._hours = PassedHours(catalog, spark)
        self._stopping = threading.Event()
        self.records = 0

    def stop(self) -> None:
        """Ask the job to end after the batch at hand; safe from a signal handler."""
        self._stopping.set()

    def run(self, once: bool = False, on_batch: Callable[[int, int], None] | None = None) -> int:
        """Run; `on_batch` is called with the records done and those left. Returns the records done.

        At a closed gate it looks again, ever less often, and goes on once the cause is gone; with `once` it
        raises `GateClosed`.
        """
        self._stopping.clear()
        for table in CURATED_TABLES:
            drop_abandoned(self._catalog, table, WRITER, ABANDONED_SECONDS)
        self._gates.tidy()
        self._keep_log()
        batches = 0
        while not self._stopping.is_set():
            left = self._look(once)
            batches += left is not None
            if left is not None and batches % LOG_EVERY_BATCHES == 0:
                self._keep_log()
            if left is not None and on_batch is not None:
                on_batch(self.records, left)
            if left is None:
                if once:
                    break
                self._stopping.wait(self._settings.poll_seconds)
        return self.records

    def _ahead(self, heads: list[Head], slowest: OffsetVector) -> OffsetVector | None:
        """Return where the table that is ahead stands, if one is by a batch: a crash came between the tables.

        The others go just there first, so that tables that have reached one vector tell of the same records.
        A table that is further behind was made anew, and catches up batch by batch.
        """
        greatest = slowest
        for head in heads:
            greatest = greatest.greatest(head.offsets)
        return greatest if 0 < slowest.records_to(greatest) <= 2 * self._settings.max_records else None

    def _keep_log(self) -> None:
        try:
            keep_log(self._catalog, self._spark, LOG_AT_LEAST)
        except (
            Exception
        ) as error:  # no reason to stop folding: it can wait, expiry keeps the log before it works
            _log.warning("publish log not kept", error=str(error)[:300])

    def _look(self, once: bool) -> int | None:
        """Step; again for as long as a gate is closed and nobody asks the job to end."""
        pause = self._settings.poll_seconds
        while True:
            try:
                return self._step()
            except GateClosed as closed:
                if once:
                    raise
                _log.error("gate closed", reason=str(closed), next_look_s=pause)
            if self._stopping.wait(pause):
                return None
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _reconcile_hours(self, complete_to: datetime | None) -> None:
        try:
            self._hours.reconcile(complete_to)
        except Exception as error:  # no reason to stop folding: the next hour counts these again
            _log.warning("passed hours not reconciled", error=str(error)[:300])

    def _step(self) -> int | None:
        """Bring every table on by one batch. Returns the records left in raw; None: there was no batch."""
        raw = read_head(self._catalog, RAW)
        heads = [read_head(self._catalog, table) for table in CURATED_TABLES]
        _know_contracts(heads)
        start, hint = _slowest(heads)
        self._gates.look()
        # Records that a table has already are judged as it has them; those of tables made anew, as they were.
        known = decided_before(heads[0], raw)
        is_new = start.covers(known)
        decides = self._settings.decides and is_new and all(head.offsets == start for head in heads)
        if decides:
            self._gates.heed_overrides(start)
        most = self._settings.max_records
        end = self._ahead(heads, start) or self._gates.let_pass(start, most)
        if end is None and not is_new:
            end = start.part_way(start.greatest(known), most)
        batch = next_batch(raw, start, hint, self._settings.max_records, end=end)
        if batch is None:
            return None
        with (
            _tracer.start_as_current_span("curated.batch", attributes={"records": batch.records}),
            self._gates.watching(batch.start, batch.end),
            CuratedBatch(self._spark, batch, self._settings.buckets) as folding,
        ):
            tally = folding.tally()
            if decides:
                self._gates.decide(batch.start, batch.end, tally, folding.broken_ones)
            folding.hold(self._gates.holds_between(batch.start, batch.end))
            self._publisher.publish(VERSIONS, folding.plan_versions)
            self._publisher.publish(PAYMENTS, folding.plan_payments)
            self._publisher.publish(QUARANTINE, folding.plan_quarantine)
        self._gates.passed(batch.start, tally)
        self._reconcile_hours(batch.complete_to)
        self.records += batch.records
        _folded.add(batch.records)
        left = batch.end.records_to(raw.offsets)
        _log.info("folded", records=batch.records, left=left)
        return left


def _know_contracts(heads: list[Head]) -> None:
    """Stop if a newer release judged by a contract not known here: this one would judge otherwise."""
    for head in heads:
        if head.progress.contract_version is not None:
            contract(head.progress.contract_version)


def _slowest(heads: list[Head]) -> tuple[OffsetVector, int | None]:
    """Return where the table that lags most stands, and the raw snapshot that it was read up to."""
    least = heads[0].offsets
    for head in heads[1:]:
        least = least.least(head.offsets)
    hints = [h.progress.source_snapshot for h in heads if h.offsets == least]
    return least, hints[0] if hints else None
