"""One batch on its way into the curated tables: decoded once, then a plan per table from that table's head.

Belongs here: which rows a publish inserts, merges or deletes, and what its audit checks.
Does not: the loop over batches (`curated_job.py`), the rules of the fold (`lakehouse/fold.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import reduce
from types import TracebackType

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from lakehouse import audit
from lakehouse.arrivals import Arrivals
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import BY_NAME, PAYMENTS, QUARANTINE, VERSIONS
from lakehouse.publish import Plan, Stage
from lakehouse.refs import Head
from lakehouse.staging import append, append_nothing, merge
from streaming.decode import decode
from streaming.fold_groups import (
    EARLIEST_COPY,
    GROUP,
    PAYMENT_KEY,
    ROW_STATE,
    VERSION_KEY,
    fold_groups,
)
from streaming.partitions import Partition, predicate
from streaming.raw_reader import RawBatch, between, read_batch

_COORDINATES = ("topic_id", "partition", "offset")
_ARRIVAL = ("first_ingest_ts", *_COORDINATES)
_COLUMNS = {name: [c.name for c in table.columns] for name, table in BY_NAME.items()}
_CONTENT = [c for c in _COLUMNS[PAYMENTS] if c not in {*ROW_STATE, *PAYMENT_KEY, *GROUP}]
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
        self._partitions, self._arrivals, valid, broken, self._contract = self._survey(decoded)
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
        others = self._keep(self._others(head, copies))
        counts = _count_by(others, "becomes")
        lowers, inserts = counts.get("lower", 0), copies.count() - sum(counts.values())
        inserted = _without(copies, others, _COORDINATES).select(*_COLUMNS[VERSIONS])
        lower = others.where("becomes = 'lower'").select(*_COORDINATES)
        lowered = copies.join(F.broadcast(lower), list(_COORDINATES), "left_semi")

        def write(stage: Stage) -> None:
            append(stage, inserted)
            if lowers:
                sets = _sets((*EARLIEST_COPY, "kafka_ts"))
                self._merge(stage, lowered, VERSION_KEY, f"WHEN MATCHED THEN UPDATE SET {sets}")

        def check(table: Table, staged: Snapshot) -> None:
            rows = audit.added_rows(table, staged, head.snapshot.snapshot_id, VERSION_KEY)
            audit.check_count(rows.num_rows, inserts + lowers, "versions staged", VERSIONS)
            audit.check_unique(rows, VERSION_KEY, VERSIONS)

        records = head.offsets.records_to(self._batch.end)
        return self._plan(head, write, check, {"records": records, "redelivered": sum(counts.values())})

    def _others(self, head: Head, copies: DataFrame) -> DataFrame:
        """Find the copies that insert nothing: redeliveries (`copy`), and those that came first (`lower`).

        They are few; knowing them by their coordinates spares a shuffle of whole rows.
        """
        narrow = copies.select(*VERSION_KEY, *_ARRIVAL)
        known = (
            self._table(VERSIONS, head.snapshot.snapshot_id)
            .select(*VERSION_KEY, F.struct(*_ARRIVAL).alias("known"))
            .join(F.broadcast(narrow.select(*VERSION_KEY).distinct()), list(VERSION_KEY), "left_semi")
        )
        by_arrival = Window.partitionBy(*VERSION_KEY).orderBy(*_ARRIVAL)
        becomes = (
            F.when(F.row_number().over(by_arrival) > 1, "copy")
            .when(F.col("known").isNull(), None)
            .when(F.struct(*_ARRIVAL) < F.col("known"), "lower")
            .otherwise("copy")
        )
        ranked = narrow.join(F.broadcast(known), list(VERSION_KEY), "left").withColumn("becomes", becomes)
        return ranked.where("becomes IS NOT NULL").select(*_COORDINATES, "becomes")

    # -- payments --------------------------------------------------------------------------------------------

    def plan_payments(self, head: Head) -> Plan | None:
        """Fold anew every group of versions that the batch touches, and bring the table to what comes out.

        A group (account and event time) holds every business key that any version of its events ever had.
        """
        if head.offsets.covers(self._batch.end):
            return None
        touched = self._valid.where(between(head.offsets, self._batch.end)).select(*GROUP).distinct()
        folded = fold_groups(_having(self._table(VERSIONS), touched))
        known = _having(self._table(PAYMENTS, head.snapshot.snapshot_id), touched)
        changes = self._keep(_changes(known, folded))
        counts = _count_by(changes, "change")
        added = {change: counts.get(change, 0) for change in ("insert", "replace", "update")}
        content = self._content(changes.where("change IN ('insert', 'replace')"))
        filled = content.join(F.broadcast(changes), list(VERSION_KEY)).select(*_COLUMNS[PAYMENTS], "change")
        inserted = filled.where("change = 'insert'").drop("change")

        def write(stage: Stage) -> None:
            append(stage, inserted)
            if added["replace"]:
                actions = f"WHEN MATCHED THEN UPDATE SET {_sets((*ROW_STATE, *_CONTENT))}"
                self._merge(stage, filled.where("change = 'replace'"), PAYMENT_KEY, actions)
            if counts.keys() & {"update", "delete"}:
                actions = (
                    "WHEN MATCHED AND s.change = 'delete' THEN DELETE "
                    f"WHEN MATCHED THEN UPDATE SET {_sets(ROW_STATE)}"
                )
                rows = changes.where("change IN ('update', 'delete')")
                self._merge(stage, rows, PAYMENT_KEY, actions)

        def check(table: Table, staged: Snapshot) -> None:
            rows = audit.added_rows(table, staged, head.snapshot.snapshot_id, PAYMENT_KEY)
            audit.check_count(rows.num_rows, sum(added.values()), "payments staged", PAYMENTS)
            audit.check_unique(rows, PAYMENT_KEY, PAYMENTS)

        return self._plan(head, write, check, {"records": head.offsets.records_to(self._batch.end)})

    def _content(self, changes: DataFrame) -> DataFrame:
        """Fetch what the shown versions say: from the batch, where nearly all are, else from the table."""
        columns = [*VERSION_KEY, *GROUP, *_CONTENT]
        shown = changes.select(*VERSION_KEY).distinct()
        copies = self._valid.select(*VERSION_KEY, *_COORDINATES).join(F.broadcast(shown), list(VERSION_KEY))
        one_copy = copies.groupBy(*VERSION_KEY).agg(F.min(F.struct(*_COORDINATES)).alias("copy"))
        found = self._keep(one_copy.select(*VERSION_KEY, "copy.*"))
        in_batch = self._valid.join(F.broadcast(found.select(*_COORDINATES)), list(_COORDINATES), "left_semi")
        elsewhere = self._keep(_without(shown, found, VERSION_KEY))
        if elsewhere.isEmpty():
            return in_batch.select(*columns)
        stored = self._table(VERSIONS).join(F.broadcast(elsewhere), list(VERSION_KEY), "left_semi")
        return in_batch.select(*columns).unionByName(stored.select(*columns))

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

    def _survey(self, decoded: DataFrame) -> tuple[list[Partition], tuple[Arrivals, ...], int, int, int]:
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
        count = sum(row["records"] for row in valid)
        total = sum(row["records"] for row in rows)
        partitions = [Partition(row["hour"], bucket) for row in valid for bucket in row["buckets"]]
        arrivals = tuple(Arrivals(r["hour"], r["records"], r["max_delay"], r["p99_delay"]) for r in valid)
        return partitions, arrivals, count, total - count, max(row["contract_version"] for row in rows)

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

    def _keep(self, frame: DataFrame) -> DataFrame:
        frame.persist(StorageLevel.MEMORY_AND_DISK)
        self._kept.append(frame)
        return frame


def _changes(known: DataFrame, folded: DataFrame) -> DataFrame:
    """Compare the fold with the table, on narrow columns.

    `insert`: a new payment. `replace`: it shows another content. `update`: the same content, another state.
    `delete`: a payment that lost its members; such a row carries its key, and null everywhere else.
    """
    before = known.select(*(F.col(c).alias(f"known_{c}") for c in (*PAYMENT_KEY, *ROW_STATE)))
    same_key = _all(F.col(c).eqNullSafe(F.col(f"known_{c}")) for c in PAYMENT_KEY)
    change = (
        F.when(F.col("known_business_key").isNull(), "insert")
        .when(F.col("business_key").isNull(), "delete")
        .when(~_is_same(("content_hash", "event_id")), "replace")
        .when(~_is_same(ROW_STATE), "update")
    )
    key = {
        c: F.when(F.col("business_key").isNull(), F.col(f"known_{c}")).otherwise(F.col(c))
        for c in PAYMENT_KEY
    }
    compared = folded.join(before, same_key, "full_outer").withColumn("change", change)
    columns = (*PAYMENT_KEY, *ROW_STATE, "change")
    return compared.withColumns(key).select(*columns).where("change IS NOT NULL")


def _latest(*moments: datetime | None) -> datetime | None:
    return max((m for m in moments if m is not None), default=None)


def _is_same(columns: Iterable[str]) -> Column:
    return _all(F.col(c).eqNullSafe(F.col(f"known_{c}")) for c in columns)


def _having(rows: DataFrame, groups: DataFrame) -> DataFrame:
    """Keep the rows of these groups; the groups of a batch are few enough to send everywhere."""
    return rows.join(F.broadcast(groups), list(GROUP), "left_semi")


def _without(rows: DataFrame, others: DataFrame, key: tuple[str, ...]) -> DataFrame:
    return rows.join(F.broadcast(others.select(*key)), list(key), "left_anti")


def _count_by(rows: DataFrame, column: str) -> dict[str, int]:
    return {row[column]: row["count"] for row in rows.groupBy(column).count().collect()}


def _sets(columns: Iterable[str]) -> str:
    return ", ".join(f"t.{c} = s.{c}" for c in columns)


def _all(conditions: Iterable[Column]) -> Column:
    return reduce(lambda a, b: a & b, conditions)
