"""One batch on its way into the curated tables: decoded once, then a plan per table from that table's head.

Belongs here: which rows a publish inserts, merges or deletes, and what its audit checks.
Does not: the loop over batches (`curated_job.py`), the rules of the fold (`lakehouse/fold.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import audit
from lakehouse.changed_partitions import changed_partitions
from lakehouse.definitions import BY_NAME, PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.fold import Coordinates
from lakehouse.gates import Hold
from lakehouse.offsets import OffsetVector
from lakehouse.publish import Plan, Stage
from lakehouse.refs import Head, ancestry, read_head, stamp_of
from lakehouse.restaging import Attempts
from lakehouse.staged_rows import check_added
from lakehouse.staging import append, append_nothing, delete
from lakehouse.totals import REDELIVERED
from quality.policy import OFFSET_GAP
from quality.surge import Source, Tally
from streaming.decisions import COPY, DELETE, INSERT, LOWER, RECORD, REPLACE, decide
from streaming.decode import decode
from streaming.fold_groups import PAYMENT_KEY, VERSION_KEY
from streaming.frames import Frames, few, read_table
from streaming.holds import with_holds
from streaming.partitions import Partition, partition_of, predicate, start_of
from streaming.payment_rows import same_record, told_by_copies, told_by_versions
from streaming.raw_reader import RawBatch, between, read_batch
from streaming.redrive.state import brought_on, in_hours_of, redrives, with_state
from streaming.survey import survey, tally_by_source

# Each task writes a file in every partition that it has rows of, and every later batch has to read them.
_ROWS_PER_TASK = 100_000
_COLUMNS = {name: [c.name for c in table.columns] for name, table in BY_NAME.items()}
_Write = Callable[[Stage], None]
_Check = Callable[[Table, Snapshot], None]


@dataclass
class _Decided:
    """Decisions, what the tables were that they are right for, and the attempts to publish what they say.

    `token` is that of the stage on which event_versions were brought to them last.
    """

    decisions: pa.Table
    offsets: OffsetVector
    versions: Head
    payments: Head
    attempts: dict[str, Attempts]
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
        with ExitStack() as undo:
            undo.enter_context(self._keep)
            self._decoded = self._keep(decode(read_batch(self._spark, self._batch)))
            self._take(self._decoded)
            found = self._found.valid + self._found.broken
            audit.check_count(found, self._batch.records, "records read", RAW, OFFSET_GAP)
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keep.__exit__(kind, error, trace)

    def tally(self) -> dict[Source, Tally]:
        """Count each partner's records as the contract judged them."""
        return tally_by_source(self._decoded)

    def hold(self, holds: tuple[Hold, ...]) -> None:
        """Quarantine what is held; call it before the first plan is made."""
        if holds:
            self._take(with_holds(self._decoded, holds))

    def broken_ones(self, count: int = 3) -> list[str]:
        """Name the first few records that break the contract: where they stand, and the first rule."""
        rows = self._broken.select(*Coordinates._fields, "violations").limit(count).collect()
        return [f"{r[0]}-{r[1]}@{r[2]} {r[3][0]['rule']} {r[3][0]['field']}".rstrip() for r in rows]

    def _take(self, judged: DataFrame) -> None:
        self._valid = judged.where("violations IS NULL").withColumnRenamed("ingest_ts", "first_ingest_ts")
        self._broken = judged.where("violations IS NOT NULL")
        self._found = survey(judged, self._buckets)

    # -- event_versions --------------------------------------------------------------------------------------

    def plan_versions(self, head: Head) -> Plan | None:
        """Insert the versions that the table does not have, lower the earliest copy of those it has."""
        if head.offsets.covers(self._batch.end):
            return None
        # The same decisions say what becomes of payments, unless somebody publishes in between.
        payments = _head_beside(head, PAYMENTS)
        decided = self._decided_at(head, head, payments)
        copies, count = self._copies(head)
        lowered = decided.having("becomes", LOWER)
        redelivered = decided.count("becomes", COPY, LOWER)
        inserts = count - redelivered
        nothing = few(self._spark, decided.having("becomes", COPY).select(list(RECORD)))
        rows = copies.join(nothing, same_record(copies, nothing), "left_anti").select(*_COLUMNS[VERSIONS])

        def write(stage: Stage) -> None:
            self._delete(stage, lowered, VERSION_KEY)
            self._append(stage, rows, inserts)

        def check(table: Table, staged: Snapshot) -> None:
            check_added(table, staged, head, inserts + lowered.num_rows)
            audit.check_deleted(head.snapshot, staged, lowered.num_rows, VERSIONS)

        records = head.offsets.records_to(self._batch.end)
        plan = self._plan(head, write, check, {"records": records, REDELIVERED: redelivered})
        plan = decided.attempts[VERSIONS].plan(plan, head)

        def write_known(stage: Stage) -> None:
            decided.token = stage.stamp.token
            plan.write(stage)

        return replace(plan, write=write_known)

    # -- payments --------------------------------------------------------------------------------------------

    def plan_payments(self, head: Head) -> Plan | None:
        """Insert the payments of records that are alone, and bring those of all touched groups to the fold.

        A group (account and event time) holds every business key that any version of its events ever had.
        """
        if head.offsets.covers(self._batch.end):
            return None
        decided = self._decided_at(head, _head_beside(head, VERSIONS), head)
        copies, count = self._copies(head)
        crowded = decided.decisions.num_rows - decided.decisions["becomes"].null_count
        changed = decided.count("change", INSERT, REPLACE)
        gone = decided.having("change", REPLACE, DELETE)
        added = count - crowded + changed
        rows = self._payment_rows(copies, decided)

        def write(stage: Stage) -> None:
            self._delete(stage, gone, PAYMENT_KEY)
            self._append(stage, rows, added)

        def check(table: Table, staged: Snapshot) -> None:
            check_added(table, staged, head, added)
            audit.check_deleted(head.snapshot, staged, gone.num_rows, PAYMENTS)

        plan = self._plan(head, write, check, {"records": head.offsets.records_to(self._batch.end)})
        return decided.attempts[PAYMENTS].plan(plan, head)

    def _payment_rows(self, copies: DataFrame, decided: _Decided) -> DataFrame:
        """Build rows of payments: what they show is in the batch for nearly all, else in event_versions."""
        decisions = decided.decisions
        rows = told_by_copies(copies, few(self._spark, decisions.filter(pc.is_valid(decisions["becomes"]))))
        changed = decided.having("change", INSERT, REPLACE)
        others = changed.filter(pc.is_null(changed["becomes"]))
        if not others.num_rows:
            return rows
        versions = self._table(VERSIONS, self._partitions_of(others))
        return rows.unionByName(told_by_versions(versions, few(self._spark, others)))

    # -- quarantine ------------------------------------------------------------------------------------------

    def plan_quarantine(self, head: Head) -> Plan | None:
        """Append the records that break the contract, and bring on those that were redriven since."""
        if head.offsets.covers(self._batch.end):
            return None
        broken, count = self._from(self._broken, self._found.broken, head)
        found = self._redrives(head)
        changed = self._keep(brought_on(self._named_rows(head, found), found))
        change = changed.count() if self._found.redriven else 0
        columns = _COLUMNS[QUARANTINE]
        rows = with_state(broken, found).select(*columns).unionByName(changed.select(*columns))

        def write(stage: Stage) -> None:
            if change:
                delete(
                    stage,
                    changed.select(*Coordinates._fields),
                    Coordinates._fields,
                    in_hours_of(changed, "t"),
                )
            if count + change:
                append(stage, rows)
            else:
                append_nothing(stage, self._spark)

        def check(table: Table, staged: Snapshot) -> None:
            check_added(table, staged, head, count + change)
            audit.check_deleted(head.snapshot, staged, change, QUARANTINE)

        return self._plan(head, write, check, {"records": head.offsets.records_to(self._batch.end)})

    def _redrives(self, head: Head) -> DataFrame:
        """Find what stands for records of this batch, or does so in it: either of the two may come first."""
        if self._found.since is None:  # the batch has neither
            return redrives(read_table(self._spark, RAW).limit(0))
        consumed = between(OffsetVector(), head.offsets.greatest(self._batch.end))
        none_before = F.col("kafka_ts") >= F.lit(start_of(self._found.since))
        return self._keep(redrives(read_table(self._spark, RAW).where(consumed & none_before)))

    def _named_rows(self, head: Head, found: DataFrame) -> DataFrame:
        """Read the hours of quarantine that hold what is redriven in this batch; none where nothing is."""
        where = in_hours_of(found) if self._found.redriven else "false"
        return read_table(self._spark, QUARANTINE, head.snapshot.snapshot_id).where(where)

    # -- shared ----------------------------------------------------------------------------------------------

    def _plan(self, head: Head, write: _Write, check: _Check, added: dict[str, int]) -> Plan:
        totals = {name: head.totals.get(name, 0) + count for name, count in added.items()}
        return Plan(
            write,
            check,
            progress=head.offsets.greatest(self._batch.end),
            contract_version=self._found.contract_version,
            source_snapshot=self._batch.consumed,
            complete_to=_latest(head.progress.complete_to, self._batch.complete_to),
            arrivals=self._found.arrivals,
            totals=totals,
        )

    def _decided_at(self, consumed: Head, versions: Head, payments: Head) -> _Decided:
        """Return the decisions that were made before, as long as they hold; else decide anew.

        They hold while nobody touched the partitions of this batch but our own publish of event_versions. So
        an attempt that lost its race to a backfill of other hours, or to compaction, does not decide again.
        """
        decided = self._decided
        if (
            decided is None
            or decided.offsets != consumed.offsets
            or not self._is_untouched(_as_published(decided, versions), versions)
            or not self._is_untouched(decided.payments.snapshot, payments)
        ):
            decisions = self._decide(consumed, versions, payments)
            attempts = {table: Attempts(self._spark) for table in (VERSIONS, PAYMENTS)}
            decided = _Decided(decisions, consumed.offsets, versions, payments, attempts)
            self._decided = decided
        return decided

    def _is_untouched(self, before: Snapshot, after: Head) -> bool:
        """Tell whether the partitions of this batch hold the same files at both."""
        changed = changed_partitions(after.table, before, after.snapshot)
        return changed.isdisjoint(self._found.partitions)

    def _decide(self, consumed: Head, versions: Head, payments: Head) -> pa.Table:
        stored = self._table(VERSIONS, self._found.partitions, versions.snapshot.snapshot_id)
        shown = self._table(PAYMENTS, self._found.partitions, payments.snapshot.snapshot_id)
        return decide(self._copies(consumed)[0], stored, shown)

    def _copies(self, head: Head) -> tuple[DataFrame, int]:
        return self._from(self._valid, self._found.valid, head)

    def _from(self, rows: DataFrame, count: int, head: Head) -> tuple[DataFrame, int]:
        """Leave out what the table has consumed already: nothing, unless a crash came between the tables."""
        if head.offsets == self._batch.start:
            return rows, count
        new = rows.where(between(head.offsets, self._batch.end))
        return new, new.count()

    def _table(self, name: str, partitions: Iterable[Partition], snapshot_id: int | None = None) -> DataFrame:
        """Read partitions of a table, at a snapshot or as it is now."""
        return read_table(self._spark, name, snapshot_id).where(predicate(partitions, self._buckets))

    def _append(self, stage: Stage, rows: DataFrame, count: int) -> None:
        append(stage, rows.coalesce(1 + count // _ROWS_PER_TASK), len(self._found.partitions))

    def _delete(self, stage: Stage, gone: pa.Table, key: tuple[str, ...]) -> None:
        """Stage the deletion of the rows that have these keys."""
        if not gone.num_rows:
            return
        touched = predicate(self._partitions_of(gone), self._buckets, "t")
        delete(stage, few(self._spark, gone.select(list(key))), key, touched)

    def _partitions_of(self, rows: pa.Table) -> set[Partition]:
        columns = (rows["event_ts"].to_pylist(), rows["account_id"].to_pylist())
        return {partition_of(*row, self._buckets) for row in zip(*columns, strict=True)}


def _head_beside(head: Head, table: str) -> Head:
    return read_head(cast(RestCatalog, head.table.catalog), table)


def _as_published(decided: _Decided, versions: Head) -> Snapshot:
    """Find event_versions as our own publish left them, or else as they were when it was decided."""
    for snapshot in ancestry(versions.table.metadata, versions.snapshot):
        if snapshot.snapshot_id == decided.versions.snapshot.snapshot_id:
            break
        stamp = stamp_of(snapshot)
        if stamp is not None and stamp.token == decided.token:
            return snapshot
    return decided.versions.snapshot


def _latest(*moments: datetime | None) -> datetime | None:
    return max((m for m in moments if m is not None), default=None)
