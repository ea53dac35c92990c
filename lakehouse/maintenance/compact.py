"""Compaction: few large sorted files instead of many small ones, deletes folded in, beside the live jobs.

Belongs here: the order of the steps, the audit, and giving way. Does not: which partitions are worth it
(`need.py`), Spark's rewriting (`rewrite.py`), the protocol (`lakehouse/publish.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import SparkSession

from lakehouse.arrivals_sql import CLOSED_AFTER
from lakehouse.changed_partitions import changed_partitions
from lakehouse.definitions import BY_NAME
from lakehouse.errors import AuditFailed, LostRace
from lakehouse.maintenance.measure import Figures, figures_of, usage_of
from lakehouse.maintenance.need import Cold, Limits, PartitionKey, Usage, choose, units
from lakehouse.maintenance.rewrite import rewrite_files
from lakehouse.patience import DEFAULT
from lakehouse.publish import Plan, Publisher, Stage
from lakehouse.refs import Head, read_head
from lakehouse.stored_hash import buckets_of, stored_sums
from lakehouse.turns import drop_abandoned, wait_for_turn

WRITER = "compact"
Report = Callable[[str, int, int], None]
"""Told how far the work on a table is: its name, what is done, what there is."""

_ABANDONED_SECONDS = 3600.0
# A rewrite that lost lets the others go first before it is tried again; after so many rounds it gives up.
_PATIENCE, _ROUNDS = replace(DEFAULT, attempts=2, failed_stages=2), 5
_HOUR = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True)
class CompactSettings:
    """What is compacted: from which need on, how long after an hour's end, how long after its last write."""

    limits: Limits = field(default_factory=Limits)
    closed_after: timedelta = CLOSED_AFTER
    quiet: timedelta = _HOUR


@dataclass(frozen=True)
class Compacted:
    """What became of one table.

    Args:
        chosen: partitions that were worth it.
        done: those of them that this run rewrote.
        commits: how many it took.
        overtaken: those that another one had rewritten, or written to, by the time it was their turn.
        lost: those whose rewrite was overtaken by other writers again and again, and is left to the next run.
    """

    table: str
    chosen: tuple[PartitionKey, ...]
    done: int
    commits: int
    overtaken: int
    lost: int
    before: Figures
    after: Figures

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {**asdict(self), "chosen": len(self.chosen)}


class Compactor:
    """Compacts one table after another; a second one beside it finds what the first has done."""

    def __init__(
        self,
        catalog: RestCatalog,
        spark: Callable[[], SparkSession],
        properties: Mapping[str, str],
        settings: CompactSettings,
        report: Report = lambda _table, _done, _total: None,
    ) -> None:
        """Take the ways to the tables.

        Args:
            spark: gives the session; asked only when there is something to rewrite.
            properties: pyiceberg's properties of the catalog, for the audit's own reader.
        """
        self._catalog = catalog
        self._spark = spark
        self._properties = properties
        self._settings = settings
        self._report = report
        self._publisher = Publisher(catalog, WRITER, _PATIENCE)

    def run(self, name: str, dry_run: bool = False) -> Compacted:
        """Compact a table's cold partitions, the neediest first, in few commits, each of which stays."""
        if not dry_run:
            drop_abandoned(self._catalog, name, WRITER, _ABANDONED_SECONDS)
        head = read_head(self._catalog, name)
        before, usages = figures_of(head.table), self._usages(head)
        chosen = self._chosen(head, usages)
        found = Compacted(name, tuple(chosen), 0, 0, 0, 0, before, before)
        if dry_run or not chosen:
            return found
        with _tracer.start_as_current_span("maintain.compact", attributes={"table": name}):
            found = self._rounds(found, list(units(chosen, usages, self._settings.limits.commit_bytes)))
        found = replace(found, after=figures_of(self._catalog.load_table(name)))
        _log.info("compacted", table=name, partitions=found.done, commits=found.commits, lost=found.lost)
        return found

    def _rounds(self, found: Compacted, pending: list[list[PartitionKey]]) -> Compacted:
        """Publish unit by unit; one that loses its races waits for the others to be done."""
        for _ in range(_ROUNDS):
            lost = []
            for unit in pending:
                wait_for_turn(self._catalog, found.table)
                rewritten: list[PartitionKey] = []
                try:
                    published = self._publisher.publish(found.table, self._plan(unit, rewritten))
                except LostRace:
                    lost.append(unit)
                    continue
                found = replace(
                    found,
                    done=found.done + len(rewritten),
                    commits=found.commits + (published is not None),
                    overtaken=found.overtaken + len(unit) - len(rewritten),
                )
                self._report(found.table, found.done + found.overtaken, len(found.chosen))
            pending = lost
        return replace(found, lost=sum(map(len, pending)))

    def _plan(self, unit: list[PartitionKey], rewritten: list[PartitionKey]) -> Callable[[Head], Plan | None]:
        """Plan to rewrite what of a unit still needs it at the head; `rewritten` says what that was."""

        def build(head: Head) -> Plan | None:
            wanted = set(unit)
            rewritten[:] = [k for k in self._chosen(head, self._usages(head)) if k in wanted]
            if not rewritten:
                return None
            definition, target = BY_NAME[head.name], self._settings.limits.target_bytes
            buckets = buckets_of(head.table.spec())

            def write(stage: Stage) -> None:
                rewrite_files(stage, self._spark(), definition, buckets, rewritten, target)

            return Plan(write, lambda table, staged: self._audit(head, table, staged, rewritten))

        return build

    def _usages(self, head: Head) -> dict[PartitionKey, Usage]:
        return usage_of(head.table, head.snapshot, self._settings.limits.target_bytes)

    def _chosen(self, head: Head, usages: Mapping[PartitionKey, Usage]) -> list[PartitionKey]:
        return choose(usages, self._settings.limits, self._is_cold(head))

    def _is_cold(self, head: Head) -> Callable[[PartitionKey, Usage], bool]:
        """Tell what is left alone by now. Where there are no hours nothing is: a rewrite takes its chance."""
        if BY_NAME[head.name].hour_of is None:
            return lambda _key, _usage: True
        complete_to = head.progress.complete_to
        closed = (
            None if complete_to is None else (complete_to - self._settings.closed_after - _EPOCH) // _HOUR
        )
        return Cold(closed, datetime.now(UTC) - self._settings.quiet).holds

    def _audit(
        self, head: Head, table: IcebergTable, staged: Snapshot, rewritten: Iterable[PartitionKey]
    ) -> None:
        """Check that every partition holds the rows that it held, and that no file of another one changed."""
        beyond = changed_partitions(table, head.snapshot, staged) - set(rewritten)
        if beyond:
            raise AuditFailed(f"table {head.name}: compaction changed files of {sorted(beyond)[:5]} too")
        hours = {key[0] for key in rewritten} if BY_NAME[head.name].hour_of else None
        before, after = (
            stored_sums(table, snapshot.snapshot_id, self._properties, hours=hours)
            for snapshot in (head.snapshot, staged)
        )
        differing = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        if differing:
            raise AuditFailed(
                f"table {head.name}: compaction would change the rows of {differing[:5]}",
                "nothing was published; `paywave hash --by-partition` says what the table holds",
            )
