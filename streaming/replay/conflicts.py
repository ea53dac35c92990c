"""Identity conflicts: events that stand in two groups, and business keys that ended up in two partitions.

Belongs here: finding them, and folding them as the reference does. Does not: publishing that (`repair.py`).

The contract fixes an event's account and time, and the fold relies on it: it folds each (account_id,
event_ts) alone. An event that breaks this has versions in several groups, and only all of them together
come to what the reference says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StringType, StructField, StructType

from lakehouse.definitions import BY_NAME, PAYMENTS, VERSIONS
from lakehouse.fold import Payment, Version, fold_events, fold_payments
from streaming.fold_groups import DECIDING, GROUP, PAYMENT_KEY, VERSION_KEY
from streaming.partitions import Partition, bucket_sql, hour_sql
from streaming.replay.compare import groups_that_differ
from streaming.replay.expected import FOLDED, shown_rows, without_retired
from streaming.replay.pinned import Pinned
from streaming.replay.scope import written

_TEXT = StringType()
_FOLDED = StructType(
    [
        *(StructField(name, _TEXT) for name in (*VERSION_KEY, *PAYMENT_KEY, "status")),
        StructField("event_ids", ArrayType(_TEXT, False)),
        StructField("flags", ArrayType(_TEXT, False)),
    ]
)


class Group(NamedTuple):
    """A group that the fold takes alone, and the partition that it stands in."""

    account_id: str
    event_ts: datetime
    partition: Partition


@dataclass(frozen=True)
class Conflict:
    """One event or business key (`what`) that stands in several groups.

    It is open while payments do not hold what all of the groups together come to.
    """

    what: str
    name: str
    groups: tuple[Group, ...]
    is_open: bool = True

    def __str__(self) -> str:
        where = ", ".join(f"{written(g.partition)} ({g.account_id}, {g.event_ts})" for g in self.groups)
        return f"{'open' if self.is_open else 'repaired'}: {self.what} {self.name} in {where}"

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        partitions = [written(group.partition) for group in self.groups]
        return {"what": self.what, "name": self.name, "open": self.is_open, "partitions": partitions}


@dataclass(frozen=True)
class Conflicts:
    """All identity conflicts of the tables as they are pinned."""

    pinned: Pinned
    found: tuple[Conflict, ...]

    @classmethod
    def find(cls, pinned: Pinned) -> Conflicts:
        """Search both tables, on narrow columns: no partition alone can tell."""
        events = _in_several(pinned.read(VERSIONS), "event_id", pinned.buckets)
        keys = _in_several(pinned.read(PAYMENTS), "business_key", pinned.buckets)
        found = [_conflict("event_id", row) for row in events] + [_conflict("business_key", r) for r in keys]
        return cls(pinned, tuple(found))

    @property
    def partitions(self) -> set[Partition]:
        """The partitions that hold their groups."""
        return {group.partition for conflict in self.found for group in conflict.groups}

    @property
    def groups(self) -> DataFrame:
        """Their groups, as a frame of `GROUP`."""
        named = {(g.account_id, g.event_ts) for conflict in self.found for g in conflict.groups}
        return self.pinned.spark.createDataFrame(sorted(named), "account_id string, event_ts timestamp")

    def without(self, rows: DataFrame) -> DataFrame:
        """Leave out the rows of their groups."""
        return rows.join(F.broadcast(self.groups), list(GROUP), "left_anti") if self.found else rows

    def within(self, rows: DataFrame) -> DataFrame:
        """Keep the rows of their groups."""
        return rows.join(F.broadcast(self.groups), list(GROUP), "left_semi")

    def payments(self) -> DataFrame:
        """Fold all versions of their groups together: the rows of payments that must stand in these groups.

        A group is closed but for the events in conflict, so nothing beyond them has a part in it. They are
        few; the reference folds them in this process.
        """
        kept = without_retired(self.pinned.read(VERSIONS, self.partitions), self.pinned.retired[PAYMENTS])
        versions = self.within(kept)
        rows = arrow_rows(versions.select(*DECIDING))
        payments = fold_payments(fold_events(Version(**row) for row in rows))
        folded = [(p.row.event_id, p.row.content_hash, *_folded(p)) for p in payments]
        frame = self.pinned.spark.createDataFrame(folded, _FOLDED)
        return shown_rows(frame, versions)

    def judged(self) -> tuple[Conflict, ...]:
        """Tell which of them are open."""
        if not self.found:
            return ()
        have = self.within(self.pinned.read(PAYMENTS, self.partitions))
        wrong = arrow_rows(groups_that_differ(self.payments(), have, BY_NAME[PAYMENTS]))
        open_groups = {(row["account_id"], row["event_ts"]) for row in wrong}
        return tuple(
            replace(c, is_open=any((g.account_id, g.event_ts) in open_groups for g in c.groups))
            for c in self.found
        )


def _in_several(rows: DataFrame, name: str, buckets: int) -> list[dict[str, Any]]:
    """Find the ids that stand in more than one group, with these groups and their partitions."""
    group = F.struct(*GROUP)
    spread = rows.groupBy(name).agg(F.min(group).alias("first"), F.max(group).alias("last"))
    names = spread.where("first <> last").select(name).collect()
    if not names:
        return []
    few = rows.sparkSession.createDataFrame(names, f"{name} string")
    hour, bucket = F.expr(hour_sql()), F.expr(bucket_sql(buckets))
    placed = F.struct(*GROUP, hour.alias("hour"), bucket.alias("bucket"))
    return arrow_rows(
        rows.join(F.broadcast(few), [name], "left_semi")
        .groupBy(F.col(name).alias("name"))
        .agg(F.sort_array(F.collect_set(placed)).alias("groups"))
        .orderBy("name")
    )


def arrow_rows(frame: DataFrame) -> list[dict[str, Any]]:
    """Fetch rows with times in UTC: `collect` would give local times without a zone."""
    found: list[dict[str, Any]] = frame.toArrow().to_pylist()
    return found


def _folded(payment: Payment) -> tuple[Any, ...]:
    return tuple(getattr(payment, name) for name in FOLDED)


def _conflict(what: str, row: dict[str, Any]) -> Conflict:
    groups = (Group(g["account_id"], g["event_ts"], Partition(g["hour"], g["bucket"])) for g in row["groups"])
    return Conflict(what, row["name"], tuple(groups))
