"""The curated side: versions, events and payments of whole partitions, and the money of payments that count.

Belongs here: folding partitions again and adding them up. Does not: the fold (`replay/expected.py`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.definitions import PAYMENTS, VERSIONS
from lakehouse.transactions import DECLINED
from quality.contract import REVERSED
from quality.reconciliation import EVENTS, PAYMENT_AMOUNTS, Account, Break
from quality.reconciliation import VERSIONS as VERSIONS_ADD_UP
from streaming.fold_groups import PAYMENT_KEY
from streaming.frames import Frames
from streaming.partitions import Partition, bucket_sql, hour_sql
from streaming.reconcile.places import hour_text
from streaming.replay.compare import collected, rows_that_differ
from streaming.replay.conflicts import Conflict, Conflicts
from streaming.replay.expected import payment_rows, without_retired
from streaming.replay.pinned import Pinned
from streaming.replay.report import Difference

# Payments that count; a transaction leaves out the others (docs/adr/0008).
COUNTS = f"status NOT IN ('{REVERSED}', '{DECLINED}')"
_MONEY = ("amount", "currency", "event_type", "status")
_MEMBERS = ("event_ids",)
_NAME = (*PAYMENT_KEY, "event_id", "account_id", "event_ts")
_TOLD, _WANTED, _THERE = "versions", "wanted", "there"
_ZERO = Decimal(0)


class _Unit(NamedTuple):
    """What was counted in some partitions, per partition, side and money's kind; and rows that differ."""

    sums: list[dict[str, Any]]
    found: list[Difference]


class PaymentAccounts:
    """The accounts of the curated side.

    `of_everything`: identity conflicts are searched for in any case, and else where a partition differs.
    """

    def __init__(self, pinned: Pinned, of_everything: bool) -> None:
        self._pinned = pinned
        self._conflicts = Conflicts.find(pinned) if of_everything else None
        self.versions = Account(VERSIONS_ADD_UP)
        self.events = Account(EVENTS)
        self.amounts = Account(PAYMENT_AMOUNTS)

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """Identity conflicts, whose groups are left out: the law holds outside them (docs/adr/0012)."""
        return self._conflicts.judged() if self._conflicts is not None else ()

    def add(self, unit: list[Partition]) -> None:
        """Add whole partitions."""
        counted = self._count(unit)
        if counted.found and self._conflicts is None:
            self._conflicts = Conflicts.find(self._pinned)
            if self._conflicts.found:
                counted = self._count(unit)
        self._add(counted)

    def _count(self, unit: list[Partition]) -> _Unit:
        tables = (self._pinned.read(table, unit) for table in (VERSIONS, PAYMENTS))
        versions, there = (self._conflicts.without(t) if self._conflicts else t for t in tables)
        with Frames() as keep:
            wanted = keep(payment_rows(without_retired(versions, self._pinned.retired[PAYMENTS])))
            told = versions.withColumn("event_ids", F.expr("CAST(NULL AS ARRAY<STRING>)"))
            sides = ((told, _TOLD), (wanted, _WANTED), (there, _THERE))
            labelled = [_labelled(rows, side, self._pinned.buckets) for rows, side in sides]
            rows = labelled[0].unionByName(labelled[1]).unionByName(labelled[2])
            differing = rows_that_differ(wanted, there, PAYMENT_KEY, (*_MEMBERS, *_MONEY), _NAME)
            return _Unit(_summed(rows), collected(PAYMENTS, differing))

    def _add(self, unit: _Unit) -> None:
        rows: dict[Partition, Counter[str]] = defaultdict(Counter)
        members: dict[Partition, Counter[str]] = defaultdict(Counter)
        amounts: dict[tuple[str, str], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        for row in unit.sums:
            partition = Partition(row["hour"], row["bucket"])
            rows[partition][row["side"]] += row["rows"]
            members[partition][row["side"]] += row["members"] or 0
            if row["side"] != _TOLD:
                amounts[row["currency"], row["event_type"]][row["side"]] += row["amount"] or _ZERO
        for partition in sorted(rows):
            place = {"hour": hour_text(partition.hour), "bucket": partition.bucket}
            count, of_members = rows[partition], members[partition]
            superseded = count[_TOLD] - of_members[_WANTED]
            self.versions.add(place, count[_TOLD], superseded, of_members[_THERE])
            duplicates = of_members[_WANTED] - count[_WANTED]
            self.events.add(place, of_members[_WANTED], count[_THERE], duplicates)
        for (currency, event_type), sums in amounts.items():
            kind = {"currency": currency, "event_type": event_type}
            self.amounts.add(kind, sums[_WANTED], sums[_THERE])
        for difference in unit.found:
            self._name(difference)

    def _name(self, found: Difference) -> None:
        columns = set(found.columns)
        said = f"{found.kind} in {found.table}" + (f" in {', '.join(found.columns)}" if columns else "")
        named = Break((found.row["event_ts"], found.row["business_key"]), said, found.row)
        for account, what in ((self.versions, _MEMBERS), (self.events, _MEMBERS), (self.amounts, _MONEY)):
            if not columns or columns & set(what):
                account.name(named)


def _labelled(rows: DataFrame, side: str, buckets: int) -> DataFrame:
    return rows.select(
        F.expr(hour_sql()).alias("hour"),
        F.expr(bucket_sql(buckets)).alias("bucket"),
        F.lit(side).alias("side"),
        "currency",
        "event_type",
        F.size("event_ids").alias("members"),
        F.when(F.expr(COUNTS), F.col("amount")).alias("amount"),
    )


def _summed(rows: DataFrame) -> list[dict[str, Any]]:
    grouped = rows.groupBy("hour", "bucket", "side", "currency", "event_type")
    sums = grouped.agg(
        F.count("*").alias("rows"), F.sum("members").alias("members"), F.sum("amount").alias("amount")
    )
    return [row.asDict() for row in sums.collect()]
