"""The fold by example: the design's table "Cases that decide", in every order of arrival, and more.

What holds for every history: `test_fold_laws.py`.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations

import pytest

from lakehouse.fold import Payment, fold
from tests.cases import CASES
from tests.events import copy, event_id

LATER = "2026-11-20T12:30:00Z"


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


@pytest.mark.parametrize(("first", "last"), [("100", "90"), ("90", "100")])
def test_without_revisions_the_content_that_came_last_wins(first: str, last: str) -> None:
    (payment,) = fold([copy("e1", minute=1, amount=last), copy("e1", amount=first)])
    assert total([payment]) == Decimal(last)
    (redelivered,) = fold(
        [copy("e1", minute=1, amount=last), copy("e1", amount=first), copy("e1", minute=2, amount=first)]
    )
    assert total([redelivered]) == Decimal(last), "a copy of what came first does not come later"


def test_of_equal_ingest_times_one_content_wins_whatever_the_order() -> None:
    copies = [copy("e1", amount=amount) for amount in ("100", "90", "80")]
    assert len({fold(order)[0].row.content_hash for order in permutations(copies)}) == 1


def test_a_decline_does_not_hide_an_approval() -> None:
    for declined, approved in permutations((0, 1)):
        copies = [copy("e1", minute=declined, status="DECLINED"), copy("e2", minute=approved)]
        (payment,) = fold(copies)
        assert (payment.status, payment.row.event_id) == ("APPROVED", event_id("e2"))
        corrected = copy("e1", minute=5, status="DECLINED", revision=1)
        assert fold([*copies, corrected])[0].status == "DECLINED", "a revision says more than the order"


def test_a_reversed_refund_that_goes_on_naming_its_capture_takes_back_itself() -> None:
    refund = {"event_type": "REFUND", "original": "e1", "amount": "40", "event_ts": LATER}
    copies = [copy("e1"), copy("e2", **refund), copy("e2", minute=1, status="REVERSED", **refund)]
    assert {(p.event_ids, p.status) for p in fold(copies)} == {
        ((event_id("e1"),), "APPROVED"),
        ((event_id("e2"),), "REVERSED"),
    }


def test_a_reversal_at_another_time_than_the_event_that_it_names_is_a_payment_of_its_own() -> None:
    payments = fold([copy("e1"), copy("e9", status="REVERSED", original="e1", event_ts=LATER)])
    assert {(p.event_ids, p.status, p.flags) for p in payments} == {
        ((event_id("e1"),), "APPROVED", ()),
        ((event_id("e9"),), "REVERSED", ("only_reversed",)),
    }


def test_a_payment_taken_back_by_a_notice_shows_the_notice_and_names_the_event() -> None:
    (payment,) = fold([copy("e9", status="REVERSED", original="e1"), copy("e1")])
    assert (payment.row.event_id, payment.event_ids) == (event_id("e9"), (event_id("e1"),))
