"""One batch on its way into the curated tables: decoded once, then a plan per table from that table's head.

Belongs here: which rows a publish inserts, merges or deletes, and what its audit checks.
Does not: the loop over batches (`curated_job.py`), the rules of the fold (`lakehouse/fold.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import audit
from lakehouse.arrivals import Arrivals
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import BY_NAME, PAYMENTS, QUARANTINE, VERSIONS
from lakehouse.offsets import OffsetVector
from lakehouse.publish import Plan, Stage
from lakehouse.refs import Head, read_head, stamp_of
from lakehouse.staging import append, append_nothing, merge
from streaming.decisions import COPY, DELETE, INSERT, LOWER, RECORD, REPLACE, STATE, alone, decide
from streaming.decode import decode
from streaming.fold_groups import PAYMENT_KEY, VERSION_KEY
from streaming.frames import Frames
from streaming.partitions import Partition, partition_of, predicate
from streaming.raw_reader import RawBatch, between, read_batch

_COORDINATES = ("topic_id", "partition", "offset")
_COLUMNS = {name: [c.name for c in table.columns] for name, table in BY_NAME.items()}
_Write = Callable[[Stage], None]
_Check = Callable[[Table, Snapshot], None]


@dataclass
class _Decided:
    """Decisions, and the state of the tables that they are right for."""

    decisions: pa.Table
    offsets: OffsetVector
    payments: int
    token: str | None = None

    def count(self, column: str, *values: str) -> int:
        return int(self.having(column, *values).num_rows)

    def having(self, column: str, *values: str) -> pa.Table:
        return self.decisions.filter(pc.is_in(self.decisions[column], pa.array(values)))


class CuratedBatch:
    """A batch of raw, decoded once and kept until the last table has it; use as a context manager."""

    def __init__(self, spark: SparkSession, batch: RawBatch, buckets: int) -> None:
        self._spark = spark
        self._batch = batch
        self._buckets = buckets
        self._keep = Frames()
        self._decided: _Decided | None = None

    def __enter__(self) -> CuratedBatch:
        decoded = self._keep(decode(read_batch(self._spark, self._batch)))
        self._valid = decoded.where("violations IS NULL").withColumnRenamed("ingest_ts", "first_ingest_ts")
        self._broken = decoded.where("violations IS NOT NULL")
        self._partitions, self._arrivals, self._count, self._contract = self._survey(decoded)
        audit.check_count(sum(self._count.values()), self._batch.records, "records read", "raw")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keep.__exit__(kind, error, trace)

    # -- event_versions --------------------------------------------------------------------------------------

    def plan_versions(self, head: Head) -> Plan | None:
        """Insert the versions that the table does not have, lower the earliest copy of those it has."""
        if head.offsets.covers(self._batch.end):
            return None
        # The same decisions say what becomes of payments, unless somebody publishes in between.
        payments = _head_beside(head, PAYMENTS)
        decided = self._decided = self._decide(head, head, payments)
        copies = self._from(self._valid, head)
        lowered = decided.having("becomes", LOWER)
        redelivered = decided.count("becomes", COPY, LOWER)
        inserts = self._count_from(head, True) - redelivered
        nothing = self._frame(decided.having("becomes", COPY).select(list(RECORD)))
        rows = copies.join(nothing, _at(copies, nothing), "left_anti").select(*_COLUMNS[VERSIONS])

        def write(stage: Stage) -> None:
            decided.token = stage.stamp.token
            self._delete(stage, lowered, VERSION_KEY)
            append(stage, rows)

        def check(table: Table, staged: Snapshot) -> None:
            added = audit.added_rows(table, staged, head.snapshot.snapshot_id, VERSION_KEY)
            audit.check_count(added.num_rows, inserts + lowered.num_rows, "versions staged", VERSIONS)
            audit.check_unique(added, VERSION_KEY, VERSIONS)
            audit.check_deleted(head.snapshot, staged, lowered.num_rows, VERSIONS)

        records = head.offsets.records_to(self._batch.end)
        return self._plan(head, write, check, {"records": records, "redelivered": redelivered})

    # -- payments --------------------------------------------------------------------------------------------

    def plan_payments(self, head: Head) -> Plan | None:
        """Insert the payments of records that are alone, and bring those of all touched groups to the fold.

        A group (account and event time) holds every business key that any version of its events ever had.
        """
        if head.offsets.covers(self._batch.end):
            return None
        decided = self._decided_for(head)
        copies = self._from(self._valid, head)
        crowded = decided.decisions.num_rows - decided.decisions["becomes"].null_count
        changed = decided.count("change", INSERT, REPLACE)
        gone = decided.having("change", REPLACE, DELETE)
        added = self._count_from(head, True) - crowded + changed
        rows = self._payment_rows(copies, decided)

        def write(stage: Stage) -> None:
            self._delete(stage, gone, PAYMENT_KEY)
            append(stage, rows)

        def check(table: Table, staged: Snapshot) -> None:
            found = audit.added_rows(table, staged, head.snapshot.snapshot_id, PAYMENT_KEY)
            audit.check_count(found.num_rows, added, "payments staged", PAYMENTS)
            audit.check_unique(found, PAYMENT_KEY, PAYMENTS)
            audit.check_deleted(head.snapshot, staged, gone.num_rows, PAYMENTS)

        return self._plan(head, write, check, {"records": head.offsets.records_to(self._batch.end)})

    def _payment_rows(self, copies: DataFrame, decided: _Decided) -> DataFrame:
        """Build rows of payments: what they show is in the batch for nearly all, else in event_versions."""
        decisions = decided.decisions
        of_copies = self._frame(_prefixed(decisions.filter(pc.is_valid(decisions["becomes"]))))
        shown = copies.join(of_copies, _at(copies, of_copies), "left")
        rows = shown.where("new_change IS NULL OR new_change IN ('insert', 'replace')").select(
            *(_shown(c, alone_too=True) for c in _COLUMNS[PAYMENTS])
        )
        others = decided.having("change", INSERT, REPLACE)
        others = others.filter(pc.is_null(others["becomes"]))
        if not others.num_rows:
            return rows
        kept = self._frame(_prefixed(others))
        same = [F.col(c) == kept[f"new_{c}"] for c in VERSION_KEY]
        stored = self._table(VERSIONS, self._partitions_of(others)).join(kept, same)
        told = stored.select(*(_shown(c) for c in _COLUMNS[PAYMENTS]))
        return rows.unionByName(told.repartition(1))

    # -- quarantine ------------------------------------------------------------------------------------------

    def plan_quarantine(self, head: Head) -> Plan | None:
        """Append the records that break the contract, with every rule that they break."""
        if head.offsets.covers(self._batch.end):
            return None
        broken = self._from(self._broken, head)
        rows = broken.withColumn("state", F.lit("open")).select(*_COLUMNS[QUARANTINE])
        count = self._count_from(head, False)

        def write(stage: Stage) -> None:
            if count:
                append(stage, rows)
            else:
                append_nothing(stage, self._spark)

        def check(table: Table, staged: Snapshot) -> None:
            added = audit.added_rows(table, staged, head.snapshot.snapshot_id, _COORDINATES)
            audit.check_count(added.num_rows, count, "records staged", QUARANTINE)
            audit.check_unique(added, _COORDINATES, QUARANTINE)

        return self._plan(head, write, check, {"records": head.offsets.records_to(self._batch.end)})

    # -- shared ----------------------------------------------------------------------------------------------

    def _plan(self, head: Head, write: _Write, check: _Check, added: dict[str, int]) -> Plan:
        totals = {name: head.totals.get(name, 0) + count for name, count in added.items()}
        return Plan(
            write,
            check,
            progress=head.offsets.greatest(self._batch.end),
            contract_version=self._contract,
            source_snapshot=self._batch.consumed,
            complete_to=_latest(head.progress.complete_to, self._batch.complete_to),
            arrivals=self._arrivals,
            totals=totals,
        )

    def _survey(
        self, decoded: DataFrame
    ) -> tuple[list[Partition], tuple[Arrivals, ...], dict[bool, int], int]:
        """Find the touched partitions, how late records came, how many are valid and broken, the contract."""
        hour = F.floor(F.unix_micros("event_ts") / F.lit(3_600_000_000)).cast("long")
        delay = F.unix_millis("kafka_ts") - F.unix_millis("event_ts")
        bucket = F.expr(f"{CATALOG_NAME}.system.bucket({self._buckets}, account_id)")
        rows = (
            decoded.groupBy(F.col("violations").isNull().alias("is_valid"), hour.alias("hour"))
            .agg(
                F.count("*").alias("records"),
                F.max("contract_version").alias("contract_version"),
                F.collect_set(bucket).alias("buckets"),
                F.max(delay).alias("max_delay"),
                F.percentile_approx(delay, 0.99, 1000).alias("p99_delay"),
            )
            .collect()
        )
        valid = [row for row in rows if row["is_valid"]]
        count = {
            is_valid: sum(r["records"] for r in rows if r["is_valid"] is is_valid)
            for is_valid in (True, False)
        }
        partitions = [Partition(row["hour"], bucket) for row in valid for bucket in row["buckets"]]
        arrivals = tuple(Arrivals(r["hour"], r["records"], r["max_delay"], r["p99_delay"]) for r in valid)
        return partitions, arrivals, count, max(row["contract_version"] for row in rows)

    def _decided_for(self, payments: Head) -> _Decided:
        """Return the decisions that the versions were planned with, if they still hold; else decide anew."""
        versions = _head_beside(payments, VERSIONS)
        decided, stamp = self._decided, stamp_of(versions.snapshot)
        if (
            decided is not None
            and (decided.offsets, decided.payments) == (payments.offsets, payments.snapshot.snapshot_id)
            and stamp is not None
            and stamp.token == decided.token
        ):
            return decided
        return self._decide(payments, versions, payments)

    def _decide(self, consumed: Head, versions: Head, payments: Head) -> _Decided:
        stored = self._table(VERSIONS, self._partitions, versions.snapshot.snapshot_id)
        shown = self._table(PAYMENTS, self._partitions, payments.snapshot.snapshot_id)
        decisions = decide(self._from(self._valid, consumed), stored, shown, self._keep)
        return _Decided(decisions, consumed.offsets, payments.snapshot.snapshot_id)

    def _from(self, rows: DataFrame, head: Head) -> DataFrame:
        """Leave out what the table has consumed already; nothing, unless a crash came between the tables."""
        is_at_start = head.offsets == self._batch.start
        return rows if is_at_start else rows.where(between(head.offsets, self._batch.end))

    def _count_from(self, head: Head, is_valid: bool) -> int:
        if head.offsets == self._batch.start:
            return self._count[is_valid]
        return self._from(self._valid if is_valid else self._broken, head).count()

    def _table(self, name: str, partitions: Iterable[Partition], snapshot_id: int | None = None) -> DataFrame:
        """Read partitions of a table, at a snapshot or as it is now."""
        reader = self._spark.read.format("iceberg")
        if snapshot_id is not None:
            reader = reader.option("versionAsOf", snapshot_id)
        return reader.load(f"{CATALOG_NAME}.{name}").where(predicate(partitions, self._buckets))

    def _delete(self, stage: Stage, gone: pa.Table, key: tuple[str, ...]) -> None:
        """Stage the deletion of the rows that have these keys."""
        if not gone.num_rows:
            return
        view = f"gone_{stage.stamp.token}"
        self._frame(gone.select(list(key))).createOrReplaceTempView(view)
        same_key = " AND ".join(f"t.{c} <=> s.{c}" for c in key)
        touched = predicate(self._partitions_of(gone), self._buckets, "t")
        try:
            merge(stage, self._spark, f"{same_key} AND {touched} WHEN MATCHED THEN DELETE", view)
        finally:
            self._spark.catalog.dropTempView(view)

    def _partitions_of(self, rows: pa.Table) -> set[Partition]:
        columns = (rows["event_ts"].to_pylist(), rows["account_id"].to_pylist())
        return {partition_of(*row, self._buckets) for row in zip(*columns, strict=True)}

    def _frame(self, rows: pa.Table) -> DataFrame:
        """Bring rows to where they are joined; as data, so that the plan's code is the same each time."""
        return F.broadcast(self._spark.createDataFrame(rows).coalesce(1))


