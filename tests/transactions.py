"""Random payments as their transactions see them. Belongs here: drawing them. Does not: what they come to."""

from __future__ import annotations

import random
from decimal import Decimal

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
