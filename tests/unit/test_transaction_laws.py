"""What holds for the transactions of any history, against a slower way to say the rule."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.fold import Version, fold
from lakehouse.transactions import STATUSES, Part, TransactionKey, fold_parts, fold_transactions, part
from tests.events import copy

# An event's time is fixed by contract; some share one, so that they meet in a business key.
_TIMES = {f"e{i}": f"2026-11-20T12:{i // 2}0:00Z" for i in range(5)}
_copies = st.sampled_from(list(_TIMES)).flatmap(
    lambda name: st.builds(
        copy,
        st.just(name),
        event_ts=st.just(_TIMES[name]),
        event_type=st.sampled_from(["AUTH", "CAPTURE", "CAPTURE", "REFUND", "CHARGEBACK"]),
        minute=st.integers(0, 3),
        amount=st.sampled_from(["100", "100", "90", "0"]),
        currency=st.sampled_from(["USD", "USD", "EUR"]),
        status=st.sampled_from(["APPROVED", "APPROVED", "REVERSED", "DECLINED"]),
        revision=st.sampled_from([None, 1, 2]),
        transaction_ref=st.sampled_from([None, "T1", "T1", "T2"]),
    )
)
_histories = st.lists(_copies, max_size=12)
# Parts drawn alone meet far more voiding than histories do.
_parts = st.lists(
    st.builds(
        lambda event_type, amount, status, is_only_reversed: Part(
            TransactionKey("acct-1", "T1", "USD", None),
            event_type,
            Decimal(amount),
            "REVERSED" if is_only_reversed else status,
            is_only_reversed,
        ),
        st.sampled_from(["AUTH", "CAPTURE"]),
        st.sampled_from(["1.0000", "2", "2.0000"]),
        st.sampled_from(["APPROVED", "APPROVED", "APPROVED", "DECLINED", "REVERSED"]),
        st.booleans(),
    ),
    max_size=12,
)


def voided_one_by_one(parts: list[Part], rng: random.Random) -> tuple[list[Part], bool]:
    """The rule as it is said: each voiding payment, in whatever order, takes one that it can, whichever."""
    counted = [p for p in parts if p.status == "APPROVED"]
    voiding = [p for p in parts if p.is_only_reversed]
    rng.shuffle(voiding)
    has_failed = False
    for each in voiding:
        alike = [p for p in counted if (p.event_type, p.amount) == (each.event_type, each.amount)]
        if alike:
            counted.remove(rng.choice(alike))
        has_failed = has_failed or not alike
    return counted, has_failed


def amount_of(parts: list[Part], kind: str) -> Decimal:
    return sum((p.amount for p in parts if p.event_type == kind), Decimal(0))


@given(_histories, st.randoms(use_true_random=False))
def test_any_order_and_redelivery_gives_the_same(copies: list[Version], rng: random.Random) -> None:
    again = copies + rng.choices(copies, k=3) if copies else []
    rng.shuffle(again)
    payments = fold(again)
    rng.shuffle(payments)
    assert sorted(fold_transactions(payments), key=str) == sorted(fold_transactions(fold(copies)), key=str)


@given(_histories)
def test_every_payment_is_in_exactly_one_transaction(copies: list[Version]) -> None:
    parts = [part(p) for p in fold(copies)]
    rows = fold_parts(parts)
    assert Counter(t[:4] for t in rows) == Counter({tuple(p.key) for p in parts})
    for row in rows:  # and one transaction can be folded without the others
        assert fold_parts(p for p in parts if tuple(p.key) == row[:4]) == [row]


@given(_histories, st.randoms(use_true_random=False))
def test_sums_conserve(copies: list[Version], rng: random.Random) -> None:
    parts = [part(p) for p in fold(copies)]
    rows = fold_parts(parts)
    counted = [
        left
        for key in {p.key for p in parts}
        for left in voided_one_by_one([p for p in parts if p.key == key], rng)[0]
    ]
    assert sum(t.authorised for t in rows) == amount_of(counted, "AUTH")
    assert sum(t.captured for t in rows) == amount_of(counted, "CAPTURE")
    assert sum(t.refunded for t in rows) == amount_of(counted, "REFUND")
    assert sum(t.charged_back for t in rows) == amount_of(counted, "CHARGEBACK")
    for row in rows:
        assert row.net == row.captured - row.refunded - row.charged_back
        assert row.status in STATUSES
        assert list(row.flags) == sorted(set(row.flags))


@given(_parts, st.randoms(use_true_random=False))
def test_voiding_is_what_each_would_do_alone_in_any_order(parts: list[Part], rng: random.Random) -> None:
    counted, has_failed = voided_one_by_one(parts, rng)
    rows = fold_parts(rng.sample(parts, k=len(parts)))
    for row in rows:
        assert row.authorised == amount_of(counted, "AUTH")
        assert row.captured == amount_of(counted, "CAPTURE")
        assert ("voids_nothing" in row.flags) == has_failed
        assert (row.status == "AUTHORISED") == (
            not row.captured and any(p.event_type == "AUTH" for p in counted)
        )
    assert len(rows) == bool(parts)
