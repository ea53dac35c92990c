"""`paywave reconcile`: every record of a range accounted for, from Kafka to transactions and partners' files.

Belongs here: the order of the work, and what a scope means on each side. Does not: counting (the modules
beside it), which identities there are (`quality/reconciliation.py`).

A scope is Kafka time. On the curated side it means the whole event partitions that its records speak of: a
payment is the fold of all its versions, whenever they came. Transactions, which may reach over months, are
looked at with everything only. A file belongs to the time at which it was settled.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import structlog
from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from lakehouse.definitions import PAYMENTS, RAW, TRANSACTIONS, VERSIONS
from lakehouse.file_ledger import FileLedger
from lakehouse.gate_log import holds_of
from lakehouse.offsets import OffsetVector
from lakehouse.refs import Head, read_head
from lakehouse.retention_log import dropped_records
from quality.reconciliation import Account
from streaming.partitions import Partition
from streaming.reconcile.file_records import CLOCKS, count_files
from streaming.reconcile.files import FileAccounts, files_of
from streaming.reconcile.offsets import Kept
from streaming.reconcile.payments import PaymentAccounts
from streaming.reconcile.records import RecordAccounts
from streaming.reconcile.result import Reconciliation
from streaming.reconcile.scope import widened
from streaming.reconcile.transactions import TransactionAccounts
from streaming.replay.pinned import Pinned, pin, stored_sizes, units
from streaming.replay.ranges import range_of
from streaming.replay.scope import Scope
from streaming.replay.transactions import sides
from streaming.replay.verify import ReplaySettings, Report
from streaming.topic_state import TopicState

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


class Reconciler:
    """Reconciles one scope against the tables as they stand when it begins.

    Args:
        topic: the topic as Kafka tells of it now; None where Kafka did not answer, which is said.
    """

    def __init__(
        self,
        catalog: RestCatalog,
        spark: SparkSession,
        settings: ReplaySettings,
        topic: TopicState | None,
        report: Report,
    ) -> None:
        self._catalog = catalog
        self._spark = spark
        self._settings = settings
        self._topic = topic
        self._report = report
        self._remarks: list[str] = []

    def run(self, scope: Scope) -> Reconciliation:
        """Reconcile records of a Kafka time range, or all."""
        made_at = datetime.now(UTC)
        with _tracer.start_as_current_span("reconcile", attributes={"scope": str(scope)}):
            pinned = pin(self._spark, self._catalog, self._settings.buckets)
            raw = read_head(self._catalog, RAW)
            records = self._records(scope, pinned, raw.offsets)
            payments = self._payments(scope, pinned, records.touched)
            transactions = self._transactions(scope)
            files = self._files(scope, pinned, raw)
            conflicts = tuple(conflict.as_json() for conflict in payments.conflicts)
        figures = {"records": records.count, "behind_raw": pinned.vector.records_to(raw.offsets)}
        result = Reconciliation(
            uuid.uuid4().hex,
            made_at,
            "deep",
            scope,
            (
                *((records.offsets.kafka,) if self._topic is not None else ()),
                *(records.offsets.raw, records.records, records.amounts),
                *(payments.versions, payments.events, payments.amounts),
                *transactions,
                *(files.rows, files.records, files.counts, files.amounts),
            ),
            {RAW: raw.snapshot.snapshot_id, **pinned.snapshots},
            pinned.vector,
            tuple(self._remarks),
            conflicts,
            figures,
        )
        _log.info("reconciled", scope=str(scope), balanced=result.is_balanced, records=records.count)
        return result

    def _records(self, scope: Scope, pinned: Pinned, consumed: OffsetVector) -> RecordAccounts:
        found = range_of(self._spark, self._catalog, scope, pinned.vector)
        whole, first, last = widened(self._spark, found, pinned.vector)
        accounts = RecordAccounts(self._kept(consumed))
        accounts.offsets.add_lost(consumed)
        if found.retired and scope.start is None:
            accounts.offsets.add_retired(found.retired.below, dropped_records(self._catalog))
        self._remarks += [*found.remarks, *pinned.remarks]
        done, total = 0, whole.records
        for chunk in whole.chunks(self._settings.chunk_records):
            accounts.add(self._spark, self._catalog, pinned, chunk, (first, last))
            done += chunk.records
            self._report("records", done, total)
        return accounts

    def _kept(self, consumed: OffsetVector) -> Kept | None:
        topic = self._topic
        if topic is None:
            self._remarks.append("Kafka did not answer: what it keeps was not looked at")
            return None
        if others := sorted(set(consumed.topics) - {topic.topic_id}):
            self._remarks.append(
                f"topic {topic.topic} is {topic.topic_id} now: Kafka keeps nothing of {', '.join(others)}"
            )
        first = OffsetVector({topic.topic_id: topic.earliest})
        return Kept(topic.topic, first, OffsetVector({topic.topic_id: topic.latest}))

    def _payments(self, scope: Scope, pinned: Pinned, touched: set[Partition]) -> PaymentAccounts:
        accounts = PaymentAccounts(pinned, scope.is_all)
        sizes = self._sizes(scope, pinned, touched)
        done = 0
        for unit in units(sizes, self._settings.unit_rows):
            accounts.add(unit)
            done += len(unit)
            self._report("partitions", done, len(sizes))
        return accounts

    def _sizes(self, scope: Scope, pinned: Pinned, touched: set[Partition]) -> dict[Partition, int]:
        """Say about how many rows each partition has that is to be looked at."""
        sizes: dict[Partition, int] = {}
        for table in (VERSIONS, PAYMENTS):
            stored = stored_sizes(self._catalog.load_table(table), pinned.snapshots[table])
            wanted = stored if scope.is_all else stored.keys() & touched
            sizes |= {p: max(stored[p], sizes.get(p, 0)) for p in wanted}
        return sizes

    def _transactions(self, scope: Scope) -> tuple[Account, ...]:
        if not scope.is_all:
            self._remarks.append("transactions reach over months: they are looked at without a range only")
            return ()
        both = sides(self._catalog, self._spark)
        if both is None:
            self._remarks.append(f"{TRANSACTIONS} was never folded, or the payments that it is of are gone")
            return ()
        accounts = TransactionAccounts()
        accounts.add(both, self._settings.buckets)
        return accounts.rows, accounts.amounts

    def _files(self, scope: Scope, pinned: Pinned, raw: Head) -> FileAccounts:
        settled = files_of(FileLedger(self._catalog).settled(scope.start), scope.end)
        found = [file for file in settled if not raw.retired.reaches(file.received_at - CLOCKS)]
        if len(found) < len(settled):
            self._remarks.append(f"{len(settled) - len(found)} files are of days that retention dropped")
        folded = [file for file in found if pinned.vector.covers(file.offsets)]
        if len(folded) < len(found):
            self._remarks.append(f"{len(found) - len(folded)} files are not folded yet")
        accounts = FileAccounts()
        holds = holds_of(self._catalog)
        for file, lines, missing in count_files(self._spark, pinned, raw.snapshot.snapshot_id, folded, holds):
            accounts.add(file, lines, missing)
        return accounts
