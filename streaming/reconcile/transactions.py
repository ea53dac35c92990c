"""Transactions: one row for each that the payments come to, and their sums against the payments that count.

Belongs here: both accounts. Does not: what a transaction leaves out (docs/adr/0008): the rule is asked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.transactions import AUTH, CAPTURE, CHARGEBACK, REFUND
from quality.reconciliation import TRANSACTION_AMOUNTS, TRANSACTIONS, Account, Break
from streaming.partitions import bucket_sql
from streaming.reconcile.payments import COUNTS
from streaming.replay.report import Difference
from streaming.replay.transactions import Sides, differences

_COLUMN_OF = {AUTH: "authorised", CAPTURE: "captured", REFUND: "refunded", CHARGEBACK: "charged_back"}
_ZERO = Decimal(0)


class TransactionAccounts:
    """The accounts of transactions, which are of all hours: what belongs together may come months apart."""

    def __init__(self) -> None:
        self.rows = Account(TRANSACTIONS)
        self.amounts = Account(TRANSACTION_AMOUNTS)

    def add(self, both: Sides, buckets: int) -> None:
        """Add the table, and the payments that it was folded from."""
        want, have = (_summed(rows, buckets) for rows in (both.want, both.have))
        wanted, there = _rows(want), _rows(have)
        for bucket in sorted(wanted | there):
            self.rows.add({"bucket": bucket}, wanted[bucket], there[bucket])
        self._add_amounts(_that_count(both.payments), _amounts(want), _amounts(have))
        for difference in differences(both):
            self._name(difference)

    def _add_amounts(
        self,
        counting: dict[tuple[str, str], Decimal],
        want: dict[tuple[str, str], Decimal],
        have: dict[tuple[str, str], Decimal],
    ) -> None:
        for kind in sorted(counting.keys() | want.keys() | have.keys()):
            voided = counting.get(kind, _ZERO) - want.get(kind, _ZERO)
            place = dict(zip(("currency", "event_type"), kind, strict=True))
            self.amounts.add(place, counting.get(kind, _ZERO), have.get(kind, _ZERO), voided)

    def _name(self, found: Difference) -> None:
        columns = set(found.columns)
        said = f"{found.kind} in {found.table}" + (f" in {', '.join(found.columns)}" if columns else "")
        named = Break(tuple(found.row.values()), said, found.row)
        is_money = bool(columns & set(_COLUMN_OF.values()))
        for account in (self.amounts,) if is_money else (self.rows,):
            account.name(named)


def _summed(rows: DataFrame, buckets: int) -> list[dict[str, Any]]:
    sums = (F.sum(column).alias(column) for column in _COLUMN_OF.values())
    bucket = F.expr(bucket_sql(buckets)).alias("bucket")
    grouped = rows.groupBy(bucket, "currency").agg(F.count("*").alias("rows"), *sums)
    return [row.asDict() for row in grouped.collect()]


def _rows(summed: list[dict[str, Any]]) -> Counter[int]:
    found: Counter[int] = Counter()
    for row in summed:
        found[row["bucket"]] += row["rows"]
    return found


def _amounts(summed: list[dict[str, Any]]) -> dict[tuple[str, str], Decimal]:
    found: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for row in summed:
        for event_type, column in _COLUMN_OF.items():
            if row[column]:
                found[row["currency"], event_type] += row[column]
    return found


def _that_count(payments: DataFrame) -> dict[tuple[str, str], Decimal]:
    rows = payments.where(COUNTS).groupBy("currency", "event_type").agg(F.sum("amount").alias("amount"))
    return {(row["currency"], row["event_type"]): row["amount"] for row in rows.collect()}
