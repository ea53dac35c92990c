"""Replacing whole groups of a curated table, in one publish: delete what stands there, append what should.

Belongs here: the plan of such a publish. Does not: which groups, or from where (`apply.py`, `repair.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.definitions import BY_NAME
from lakehouse.publish import Plan, Stage
from lakehouse.refs import Head
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


def replace_groups(
    head: Head,
    want: DataFrame,
    have: DataFrame,
    partitions: Iterable[Partition],
    buckets: int,
    keep: Frames,
    totals: Totals | None = None,
) -> Replacement | None:
    """Plan to bring partitions of a table to the rows `want`; None where they are that already.

    Groups that agree are not written. The table's progress stays where it is.

    Args:
        have: the rows of these partitions at the head.
    """
    definition = BY_NAME[head.name]
    columns = [column.name for column in definition.columns]
    groups = keep(groups_that_differ(want, have, definition))
    if groups.isEmpty():
        return None
    added = keep(want.join(F.broadcast(groups), list(GROUP), "left_semi").select(*columns))
    added_in = rows_by_hour(added)
    removed_in = rows_by_hour(have.join(F.broadcast(groups), list(GROUP), "left_semi"))
    count, removed = added_in.total(), removed_in.total()
    touched = predicate(partitions, buckets, "t")

    def write(stage: Stage) -> None:
        if removed:
            delete(stage, groups, GROUP, touched)
        append(stage, added)

    def check(table: IcebergTable, staged: Snapshot) -> None:
        check_added(table, staged, head, count)

    plan = Plan(
        write,
        check,
        contract_version=head.progress.contract_version,
        totals=totals(head, count - removed) if totals else {},
    )
    return Replacement(plan, count, removed, added_in, removed_in)
