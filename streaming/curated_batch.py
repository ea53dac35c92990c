"""One batch on its way into the curated tables: decoded once, then a plan per table from that table's head.

Belongs here: which rows a publish inserts, merges or deletes, and what its audit checks.
Does not: the loop over batches (`curated_job.py`), the rules of the fold (`spark_fold.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from types import TracebackType

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import audit
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import BY_NAME, PAYMENTS, QUARANTINE, VERSIONS
from lakehouse.publish import Plan, Stage
from lakehouse.refs import Head
from lakehouse.staging import append, append_nothing, merge
from streaming.decode import decode
from streaming.partitions import Partition, predicate
from streaming.raw_reader import RawBatch, between, read_batch
from streaming.spark_fold import (
    ARRIVAL,
    NARROW,
    PAYMENT_KEY,
    VERSION_KEY,
    fold_events,
    fold_payments,
    later_copies,
)

_COORDINATES = ("topic_id", "partition", "offset")
_COLUMNS = {name: [c.name for c in table.columns] for name, table in BY_NAME.items()}
_EARLIEST_COPY = ("source", "first_ingest_ts", "topic_id", "topic", "partition", "offset")
# Two rows of one payment that agree in these agree in all: the content hash stands for the content.
_ROW_STATE = ("event_id", "content_hash", "status", "event_ids", "flags", *_EARLIEST_COPY)
_Write = Callable[[Stage], None]
_Check = Callable[[Table, Snapshot], None]


class CuratedBatch:
    """A batch of raw, decoded once and kept until the last table has it; use as a context manager."""

    def __init__(self, spark: SparkSession, batch: RawBatch, buckets: int) -> None:
        self._spark = spark
        self._batch = batch
        self._buckets = buckets
        self._kept: list[DataFrame] = []

    def __enter__(self) -> CuratedBatch:
        decoded = self._keep(decode(read_batch(self._spark, self._batch)))
        self._valid = decoded.where("violations IS NULL").withColumnRenamed("ingest_ts", "first_ingest_ts")
        self._broken = decoded.where("violations IS NOT NULL")
        self._partitions, valid, broken, self._contract = self._survey(decoded)
        audit.check_count(valid + broken, self._batch.records, "records read", "raw")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for frame in self._kept:
            frame.unpersist()

    # -- event_versions --------------------------------------------------------------------------------------

    def plan_versions(self, head: Head) -> Plan | None:
        """Insert the versions that the table does not have, lower the earliest copy of those it has."""
        if head.offsets.covers(self._batch.end):
            return None
        copies = self._valid.where(between(head.offsets, self._batch.end))
        unique = self._without(copies, later_copies(copies), _COORDINATES)
        hits = self._keep(self._known_versions(head, unique))
        inserted = self._without(unique, hits, VERSION_KEY).select(*_COLUMNS[VERSIONS])
        lowered = self._lowered(unique, hits)
        inserts, lowers, valid = inserted.count(), lowered.count(), copies.count()

        def write(stage: Stage) -> None:
            append(stage, inserted)
            if lowers:
                sets = ", ".join(f"t.{c} = s.{c}" for c in _EARLIEST_COPY)
                self._merge(stage, lowered, VERSION_KEY, f"WHEN MATCHED THEN UPDATE SET {sets}")

        def check(table: Table, staged: Snapshot) -> None:
            rows = audit.added_rows(table, staged, head.snapshot.snapshot_id, VERSION_KEY)
            audit.check_count(rows.num_rows, inserts + lowers, "versions staged", VERSIONS)
            audit.check_unique(rows, VERSION_KEY, VERSIONS)

        totals = {
            "records": head.offsets.records_to(self._batch.end),
            "redelivered": valid - inserts,
        }
        return self._plan(head, write, check, totals)

    def _known_versions(self, head: Head, unique: DataFrame) -> DataFrame:
        """Find the versions of the batch that the table has, with the order of arrival of its copy."""
        known = self._table(VERSIONS, head.snapshot.snapshot_id).select(*VERSION_KEY, *ARRIVAL)
        return known.join(F.broadcast(unique.select(*VERSION_KEY)), list(VERSION_KEY), "left_semi")

    def _lowered(self, unique: DataFrame, hits: DataFrame) -> DataFrame:
        """Keep the batch's copies that arrived before the table's copy of the same version."""
        known = hits.select(*VERSION_KEY, F.struct(*ARRIVAL).alias("known_arrival"))
        matched = unique.join(F.broadcast(known), list(VERSION_KEY))
        return matched.where(F.struct(*ARRIVAL) < F.col("known_arrival"))

    # -- payments --------------------------------------------------------------------------------------------

    def plan_payments(self, head: Head) -> Plan | None:
        """Fold anew every business key that any version of a touched event ever had."""
        if head.offsets.covers(self._batch.end):
            return None
        touched = self._valid.where(between(head.offsets, self._batch.end)).select("event_id").distinct()
        versions = self._table(VERSIONS)
        keys = self._keep(_having(versions, touched, "event_id").select("business_key").distinct())
        folded = self._keep(self._fold(versions, keys))
        changes = self._keep(self._changes(self._table(PAYMENTS, head.snapshot.snapshot_id), folded, keys))
        counts = {row["change"]: row["count"] for row in changes.groupBy("change").count().collect()}
        inserted = changes.where("change = 'insert'").select(*_COLUMNS[PAYMENTS])
        merged = changes.where("change IN ('update', 'delete')")

        def write(stage: Stage) -> None:
            append(stage, inserted)
            if set(counts) & {"update", "delete"}:
                sets = ", ".join(f"t.{c} = s.{c}" for c in _COLUMNS[PAYMENTS])
                actions = (
                    f"WHEN MATCHED AND s.change = 'delete' THEN DELETE WHEN MATCHED THEN UPDATE SET {sets}"
                )
                self._merge(stage, merged, PAYMENT_KEY, actions)

        def check(table: Table, staged: Snapshot) -> None:
            rows = audit.added_rows(table, staged, head.snapshot.snapshot_id, PAYMENT_KEY)
            expected = counts.get("insert", 0) + counts.get("update", 0)
            audit.check_count(rows.num_rows, expected, "payments staged", PAYMENTS)
            audit.check_unique(rows, PAYMENT_KEY, PAYMENTS)

        return self._plan(head, write, check, {"records": head.offsets.records_to(self._batch.end)})

    def _fold(self, versions: DataFrame, keys: DataFrame) -> DataFrame:
        """Fold the payments of some business keys, from every version of every event that ever had one."""
        events = _having(versions, keys, "business_key").select("event_id").distinct()
        members = fold_events(_having(versions, events, "event_id").select(*NARROW))
        payments = fold_payments(_having(members, keys, "business_key"))
        shown = versions.drop("status", *PAYMENT_KEY)
        return payments.join(shown, list(VERSION_KEY)).select(*_COLUMNS[PAYMENTS])

    def _changes(self, table: DataFrame, folded: DataFrame, keys: DataFrame) -> DataFrame:
        """Compare the fold with the table: rows to insert, to update, and to delete (groups without members).

        A deleted row carries its key, and null everywhere else.
        """
        known = _having(table, keys, "business_key").select(
            *(F.col(c).alias(f"known_{c}") for c in (*PAYMENT_KEY, *_ROW_STATE))
        )
        same_key = (F.col("business_key") == F.col("known_business_key")) & F.col(
            "transaction_ref"
        ).eqNullSafe(F.col("known_transaction_ref"))
        is_same = _all(F.col(c).eqNullSafe(F.col(f"known_{c}")) for c in _ROW_STATE)
        change = (
            F.when(F.col("known_business_key").isNull(), "insert")
            .when(F.col("business_key").isNull(), "delete")
            .when(~is_same, "update")
        )
        keyed = {
            c: F.when(F.col("business_key").isNull(), F.col(f"known_{c}")).otherwise(F.col(c))
            for c in PAYMENT_KEY
        }
        compared = folded.join(known, same_key, "full_outer").withColumn("change", change)
        return compared.withColumns(keyed).select(*_COLUMNS[PAYMENTS], "change").where("change IS NOT NULL")

    # -- quarantine ------------------------------------------------------------------------------------------

    def plan_quarantine(self, head: Head) -> Plan | None:
        """Append the records that break the contract, with every rule that they break."""
        if head.offsets.covers(self._batch.end):
            return None
        broken = self._broken.where(between(head.offsets, self._batch.end))
        rows = broken.withColumn("state", F.lit("open")).select(*_COLUMNS[QUARANTINE])
        count = rows.count()

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
        totals = {name: head.progress.totals.get(name, 0) + count for name, count in added.items()}
        return Plan(
            write,
            check,
            progress=head.offsets.greatest(self._batch.end),
            contract_version=self._contract,
            source_snapshot=self._batch.until,
            totals=totals,
        )

    def _survey(self, decoded: DataFrame) -> tuple[list[Partition], int, int, int]:
        """Find the touched partitions, the valid and broken records, and the newest contract version."""
        hour = F.floor(F.unix_micros("event_ts") / F.lit(3_600_000_000)).cast("long")
        bucket = F.expr(f"{CATALOG_NAME}.system.bucket({self._buckets}, account_id)")
        rows = (
            decoded.groupBy(
                F.col("violations").isNull().alias("is_valid"), hour.alias("hour"), bucket.alias("bucket")
            )
            .agg(F.count("*").alias("records"), F.max("contract_version").alias("contract_version"))
            .collect()
        )
        valid = [row for row in rows if row["is_valid"]]
        count = sum(row["records"] for row in valid)
        total = sum(row["records"] for row in rows)
        partitions = [Partition(row["hour"], row["bucket"]) for row in valid]
        return partitions, count, total - count, max(row["contract_version"] for row in rows)

    def _table(self, name: str, snapshot_id: int | None = None) -> DataFrame:
        """Read the touched partitions of a table, at a snapshot or as it is now."""
        reader = self._spark.read.format("iceberg")
        if snapshot_id is not None:
            reader = reader.option("versionAsOf", snapshot_id)
        return reader.load(f"{CATALOG_NAME}.{name}").where(predicate(self._partitions, self._buckets))

    def _merge(self, stage: Stage, rows: DataFrame, key: tuple[str, ...], actions: str) -> None:
        view = f"merge_{stage.stamp.token}"
        rows.createOrReplaceTempView(view)
        same_key = " AND ".join(f"t.{c} <=> s.{c}" for c in key)
        touched = predicate(self._partitions, self._buckets, "t")
        try:
            merge(stage, self._spark, f"{same_key} AND {touched} {actions}", view)
        finally:
            self._spark.catalog.dropTempView(view)

    def _without(self, rows: DataFrame, others: DataFrame, key: tuple[str, ...]) -> DataFrame:
        return rows.join(F.broadcast(others.select(*key)), list(key), "left_anti")

    def _keep(self, frame: DataFrame) -> DataFrame:
        frame.persist(StorageLevel.MEMORY_AND_DISK)
        self._kept.append(frame)
        return frame


def _having(rows: DataFrame, keys: DataFrame, column: str) -> DataFrame:
    """Keep the rows whose column is among the keys; the keys of a batch are few enough to send everywhere."""
    return rows.join(F.broadcast(keys), column, "left_semi")


def _all(conditions: Iterable[Column]) -> Column:
    return reduce(lambda a, b: a & b, conditions)
