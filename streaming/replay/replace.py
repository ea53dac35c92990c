"""Replacing whole groups of a curated table, in one publish: delete what stands there, append what should.

Belongs here: the plan of such a publish. Does not: which groups, or from where (`apply.py`, `repair.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.definitions import BY_NAME
from lakehouse.publish import Plan, Stage
from lakehouse.refs import Head
from lakehouse.restaging import Attempts
from lakehouse.staged_rows import check_added
from lakehouse.staging import append, delete
from streaming.fold_groups import GROUP
from streaming.frames import Frames
from streaming.partitions import Partition, predicate
from streaming.replay.compare import groups_that_differ
from streaming.replay.pinned import rows_by_hour

Totals = Callable[[Head, int], dict[str, int]]
"""Running counts after a publish that brings so many rows more (fewer, if negative)."""


@dataclass(frozen=True)
class Replacement:
    """A plan, and how many rows it appends and deletes; by event hour too, where its rows have one."""

    plan: Plan
    added: int
    removed: int
    added_in: Mapping[int, int] = field(default_factory=dict)
    removed_in: Mapping[int, int] = field(default_factory=dict)


@dataclass
class Difference:
    """The groups of some partitions that differ, the rows they should have, and counts by event hour."""

    groups: DataFrame
    added: DataFrame
    added_in: Counter[int]
    removed_in: Counter[int]
    attempts: Attempts  # to publish it


def difference_of(table: str, want: DataFrame, have: DataFrame, keep: Frames) -> Difference | None:
    """Find the groups in which a table's rows `have` differ from `want`; None where all agree."""
    definition = BY_NAME[table]
    columns = [column.name for column in definition.columns]
    groups = keep(groups_that_differ(want, have, definition))
    if groups.isEmpty():
        return None
    added = keep(want.join(F.broadcast(groups), list(GROUP), "left_semi").select(*columns))
    removed_in = rows_by_hour(have.join(F.broadcast(groups), list(GROUP), "left_semi"))
    return Difference(groups, added, rows_by_hour(added), removed_in, Attempts(added.sparkSession))


def replacement(
    head: Head,
    difference: Difference,
    partitions: Iterable[Partition],
    buckets: int,
    totals: Totals | None = None,
) -> Replacement:
    """Plan to put a difference right. Groups that agree are not written; the progress stays where it is.

    The partitions must be at `head` as they were when the difference was found, and when it was staged.
    """
    added, removed = difference.added_in.total(), difference.removed_in.total()
    touched = predicate(partitions, buckets, "t")

    def write(stage: Stage) -> None:
        if removed:
            delete(stage, difference.groups, GROUP, touched)
        append(stage, difference.added)

    def check(table: IcebergTable, staged: Snapshot) -> None:
        check_added(table, staged, head, added)

    plan = Plan(
        write,
        check,
        contract_version=head.progress.contract_version,
        totals=totals(head, added - removed) if totals else {},
    )
    return Replacement(
        difference.attempts.plan(plan, head), added, removed, difference.added_in, difference.removed_in
    )