def _head_beside(head: Head, table: str) -> Head:
    return read_head(cast(RestCatalog, head.table.catalog), table)


def _at(copies: DataFrame, decided: DataFrame) -> list[Column]:
    return [copies[c] == decided[named] for c, named in zip(_COORDINATES, decided.columns, strict=False)]


def _prefixed(decisions: pa.Table) -> pa.Table:
    return decisions.rename_columns([f"new_{c}" for c in decisions.column_names])


def _shown(column: str, alone_too: bool = False) -> Column:
    """Take a column of a payment from its decision or, where none names the record, as of one alone."""
    if column not in STATE:
        return F.col(column)
    decided = F.col(f"new_{column}").alias(column)
    if not alone_too:
        return decided
    return F.when(F.col("new_change").isNull(), _lone(column)).otherwise(decided).alias(column)


def _lone(column: str) -> Column:
    if column == "event_ids":
        return F.array("event_id")
    if column not in {"status", "flags"}:
        return F.col(column)
    told = {status: getattr(payment, column) for status, payment in alone().items()}
    return F.coalesce(*(F.when(F.col("status") == status, _literal(value)) for status, value in told.items()))


def _literal(value: str | tuple[str, ...]) -> Column:
    return F.lit(value) if isinstance(value, str) else F.array(*map(F.lit, value)).cast("array<string>")


def _latest(*moments: datetime | None) -> datetime | None:
    return max((m for m in moments if m is not None), default=None)
