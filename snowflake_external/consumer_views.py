"""What people and models read: views in Snowflake's SQL over the tables, one role and schema for each domain.

Belongs here: the queries and what their columns mean. Does not: policies, grants and names (`estate.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse.definitions import BY_NAME, PAYMENTS, TRANSACTIONS

_KAFKA = frozenset({"topic_id", "topic", "partition", "offset"})  # where a record was: nothing to readers


@dataclass(frozen=True)
class View:
    """One view. `query` names tables in braces, by their name without the namespace."""

    domain: str
    name: str
    meaning: str
    columns: tuple[tuple[str, str], ...]
    query: str

    def text(self, tables: Mapping[str, str]) -> str:
        """The query, with the tables' quoted names put in."""
        text = self.query
        for name, quoted in tables.items():
            text = text.replace(f"{{{name}}}", quoted)
        return text


def _meanings(table: str, *names: str) -> tuple[tuple[str, str], ...]:
    told = {column.name: column.meaning for column in BY_NAME[table].columns}
    return tuple((name, told[name]) for name in names)


_TIMELINE = View(
    "CUSTOMERS",
    "CUSTOMER_TIMELINE",
    "What happened on an account, payment by payment, and where its transaction stands. Both tables are "
    "refreshed by themselves: a transaction may be some seconds behind its payment.",
    (
        *_meanings(PAYMENTS, "account_id", "event_ts", "event_type", "amount", "currency", "network"),
        *_meanings(PAYMENTS, "merchant_id", "card_id", "status", "transaction_ref", "source", "flags"),
        ("transaction_status", "Where the transaction stands"),
        ("transaction_net", "captured - refunded - charged_back of the transaction"),
    ),
    """
    SELECT p.account_id, p.event_ts, p.event_type, p.amount, p.currency, p.network,
           p.merchant_id, p.card_id, p.status, p.transaction_ref, p.source, p.flags,
           t.status AS transaction_status, t.net AS transaction_net
    FROM {payments} AS p
    LEFT JOIN {transactions} AS t
      ON t.account_id = p.account_id AND t.currency = p.currency
     AND t.transaction_ref IS NOT DISTINCT FROM p.transaction_ref
     AND t.business_key IS NOT DISTINCT FROM IFF(p.transaction_ref IS NULL, p.business_key, NULL)
    """,
)

_FRAUD = View(
    "FRAUD",
    "FRAUD_FEATURES",
    "What models ask of an authorisation: what its account did in the 24 hours up to it.",
    (
        *_meanings(PAYMENTS, "business_key", "transaction_ref", "account_id", "card_id", "merchant_id"),
        *_meanings(PAYMENTS, "event_ts", "amount", "currency", "status", "source"),
        (
            "authorisations_24h",
            "Authorisations of the account in the 24 hours up to this one, itself too",
        ),
        ("declined_24h", "Those of them that were declined"),
        ("amount_24h", "Their sum in this one's currency"),
        ("merchants_known", "Authorisations of the account at this merchant before this one"),
        ("seconds_since_last", "Seconds since the account's last one; null for the first"),
    ),
    """
    SELECT business_key, transaction_ref, account_id, card_id, merchant_id,
           event_ts, amount, currency, status, source,
           COUNT(*) OVER (PARTITION BY account_id ORDER BY event_ts
               RANGE BETWEEN INTERVAL '24 hours' PRECEDING AND CURRENT ROW) AS authorisations_24h,
           SUM(IFF(status = 'DECLINED', 1, 0)) OVER (PARTITION BY account_id ORDER BY event_ts
               RANGE BETWEEN INTERVAL '24 hours' PRECEDING AND CURRENT ROW) AS declined_24h,
           SUM(amount) OVER (PARTITION BY account_id, currency ORDER BY event_ts
               RANGE BETWEEN INTERVAL '24 hours' PRECEDING AND CURRENT ROW) AS amount_24h,
           ROW_NUMBER() OVER (PARTITION BY account_id, merchant_id
               ORDER BY event_ts, business_key) - 1 AS merchants_known,
           DATEDIFF('second', LAG(event_ts) OVER (PARTITION BY account_id
               ORDER BY event_ts, business_key), event_ts) AS seconds_since_last
    FROM {payments}
    WHERE event_type = 'AUTH'
    """,
)

_SETTLEMENT = View(
    "SETTLEMENT",
    "DAILY_SETTLEMENT",
    "What is settled of a UTC day, per partner, network and currency: approved payments only.",
    (
        ("day", "UTC day of the events"),
        *_meanings(PAYMENTS, "source", "network", "currency"),
        ("payments", "Payments that count"),
        *_meanings(TRANSACTIONS, "captured", "refunded", "charged_back", "net"),
    ),
    """
    SELECT CAST(CONVERT_TIMEZONE('UTC', event_ts) AS DATE) AS day, source, network, currency,
           COUNT(*) AS payments,
           SUM(IFF(event_type = 'CAPTURE', amount, 0)) AS captured,
           SUM(IFF(event_type = 'REFUND', amount, 0)) AS refunded,
           SUM(IFF(event_type = 'CHARGEBACK', amount, 0)) AS charged_back,
           SUM(CASE event_type WHEN 'CAPTURE' THEN amount
               WHEN 'REFUND' THEN -amount WHEN 'CHARGEBACK' THEN -amount ELSE 0 END) AS net
    FROM {payments}
    WHERE status = 'APPROVED'
    GROUP BY 1, 2, 3, 4
    """,
)


def views() -> tuple[View, ...]:
    """All views. What payments have is in theirs: a column added there is added here."""
    return _payments(), _TIMELINE, _FRAUD, _SETTLEMENT


def _payments() -> View:
    table = BY_NAME[PAYMENTS]
    columns = [column.name for column in table.columns if column.name not in _KAFKA]
    return View(
        "PAYMENTS",
        "PAYMENTS",
        f"{table.meaning} As curated, without where the records stood in Kafka.",
        _meanings(PAYMENTS, *columns),
        f"SELECT {', '.join(columns)} FROM {{payments}}",  # noqa: S608  # names of lakehouse/definitions/
    )
