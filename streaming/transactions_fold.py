"""One fold of curated.transactions: what changed in payments since the last one, and the rows that follow.

Belongs here: which transactions are folded anew, and what a publish inserts, merges or deletes.
Does not: the rules (`lakehouse/transactions_sql.py`), when it runs (`transactions_job.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

import structlog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import audit
from lakehouse.changed_partitions import changed_partitions
from lakehouse.definitions import BY_NAME, PAYMENTS, TRANSACTIONS
from lakehouse.publish import Plan, Stage
from lakehouse.refs import Head, total_of
from lakehouse.staging import append, append_nothing, merge
from lakehouse.transactions_sql import READ, sql
from streaming.frames import read_table
from streaming.partitions import Partition, bucket_predicate, predicate

_COLUMNS = [column.name for column in BY_NAME[TRANSACTIONS].columns]
_KEY = BY_NAME[TRANSACTIONS].key
_STATE = [name for name in _COLUMNS if name not in _KEY]
# Names a transaction by columns that payments and transactions both have and that are never null. Were a
# reference to equal a business key, both transactions would be folded anew, and nothing would be wrong.
_NAME = ("account_id", "currency", "coalesce(transaction_ref, business_key) AS name")
_NAMES = ("account_id", "currency", "name")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Scope:
    """What to fold anew: the transactions of these names (None: all there are), in these buckets."""

    buckets: list[int]
    names: DataFrame | None


class TransactionsFold:
    """Brings the table from the payments that it was folded from to those of the head `payments`, once.

    Args:
        buckets: buckets of both tables.
        at_a_time: payments to fold at a time where all are folded.
        report: called with the buckets done and those that there are to do.
    """

    def __init__(
        self,
        spark: SparkSession,
        payments: Head,
        buckets: int,
        at_a_time: int,
        report: Callable[[int, int], None],
    ) -> None:
        self._spark = spark
        self._payments = payments
        self._buckets = buckets
        self._at_a_time = at_a_time
        self._report = report
        self.changed: Counter[str] = Counter()

    def plan(self, head: Head, everything: bool = False) -> Plan:
        """Fold what may differ and bring the table to what comes out; `everything`: whatever has changed."""

        def write(stage: Stage) -> None:
            scope = self._everything() if everything else self._since(head.progress.source_snapshot)
            with _released(scope.names):
                done = 0
                for portion in self._portions(scope):
                    self._write(stage, portion, scope.names)
                    done += len(portion)
                    self._report(done, len(scope.buckets))
            if not self.changed:
                append_nothing(stage, self._spark)

        def check(table: Table, staged: Snapshot) -> None:
            rows = audit.added_rows(table, staged, head.snapshot.snapshot_id, _KEY)
            written = self.changed["insert"] + self.changed["update"]
            audit.check_count(rows.num_rows, written, "transactions staged", TRANSACTIONS)
            audit.check_unique(rows, _KEY, TRANSACTIONS)

        source = self._payments.progress
        return Plan(
            write,
            check,
            progress=self._payments.offsets,
            contract_version=source.contract_version,
            source_snapshot=self._payments.snapshot.snapshot_id,
            complete_to=source.complete_to,
        )

    # -- what to fold anew -----------------------------------------------------------------------------------

    def _since(self, source: int | None) -> _Scope:
        """Find the transactions of which any payment is not what it was at the payments' snapshot `source`.

        Payments are compared, not the records that came: a replay or a repair changes them too.
        """
        table, now = self._payments.table, self._payments.snapshot
        before = None if source is None else table.snapshot_by_id(source)
        if before is None:
            reason = "first run" if source is None else f"payments no longer keep snapshot {source}"
            _log.info("folding every transaction anew", reason=reason)
            return self._everything()
        touched = [Partition(*values) for values in changed_partitions(table, before, now)]
        there = self._read(PAYMENTS, before, predicate(touched, self._buckets)).select(*READ)
        here = self._read(PAYMENTS, now, predicate(touched, self._buckets)).select(*READ)
        differing = (
            there.withColumn("times", F.lit(-1))
            .unionAll(here.withColumn("times", F.lit(1)))
            .groupBy(*READ)
            .agg(F.sum("times").alias("times"))
            .where("times <> 0")
        )
        names = differing.selectExpr(*_NAME).distinct().persist(StorageLevel.MEMORY_AND_DISK)
        _log.info("payments changed", partitions=len(touched), transactions=names.count())
        return _Scope(sorted({partition.bucket for partition in touched}), names)

    def _everything(self) -> _Scope:
        return _Scope(list(range(self._buckets)), None)

    def _portions(self, scope: _Scope) -> list[list[int]]:
        """Split the buckets so that Spark never holds all payments at once."""
        if scope.names is not None:
            return [scope.buckets] if scope.buckets else []
        rows = total_of(self._payments.snapshot, "records")
        step = max(1, len(scope.buckets) * self._at_a_time // max(1, rows))
        return [scope.buckets[i : i + step] for i in range(0, len(scope.buckets), step)]

    # -- what to write ---------------------------------------------------------------------------------------

    def _write(self, stage: Stage, buckets: list[int], names: DataFrame | None) -> None:
        changes = self._changes(stage.head, buckets, names).persist(StorageLevel.MEMORY_AND_DISK)
        with _released(changes):
            counts = {row["change"]: row["count"] for row in changes.groupBy("change").count().collect()}
            if counts.get("insert"):
                append(stage, changes.where("change = 'insert'").select(*_COLUMNS))
            if counts.keys() & {"update", "delete"}:
                self._merge(stage, changes.where("change <> 'insert'"), buckets)
        self.changed.update(counts)

    def _changes(self, head: Head, buckets: list[int], names: DataFrame | None) -> DataFrame:
        """Compare the fold with the table: rows to `insert`, to `update`, and to `delete` (key only)."""
        where = bucket_predicate(buckets, self._buckets)
        payments = _named(self._read(PAYMENTS, self._payments.snapshot, where).select(*READ), names)
        known = _named(self._read(TRANSACTIONS, head.snapshot, where), names)
        before = known.select(*(F.col(c).alias(f"known_{c}") for c in _COLUMNS))
        change = (
            F.when(F.col("known_account_id").isNull(), "insert")
            .when(F.col("account_id").isNull(), "delete")
            .when(~_same(_STATE), "update")
        )
        key = {c: F.when(F.col("account_id").isNull(), F.col(f"known_{c}")).otherwise(F.col(c)) for c in _KEY}
        compared = self._fold(payments).join(before, _same(_KEY), "full_outer").withColumn("change", change)
        return compared.withColumns(key).select(*_COLUMNS, "change").where("change IS NOT NULL")

    def _fold(self, payments: DataFrame) -> DataFrame:
        return self._spark.sql(sql("spark", "{payments}"), payments=payments)

    def _merge(self, stage: Stage, rows: DataFrame, buckets: list[int]) -> None:
        same_key = " AND ".join(f"t.{c} <=> s.{c}" for c in _KEY)
        sets = ", ".join(f"t.{c} = s.{c}" for c in _STATE)
        actions = f"WHEN MATCHED AND s.change = 'delete' THEN DELETE WHEN MATCHED THEN UPDATE SET {sets}"
        touched = bucket_predicate(buckets, self._buckets, "t")
        merge(stage, rows, f"{same_key} AND {touched} {actions}")

    def _read(self, table: str, snapshot: Snapshot, where: str) -> DataFrame:
        return read_table(self._spark, table, snapshot.snapshot_id).where(where)


def _named(rows: DataFrame, names: DataFrame | None) -> DataFrame:
    """Keep the rows of the transactions that are named; None keeps all."""
    if names is None:
        return rows
    return rows.selectExpr("*", _NAME[-1]).join(names, list(_NAMES), "left_semi").drop("name")


@contextmanager
def _released(frame: DataFrame | None) -> Iterator[None]:
    """Let go of a frame that is kept, however the block ends."""
    try:
        yield
    finally:
        if frame is not None:
            frame.unpersist()


def _same(columns: Iterable[str]) -> Column:
    return reduce(lambda a, b: a & b, (F.col(c).eqNullSafe(F.col(f"known_{c}")) for c in columns))
