"""Payments as their transactions see them, random ones and too large ones.

Belongs here: drawing them. Does not: what they come to (`lakehouse/transactions.py`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal

from lakehouse.transactions import Part, TransactionKey
from tests.rows import Row

AMOUNTS = ["0", "0.0001", "1", "1", "2", "3", "999999999999999.9999"]


def payment(account: str, key: str, ref: str | None, rng: random.Random) -> Row:
    """A payment's columns that a transaction looks at. Few values, so that many are alike."""
    is_only_reversed = rng.random() < 0.25
    flags = ["ambiguous_reference"] * rng.randint(0, 1) + ["only_reversed"] * is_only_reversed
    return {
        "account_id": account,
        "transaction_ref": ref,
        "currency": rng.choice(["USD", "USD", "USD", "EUR"]),
        "business_key": key,
        "event_type": rng.choice(["AUTH", "AUTH", "CAPTURE", "CAPTURE", "REFUND", "CHARGEBACK"]),
        "amount": Decimal(rng.choice(AMOUNTS)),
        "status": "REVERSED" if is_only_reversed else rng.choice(["APPROVED"] * 4 + ["DECLINED", "REVERSED"]),
        "flags": flags,
    }


def random_payments(seed: int, accounts: int) -> Iterator[Row]:
    rng = random.Random(seed)
    for account in range(accounts):
        for number in range(rng.randint(1, 7)):
            ref = rng.choice([None, "T1", "T1", "T1", "T2"])
            yield payment(f"acct-{account}", f"key-{account}-{number}", ref, rng)


def part_of(row: Row) -> Part:
    alone = row["business_key"] if row["transaction_ref"] is None else None
    key = TransactionKey(row["account_id"], row["transaction_ref"], row["currency"], alone)
    return Part(key, row["event_type"], row["amount"], row["status"], "only_reversed" in row["flags"])


def too_much() -> list[Row]:
    """Two captures of one transaction, in a column that is too wide; each fits into the sum, both do not."""
    rng = random.Random(0)
    same = {"currency": "USD", "event_type": "CAPTURE", "status": "APPROVED", "flags": ["x"]}
    return [
        payment("acct", key, "T1", rng) | same | {"amount": Decimal("6e23") + each}
        for each, key in enumerate("ab")
    ]
