"""`replay verify`: every record of a range stands in the curated tables, and no row that raw does not say.

Belongs here: the order of the checks and where they stand. Does not: putting anything right (`apply.py`).

That event_versions is what raw says needs no global sort: each record's version must be there, told by no
later copy than the record; and each row must be just what the record at its own coordinates says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.content_hash import Sums
from lakehouse.definitions import BY_NAME, PAYMENTS, QUARANTINE, VERSIONS
from lakehouse.offsets import OffsetVector
from streaming.curated_job import CURATED_TABLES
from streaming.fold_groups import PAYMENT_KEY, VERSION_KEY
from streaming.frames import Frames
from streaming.partitions import Partition, predicate
from streaming.replay.compare import collected, rows_that_differ
from streaming.replay.conflicts import Conflict, Conflicts
from streaming.replay.expected import (
    ARRIVAL,
    COORDINATES,
    PAYMENT_COLUMNS,
    VERSION_COLUMNS,
    judged,
    payment_rows,
    valid,
    without_retired,
)
from streaming.replay.journal import Journal
from streaming.replay.pinned import Pinned, count_by_partition, pin, pinned_at, stored_sizes, units
from streaming.replay.quarantine import quarantine_differs, redrives_until
from streaming.replay.ranges import RawRange, range_of
from streaming.replay.report import Difference, Findings
from streaming.replay.scope import Scope
from streaming.replay.transactions import check_transactions
from streaming.table_sums import spark_sums

_VERSION_NAME = ("event_id", "content_hash", "account_id", "event_ts", *COORDINATES)
_PAYMENT_NAME = (*PAYMENT_KEY, "event_id", "account_id", "event_ts")
Report = Callable[[str, int, int], None]
"""Told the phase, what is done and the total of it."""
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True)
class ReplaySettings:
    """The tables' buckets, where journals are kept, and how much is read at once."""

    buckets: int
    folder: Path
    chunk_records: int = 100_000
    unit_rows: int = 200_000


@dataclass
class Verification:
    """How far a verification is, and what it found. It is done when nothing is left."""

    scope: Scope
    vector: OffsetVector
    snapshots: dict[str, int]
    range: RawRange
    read_to: OffsetVector
    records: int = 0
    payments: int = 0
    touched: set[Partition] = field(default_factory=set)
    folded: set[Partition] = field(default_factory=set)
    findings: Findings = field(default_factory=Findings)
    conflicts: tuple[Conflict, ...] = ()

    @property
    def is_equal(self) -> bool:
        """The tables are the fold of raw, as far as the scope goes."""
        return not self.findings and not any(conflict.is_open for conflict in self.conflicts)

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {
            "scope": str(self.scope),
            "equal": self.is_equal,
            "offsets": self.vector.topics,
            "snapshots": {name: str(snapshot) for name, snapshot in self.snapshots.items()},
            "records": self.records,
            "partitions": len(self.folded),
            "payments": self.payments,
            "differences": dict(self.findings.counts),
            "first": [difference._asdict() for difference in self.findings.first],
            "conflicts": [conflict.as_json() for conflict in self.conflicts],
            "remarks": list(self.range.remarks),
        }


