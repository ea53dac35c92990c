"""The fold by example: the design's table "Cases that decide", in every order of arrival; and by property."""

from __future__ import annotations

import random
from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.fold import Payment, Version, fold, fold_events, fold_versions
from tests.cases import CASES
from tests.events import copy


def total(payments: list[Payment]) -> Decimal:
    live = (p.row.event for p in payments if p.status != "REVERSED")
    return sum((event.amount for event in live if event is not None), Decimal(0))


@pytest.mark.parametrize("name", CASES)
def test_cases_that_decide(name: str) -> None:
    arrivals, amount, flags = CASES[name]
    copies = [copy(short, minute=minute, **changes) for short, minute, changes in arrivals]
    results = {tuple(sorted(fold(order), key=str)) for order in permutations(copies)}
    assert len(results) == 1, "the order of processing must not matter"
    payments = list(results.pop())
    assert total(payments) == amount
    assert {p.flags for p in payments} == flags


def test_redelivery_keeps_the_row() -> None:
    first, again = copy("e1"), copy("e1", minute=24 * 60)
    assert fold([first]) == fold([again, first])


def test_reference_less_event_joins_the_least_of_several() -> None:
    copies = [copy("e1", transaction_ref="T2"), copy("e2", transaction_ref="T1"), copy("e3", minute=-5)]
    by_ref = {p.transaction_ref: p for p in fold(copies)}
    assert len(by_ref["T1"].event_ids) == 2
    assert by_ref["T1"].flags == ("ambiguous_reference",)
    assert by_ref["T2"].flags == ()


_copies = st.builds(
    copy,
    st.sampled_from(["e1", "e2", "e3"]),
    minute=st.integers(0, 3),
    amount=st.sampled_from(["100", "90"]),
    status=st.sampled_from(["APPROVED", "REVERSED", "DECLINED"]),
    revision=st.sampled_from([None, 1, 2]),
    transaction_ref=st.sampled_from([None, "T1", "T2"]),
)


@given(st.lists(_copies, max_size=10), st.randoms(use_true_random=False))
def test_any_order_and_redelivery_gives_the_same(copies: list[Version], rng: random.Random) -> None:
    again = copies + rng.choices(copies, k=3) if copies else []
    rng.shuffle(again)
    assert sorted(fold(again), key=str) == sorted(fold(copies), key=str)


@given(st.lists(_copies, max_size=10), st.integers(0, 10))
def test_batches_of_versions_are_a_set(copies: list[Version], cut: int) -> None:
    in_two = fold_versions(fold_versions(copies[:cut]) + copies[cut:])
    assert set(in_two) == set(fold_versions(copies))


@given(st.lists(_copies, max_size=10))
def test_every_event_is_in_exactly_one_payment(copies: list[Version]) -> None:
    events = fold_events(fold_versions(copies))
    members = [event_id for payment in fold(copies) for event_id in payment.event_ids]
    assert sorted(members) == sorted(e.event_id for e in events)
