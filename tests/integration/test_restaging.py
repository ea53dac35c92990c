"""An attempt that lost its race puts its files on the newer head: the same rows, none written twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot

from lakehouse import audit
from lakehouse.errors import AuditFailed
from lakehouse.publish import Plan, Publisher, Stage
from lakehouse.refs import Head
from lakehouse.restaging import Staged, stage_again
from lakehouse.staging import append, delete
from tests.lake import QUICK, Between, Lake, once, records

pytestmark = pytest.mark.integration


class Replacing:
    """Plans that delete keys and append others; from the second attempt on by the files of the first."""

    def __init__(self, lake: Lake, gone: list[int], come: list[int], between: Between) -> None:
        self._lake = lake
        self._gone, self._come = records(lake.spark, gone), records(lake.spark, come)
        self._between = between
        self.staged: list[Staged] = []
        self.again: list[bool] = []

    def __call__(self, head: Head) -> Plan | None:
        return Plan(self._write, self._check(head))

    def _write(self, stage: Stage) -> None:
        if self.staged:
            self.again.append(stage_again(stage, self._lake.spark, self.staged[0]))
            if self.again[-1]:
                return
        delete(stage, self._gone, ["k"])
        append(stage, self._come)

    def _check(self, head: Head) -> Callable[[IcebergTable, Snapshot], None]:
        def check(table: IcebergTable, staged: Snapshot) -> None:
            if self.again and self.again[-1]:
                self.staged[0].check(table, staged, head.snapshot)
            self.staged.append(Staged.of(table, staged, head.snapshot))
            self._between()

        return check


def test_the_files_of_a_lost_attempt_are_published_on_the_newer_head(lake: Lake) -> None:
    live = Publisher(lake.catalog, "live", QUICK)
    replacing = Replacing(lake, [1, 2], [50, 51], once(lambda: live.publish(lake.table, lake.consume(13))))
    published = lake.publisher("backfill").publish(lake.table, replacing)
    assert published is not None and published.attempts == 2
    assert replacing.again == [True]
    first, second = replacing.staged
    assert first.files == second.files and first.deletes == second.deletes == 2
    lake.check([0, *range(3, 13), 50, 51], 13)
    table = lake.load()
    assert set(audit.added_files(table, table.current_snapshot(), second.parent_id)) == first.files
    assert lake.spark.table(f"lake.{lake.table}").count() == 13, "Spark reads the same"


def test_rows_staged_again_are_kept_when_the_lost_snapshot_expires(lake: Lake) -> None:
    replacing = Replacing(lake, [1], [50], once(lambda: lake.others_publish(100)))
    lake.publisher("backfill").publish(lake.table, replacing)
    lake.expire()
    lake.check([0, *range(2, 10), 50, 100], 10)


def test_it_is_written_anew_where_the_lost_snapshot_is_gone(lake: Lake) -> None:
    def lose() -> None:
        lake.others_publish(100)
        for branch in lake.stages():
            lake.spark.sql(f"ALTER TABLE lake.{lake.table} DROP BRANCH {branch}")
        lake.expire()

    replacing = Replacing(lake, [1], [50], once(lose))
    published = lake.publisher("backfill").publish(lake.table, replacing)
    assert published is not None and published.attempts == 2
    assert replacing.again == [False]
    lake.check([0, *range(2, 10), 50, 100], 10)


def test_other_files_than_those_that_were_audited_are_refused(lake: Lake) -> None:
    replacing = Replacing(lake, [1], [50], lambda: None)
    lake.publisher("backfill").publish(lake.table, replacing)
    lake.others_publish(100)
    table = lake.load()
    (staged,) = replacing.staged
    parent = table.snapshot_by_id(staged.parent_id)
    now = table.current_snapshot()
    assert parent is not None and now is not None
    with pytest.raises(AuditFailed, match="files staged"):
        staged.check(table, now, parent)
