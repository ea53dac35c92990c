"""Transactions as one SELECT over payments, for any engine: the view, and what the job runs in Spark.

Belongs here: the rules of `transactions.py` in SQL, held to it by tests. Pure.
Does not: running it (`query.py`, `streaming/transactions_job.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lakehouse import transactions as rules
from lakehouse.fold import ONLY_REVERSED
from quality.contract import REVERSED

DialectName = Literal["spark", "duckdb"]
VIEW = "curated.transactions_now"
# What a transaction looks at in a payment: two tables that agree in these hold the same transactions.
READ = (
    "account_id",
    "transaction_ref",
    "currency",
    "business_key",
    "event_type",
    "amount",
    "status",
    "flags",
)
_SUM = "DECIMAL(28, 4)"
_COUNT = "DECIMAL(9, 0)"  # with an amount's 19 digits it stays exact in every engine's 38
_KEY = ", ".join(rules.TransactionKey._fields)


@dataclass(frozen=True)
class _Dialect:
    """What differs between engines, as templates. Both must fail where a number does not fit its type."""

    has: str
    without_nulls: str


_DIALECTS: dict[DialectName, _Dialect] = {
    "spark": _Dialect("array_contains({0}, {1})", "array_compact(array({0}))"),
    "duckdb": _Dialect("list_contains({0}, {1})", "list_filter([{0}], lambda f: f IS NOT NULL)"),
}


def sql(dialect: DialectName, source: str) -> str:
    """Write the SELECT of every transaction, in the columns of curated.transactions.

    Args:
        dialect: the engine; in Spark, its ANSI mode (the default) is what makes a sum too large an error.
        source: what stands after FROM: payments with the columns `READ`, all those of each transaction.
    """
    words = _DIALECTS[dialect]
    return f"""
WITH parts AS (
  SELECT account_id, transaction_ref, currency,
    CASE WHEN transaction_ref IS NULL THEN business_key END AS business_key,
    event_type, amount,
    CASE WHEN status IN ('{REVERSED}', '{rules.DECLINED}') THEN 0 ELSE 1 END AS live,
    CASE WHEN {words.has.format("flags", f"'{ONLY_REVERSED}'")} THEN 1 ELSE 0 END AS voiding,
    CASE WHEN status = '{rules.DECLINED}' THEN 1 ELSE 0 END AS declined
  FROM {source}
), kinds AS (
  SELECT {_KEY}, event_type, amount,
    CAST(greatest(sum(live) - sum(voiding), 0) AS {_COUNT}) AS counted,
    CASE WHEN sum(voiding) > sum(live) THEN 1 ELSE 0 END AS voids_nothing,
    min(declined) AS all_declined
  FROM parts
  GROUP BY {_KEY}, event_type, amount
), sums AS (
  SELECT {_KEY},
    {_sum_of(rules.AUTH)} AS authorised,
    {_sum_of(rules.CAPTURE)} AS captured,
    {_sum_of(rules.REFUND)} AS refunded,
    {_sum_of(rules.CHARGEBACK)} AS charged_back,
    max(CASE WHEN event_type = '{rules.AUTH}' AND counted > 0 THEN 1 ELSE 0 END) AS has_auth,
    max(voids_nothing) AS voids_nothing,
    min(all_declined) AS all_declined
  FROM kinds
  GROUP BY {_KEY}
)
SELECT {_KEY}, authorised, captured, refunded, charged_back,
  CAST(captured - refunded - charged_back AS {_SUM}) AS net,
  {_STATUS} AS status,
  {words.without_nulls.format(_FLAGS)} AS flags
FROM sums
""".strip()  # noqa: S608


def _sum_of(event_type: str) -> str:
    amount = f"CASE WHEN event_type = '{event_type}' THEN amount * counted ELSE 0 END"
    return f"CAST(sum({amount}) AS {_SUM})"


def _case(lines: tuple[tuple[str, str], ...], otherwise: str) -> str:
    whens = " ".join(f"WHEN {condition} THEN '{value}'" for condition, value in lines)
    return f"CASE {whens} ELSE '{otherwise}' END"


# The same lines in the same order as `transactions.status_of`, and in the docstring there.
_STATUS = _case(
    (
        ("charged_back > 0", rules.CHARGED_BACK),
        ("refunded > 0 AND refunded >= captured", rules.REFUNDED),
        ("refunded > 0", rules.PARTIALLY_REFUNDED),
        ("captured > 0", rules.CAPTURED),
        ("has_auth = 1", rules.AUTHORISED),
        ("all_declined = 1", rules.DECLINED),
    ),
    otherwise=rules.VOIDED,
)
# By name, so that the list comes out sorted.
_FLAGS = ", ".join(
    f"CASE WHEN {condition} THEN '{name}' END"
    for name, condition in sorted(
        {
            rules.CAPTURE_WITHOUT_AUTH: "captured > 0 AND has_auth = 0",
            rules.CAPTURED_MORE_THAN_AUTHORISED: "has_auth = 1 AND captured > authorised",
            rules.CHARGEBACK_AFTER_REFUND: "charged_back > 0 AND refunded > 0",
            rules.REFUNDED_MORE_THAN_CAPTURED: "refunded > captured",
            rules.VOIDS_NOTHING: "voids_nothing = 1",
        }.items()
    )
)