class Verifier:
    """Verifies one scope against the tables as they stood when it began."""

    def __init__(
        self, catalog: RestCatalog, spark: SparkSession, settings: ReplaySettings, report: Report
    ) -> None:
        self._catalog = catalog
        self._spark = spark
        self._settings = settings
        self._report = report

    def run(self, scope: Scope, restart: bool = False) -> Verification:
        """Verify, going on where an earlier run of the same scope and code was interrupted."""
        journal = Journal(self._settings.folder, f"verify-{scope.digest}")
        state = None if restart else self._resume(scope, journal)
        state = state or self._begin(scope)
        with _tracer.start_as_current_span("replay.verify", attributes={"scope": str(scope)}):
            buckets = self._settings.buckets
            tables = {name: self._catalog.load_table(name) for name in state.snapshots}
            pinned = pinned_at(self._spark, tables, buckets, state.vector, state.snapshots)
            state.range = replace(state.range, remarks=(*state.range.remarks, *pinned.remarks))
            with Frames() as keep:  # raw is asked for redrives once, not for each chunk
                redriven = keep(redrives_until(self._spark, state.vector))
                self._check_records(state, pinned, journal, redriven)
            self._check_payments(state, pinned, journal)
            if scope.is_all:
                state.findings.add(check_transactions(self._catalog, self._spark, self._settings.buckets))
        journal.remove()
        _log.info("verified", scope=str(scope), equal=state.is_equal, records=state.records)
        return state

    # -- every record stands in event_versions or quarantine, and no row that no record says -----------------

    def _check_records(
        self, state: Verification, pinned: Pinned, journal: Journal, redriven: DataFrame
    ) -> None:
        total = state.range.records
        for chunk in state.range.after(state.read_to).chunks(self._settings.chunk_records):
            with Frames() as keep:
                decoded = keep(judged(self._spark, self._catalog, chunk))
                copies = without_retired(self._copies(decoded, state.scope), pinned.retired[VERSIONS])
                touched, broken = count_by_partition(decoded, self._settings.buckets)
                if state.scope.partitions:
                    touched = {p: touched[p] for p in state.scope.partitions if p in touched}
                state.touched |= touched.keys()
                state.findings.add(check_versions(copies, pinned, chunk, state.scope, touched))
                if not state.scope.partitions:
                    have = chunk.narrow(pinned.read(QUARANTINE))
                    state.findings.add(collected(QUARANTINE, quarantine_differs(decoded, have, redriven)))
                state.records += sum(touched.values()) + (0 if state.scope.partitions else broken)
            state.read_to = chunk.end
            journal.save(_saved(state))
            self._report("records", state.range.start.records_to(chunk.end), total)

    def _copies(self, decoded: DataFrame, scope: Scope) -> DataFrame:
        copies = valid(decoded)
        return (
            copies.where(predicate(scope.partitions, self._settings.buckets)) if scope.partitions else copies
        )

    # -- every touched partition of payments is the fold of its versions -------------------------------------

    def _check_payments(self, state: Verification, pinned: Pinned, journal: Journal) -> None:
        sizes = self._sizes(state)
        left = {partition: rows for partition, rows in sizes.items() if partition not in state.folded}
        conflicts = Conflicts.find(pinned) if state.scope.is_all else None
        for unit in units(left, self._settings.unit_rows):
            versions, have = pinned.read(VERSIONS, unit), pinned.read(PAYMENTS, unit)
            want = payment_rows(without_retired(versions, pinned.retired[PAYMENTS]))
            wanted, found = (spark_sums(rows, BY_NAME[PAYMENTS], pinned.buckets) for rows in (want, have))
            if differing := _differing(wanted, found):
                conflicts = conflicts or Conflicts.find(pinned)
                state.findings.add(self._differences(want, have, differing, conflicts))
            state.payments += sum(sums.rows for sums in found.values())
            state.folded |= set(unit)
            journal.save(_saved(state))
            self._report("partitions", len(state.folded), len(sizes))
        if conflicts is not None:
            state.conflicts = conflicts.judged()

    def _sizes(self, state: Verification) -> dict[Partition, int]:
        """Say how many rows are to be folded or compared in each partition, about."""
        sizes = dict.fromkeys({*state.touched, *state.scope.partitions}, 0)
        for table in (VERSIONS, PAYMENTS):
            stored = stored_sizes(self._catalog.load_table(table), state.snapshots[table])
            wanted = stored if state.scope.is_all else stored.keys() & sizes.keys()
            sizes |= {p: max(stored[p], sizes.get(p, 0)) for p in wanted}
        return sizes

    def _differences(
        self, want: DataFrame, have: DataFrame, partitions: set[Partition], conflicts: Conflicts
    ) -> Iterable[Difference]:
        here = predicate(partitions, self._settings.buckets)
        want, have = (conflicts.without(rows.where(here)) for rows in (want, have))
        found = rows_that_differ(want, have, PAYMENT_KEY, PAYMENT_COLUMNS, _PAYMENT_NAME)
        return collected(PAYMENTS, found)

    # -- where it stands -------------------------------------------------------------------------------------

    def _begin(self, scope: Scope) -> Verification:
        pinned = pin(self._spark, self._catalog, self._settings.buckets)
        found = range_of(self._spark, self._catalog, scope, pinned.vector)
        return Verification(scope, pinned.vector, dict(pinned.snapshots), found, found.start)

    def _resume(self, scope: Scope, journal: Journal) -> Verification | None:
        saved = journal.load()
        if saved is None:
            return None
        snapshots = {name: int(snapshot) for name, snapshot in saved["snapshots"].items()}
        for name in CURATED_TABLES:
            if self._catalog.load_table(name).snapshot_by_id(snapshots[name]) is None:
                return None  # expired meanwhile, or the table is another one
        vector = OffsetVector.from_json(saved["vector"])
        found = range_of(self._spark, self._catalog, scope, vector)
        return Verification(
            scope,
            vector,
            snapshots,
            found,
            OffsetVector.from_json(saved["read_to"]),
            saved["records"],
            saved["payments"],
            {Partition(*p) for p in saved["touched"]},
            {Partition(*p) for p in saved["folded"]},
            Findings.from_json(saved["findings"]),
        )


def check_versions(
    copies: DataFrame, pinned: Pinned, chunk: RawRange, scope: Scope, touched: Iterable[Partition]
) -> Iterator[Difference]:
    """Hold the valid records of a chunk against event_versions, from both sides."""
    known = pinned.read(VERSIONS, touched).select(*VERSION_KEY, F.struct(*ARRIVAL).alias("known"))
    stands = copies.join(known, list(VERSION_KEY), "left").withColumn(
        "kind",
        F.when(F.col("known").isNull(), "missing").when(F.struct(*ARRIVAL) < F.col("known"), "different"),
    )
    told_late = F.when(F.col("kind") == "different", F.array(F.lit("first_ingest_ts"))).otherwise(F.array())
    missing = stands.where("kind IS NOT NULL").select("kind", told_late.alias("columns"), *_VERSION_NAME)
    yield from collected(VERSIONS, missing)
    claimed = chunk.narrow(pinned.read(VERSIONS, scope.partitions or None))
    told = rows_that_differ(copies, claimed, COORDINATES, VERSION_COLUMNS, _VERSION_NAME)
    # a record whose row tells an earlier copy is no difference: that was looked at above
    yield from collected(VERSIONS, told.where("kind <> 'missing'"))


def _differing(wanted: dict[tuple[int, ...], Sums], found: dict[tuple[int, ...], Sums]) -> set[Partition]:
    return {
        Partition(*partition)
        for partition in wanted.keys() | found.keys()
        if wanted.get(partition) != found.get(partition)
    }


def _saved(state: Verification) -> dict[str, Any]:
    return {
        "vector": state.vector.to_json(),
        "snapshots": state.snapshots,
        "read_to": state.read_to.to_json(),
        "records": state.records,
        "payments": state.payments,
        "touched": sorted(state.touched),
        "folded": sorted(state.folded),
        "findings": state.findings.as_json(),
    }
