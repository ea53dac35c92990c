"""Transactions by example, in every order of processing. The laws they keep: test_transaction_laws.py."""

from __future__ import annotations

import decimal
from datetime import timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any, NamedTuple

import pytest

from lakehouse.definitions import BY_NAME, TRANSACTIONS
from lakehouse.errors import LakehouseError
from lakehouse.fold import Coordinates, Version, fold, record
from lakehouse.transactions import (
    Transaction,
    fold_parts,
    fold_transactions,
    part,
)
from quality.contract import HISTORY, Event
from quality.judge import judge
from tests.events import KAFKA_TS, TOPIC_ID, copy, wire

OWN_TS, LATER_TS, LAST_TS = (f"2026-11-20T12:{minute}:00Z" for minute in (30, 40, 50))
A_QUARTER = 90 * 24 * 60
NOTHING_VOIDED = ("voids_nothing",)


def told(kind: str, name: str = "", *, ref: str | None = "T1", minute: int = 0, **changes: Any) -> Version:
    """A record of transaction T1, by default one of a kind; judged when it was ingested."""
    data = wire(name or kind, minute=minute, event_type=kind, transaction_ref=ref, **changes)
    verdict = judge(data, KAFKA_TS + timedelta(minutes=minute), HISTORY[0])
    assert isinstance(verdict, Event), verdict
    return record(verdict, Coordinates(TOPIC_ID, 0, minute))


def auth(name: str = "auth", **changes: Any) -> Version:
    return told("AUTH", name, **changes)


def capture(name: str = "capture", **changes: Any) -> Version:
    return told("CAPTURE", name, **changes)


def refund(name: str = "refund", **changes: Any) -> Version:
    return told("REFUND", name, **changes)


def chargeback(name: str = "chargeback", **changes: Any) -> Version:
    return told("CHARGEBACK", name, **changes)


def undo(kind: str = "CAPTURE", name: str = "undo", *, minute: int = 1, **changes: Any) -> Version:
    """A reversal under an id and a time of its own."""
    return told(kind, name, minute=minute, **({"status": "REVERSED", "event_ts": OWN_TS} | changes))


def transact(copies: tuple[Version, ...] | list[Version]) -> list[Transaction]:
    return sorted(fold_transactions(fold(copies)), key=str)


class Row(NamedTuple):
    """What is expected of a row; its sums stand for authorised, captured, refunded, charged_back."""

    sums: tuple[int | str, int | str, int | str, int | str]
    status: str
    flags: tuple[str, ...] = ()


CASES: dict[str, tuple[list[Version], list[Row]]] = {
    "authorised": ([auth()], [Row((100, 0, 0, 0), "AUTHORISED")]),
    "a card is verified": ([auth(amount="0")], [Row((0, 0, 0, 0), "AUTHORISED")]),
    "captured": ([auth(), capture()], [Row((100, 100, 0, 0), "CAPTURED")]),
    "captured in parts": (
        [auth(), capture("c1", amount="33.33"), capture("c2", amount="66.67")],
        [Row((100, 100, 0, 0), "CAPTURED")],
    ),
    "partially refunded": (
        [auth(), capture(), refund(amount="0.01")],
        [Row((100, 100, "0.01", 0), "PARTIALLY_REFUNDED")],
    ),
    "refunded in parts": (
        [auth(), capture(), refund("r1", amount="40"), refund("r2", amount="60")],
        [Row((100, 100, 100, 0), "REFUNDED")],
    ),
    "charged back in part": (
        [auth(), capture(), chargeback(amount="10")],
        [Row((100, 100, 0, 10), "CHARGED_BACK")],
    ),
    "declined": ([auth(status="DECLINED")], [Row((0, 0, 0, 0), "DECLINED")]),
    "declined, then approved": (
        [auth("a1", status="DECLINED"), auth("a2", event_ts=OWN_TS)],
        [Row((100, 0, 0, 0), "AUTHORISED")],
    ),
    "a declined refund": (
        [auth(), capture(), refund(status="DECLINED")],
        [Row((100, 100, 0, 0), "CAPTURED")],
    ),
    # anomalies
    "no auth": ([capture()], [Row((0, 100, 0, 0), "CAPTURED", ("capture_without_auth",))]),
    "the auth was declined": (
        [auth(status="DECLINED"), capture()],
        [Row((0, 100, 0, 0), "CAPTURED", ("capture_without_auth",))],
    ),
    "captured too much": (
        [auth(), capture(amount="100.01")],
        [Row((100, "100.01", 0, 0), "CAPTURED", ("captured_more_than_authorised",))],
    ),
    "verified only, then captured": (
        [auth(amount="0"), capture()],
        [Row((0, 100, 0, 0), "CAPTURED", ("captured_more_than_authorised",))],
    ),
    "refunded too much": (
        [auth(), capture(), refund(amount="150")],
        [Row((100, 100, 150, 0), "REFUNDED", ("refunded_more_than_captured",))],
    ),
    "refunded what was never captured": (
        [refund()],
        [Row((0, 0, 100, 0), "REFUNDED", ("refunded_more_than_captured",))],
    ),
    "paid back twice": (
        [auth(), capture(), refund(), chargeback()],
        [Row((100, 100, 100, 100), "CHARGED_BACK", ("chargeback_after_refund",))],
    ),
    "charged back first, refunded later": (
        [auth(), capture(), chargeback(), refund(event_ts=LATER_TS)],
        [Row((100, 100, 100, 100), "CHARGED_BACK", ("chargeback_after_refund",))],
    ),
    "several, sorted": (
        [capture(), refund(amount="101"), chargeback(), undo("AUTH")],
        [
            Row(
                (0, 100, 101, 100),
                "CHARGED_BACK",
                (
                    "capture_without_auth",
                    "chargeback_after_refund",
                    "refunded_more_than_captured",
                    "voids_nothing",
                ),
            )
        ],
    ),
    # which payments belong together
    "two references": (
        [capture("c1", ref="T1"), capture("c2", ref="T2")],
        [Row((0, 100, 0, 0), "CAPTURED", ("capture_without_auth",))] * 2,
    ),
    "two currencies": (
        [auth(currency="EUR"), auth("usd")],
        [Row((100, 0, 0, 0), "AUTHORISED")] * 2,
    ),
    "two accounts": (
        [auth(account_id="acct-2"), auth("other")],
        [Row((100, 0, 0, 0), "AUTHORISED")] * 2,
    ),
    "without a reference each stands alone": (
        [auth("a1", ref=None), auth("a2", ref=None, event_ts=OWN_TS)],
        [Row((100, 0, 0, 0), "AUTHORISED")] * 2,
    ),
    "a payment resent under another id counts once": (
        [auth(), auth("again", minute=5), capture()],
        [Row((100, 100, 0, 0), "CAPTURED")],
    ),
    # the design's cases that decide
    "reversal under another id, same key and reference": (
        [capture(), capture("e9", minute=1, status="REVERSED")],
        [Row((0, 0, 0, 0), "VOIDED")],
    ),
    "reversal under another id, own event_ts": ([capture(), undo()], [Row((0, 0, 0, 0), "VOIDED")]),
    # voiding
    "the least of two is voided": (
        [auth(), capture("c1"), capture("c2", event_ts=LATER_TS), undo()],
        [Row((100, 100, 0, 0), "CAPTURED")],
    ),
    "two void two": (
        [auth(), capture("c1"), capture("c2", event_ts=LATER_TS), undo(), undo(name="u2", event_ts=LAST_TS)],
        [Row((100, 0, 0, 0), "AUTHORISED")],
    ),
    "one of two finds nothing": (
        [auth(), capture(), undo(), undo(name="u2", event_ts=LATER_TS)],
        [Row((100, 0, 0, 0), "AUTHORISED", NOTHING_VOIDED)],
    ),
    "a reversal sent twice under new ids voids once": (
        [auth(), capture("c1"), capture("c2", event_ts=LATER_TS), undo(), undo(name="u2", minute=2)],
        [Row((100, 100, 0, 0), "CAPTURED")],
    ),
    "another amount is not voided": (
        [auth(), capture(), undo(amount="99.99")],
        [Row((100, 100, 0, 0), "CAPTURED", NOTHING_VOIDED)],
    ),
    "another type is not voided": (
        [auth(), undo("CAPTURE")],
        [Row((100, 0, 0, 0), "AUTHORISED", NOTHING_VOIDED)],
    ),
    "a declined one is not voided": (
        [capture("c1", status="DECLINED"), capture("c2", event_ts=LATER_TS), auth(), undo()],
        [Row((100, 0, 0, 0), "AUTHORISED")],
    ),
    "declined, and a reversal of it": (
        [auth(status="DECLINED"), undo("AUTH")],
        [Row((0, 0, 0, 0), "VOIDED", NOTHING_VOIDED)],
    ),
    "a reversed one is not voided again": (
        [auth(), auth(minute=1, status="REVERSED"), undo("AUTH")],
        [Row((0, 0, 0, 0), "VOIDED", NOTHING_VOIDED)],
    ),
    "a reversal alone": ([undo()], [Row((0, 0, 0, 0), "VOIDED", NOTHING_VOIDED)]),
    "without a reference it finds nothing": (
        [capture(ref=None), undo(ref=None)],
        [
            Row((0, 0, 0, 0), "VOIDED", NOTHING_VOIDED),
            Row((0, 100, 0, 0), "CAPTURED", ("capture_without_auth",)),
        ],
    ),
    "it voids what the payment shows now": (
        [auth(), capture(), capture(minute=1, revision=1, amount="90"), undo(amount="90")],
        [Row((100, 0, 0, 0), "AUTHORISED")],
    ),
    # corrections, retractions, lost members
    "a capture is corrected": (
        [auth(), capture(), capture(minute=5, revision=1, amount="90")],
        [Row((100, 90, 0, 0), "CAPTURED")],
    ),
    "a refund is corrected to nothing": (
        [auth(), capture(), refund(), refund(minute=5, revision=1, amount="0")],
        [Row((100, 100, 0, 0), "CAPTURED")],
    ),
    "a capture alone is corrected to nothing": (
        [capture(), capture(minute=5, revision=1, amount="0")],
        [Row((0, 0, 0, 0), "VOIDED")],
    ),
    "a capture is reversed by its own id": (
        [auth(), capture(), capture(minute=5, status="REVERSED")],
        [Row((100, 0, 0, 0), "AUTHORISED")],
    ),
    "a notice": (
        [auth(), capture(), capture("e9", minute=5, status="REVERSED", original="capture")],
        [Row((100, 0, 0, 0), "AUTHORISED")],
    ),
    "the reversal is itself taken back": (
        [auth(), capture(), undo(revision=1), undo(revision=2, status="APPROVED", amount="0")],
        [Row((100, 100, 0, 0), "CAPTURED")],
    ),
    "reversed, then live again": (
        [auth(revision=1, status="REVERSED"), auth(minute=1, revision=2)],
        [Row((100, 0, 0, 0), "AUTHORISED")],
    ),
    "a payment moves to another transaction": (
        [auth(), capture(), capture(minute=5, revision=1, ref="T2")],
        [
            Row((0, 100, 0, 0), "CAPTURED", ("capture_without_auth",)),
            Row((100, 0, 0, 0), "AUTHORISED"),
        ],
    ),
    "the last payment moves away: no row is left": (
        [auth(), auth(minute=5, revision=1, ref="T2")],
        [Row((100, 0, 0, 0), "AUTHORISED")],
    ),
    "a reference comes with a revision": (
        [auth(), capture(ref=None), capture(minute=5, revision=1)],
        [Row((100, 100, 0, 0), "CAPTURED")],
    ),
    "a currency is corrected": (
        [auth(), capture(currency="EUR"), capture(minute=5, revision=1)],
        [Row((100, 100, 0, 0), "CAPTURED")],
    ),
    "a refund 90 days later": (
        [auth(), capture(), refund(minute=A_QUARTER, event_ts="2027-02-18T12:00:00Z")],
        [Row((100, 100, 100, 0), "REFUNDED")],
    ),
    "which is reversed a day after that": (
        [
            auth(),
            capture(),
            refund(minute=A_QUARTER, event_ts="2027-02-18T12:00:00Z"),
            undo("REFUND", minute=A_QUARTER + 1440, event_ts="2027-02-19T12:00:00Z"),
        ],
        [Row((100, 100, 0, 0), "CAPTURED")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_cases_in_every_order(name: str) -> None:
    copies, expected = CASES[name]
    results = {tuple(transact(order)) for order in permutations(copies)}
    assert len(results) == 1, "the order of processing must not matter"
    found = [(t[4:8], t.status, t.flags) for t in results.pop()]
    assert sorted(found) == sorted((tuple(map(Decimal, r.sums)), r.status, r.flags) for r in expected)


def test_a_row_has_the_columns_of_the_table() -> None:
    assert Transaction._fields == tuple(column.name for column in BY_NAME[TRANSACTIONS].columns)


def test_a_key_has_either_a_reference_or_a_business_key() -> None:
    alone, named = capture("e1", ref=None, amount="7"), capture("e2")
    keys = {t[:4] for t in transact([alone, named])}
    assert keys == {("acct-1", None, "USD", alone.business_key), ("acct-1", "T1", "USD", None)}


def test_among_equals_it_makes_no_difference_which_one_is_voided() -> None:
    twins = [capture("c1", merchant_id="shop-1"), capture("c2", merchant_id="shop-2")]
    (row,) = transact([*twins, undo(merchant_id="shop-3")])
    assert row.captured == 100
    moved = capture("c2", minute=9, merchant_id="shop-2", revision=1, ref="T2")
    assert [t.captured for t in transact([*twins, moved, undo(merchant_id="shop-3")])] == [0, 100]


def test_a_lost_event_leaves_no_trace() -> None:
    kept = [auth(), capture()]
    with_more = [*kept, refund(minute=5), refund(minute=6, revision=1, ref="T2")]
    assert transact(with_more)[0] == transact(kept)[0]


def test_sums_are_exact_and_have_the_columns_scale() -> None:
    huge, tiny = "999999999999999.99", "0.01"
    copies = [auth(), *(capture(f"c{i}", amount=huge, card_id=f"card-{i}") for i in range(9))]
    with decimal.localcontext(decimal.Context(prec=5)):  # a caller's context must not round
        (row,) = transact([*copies, refund(amount=tiny)])
    assert str(row.captured) == "8999999999999999.9100"
    assert str(row.net) == "8999999999999999.9000"
    assert str(row.charged_back) == "0.0000"


def test_a_sum_beyond_the_column_is_refused_rather_than_rounded() -> None:
    too_large = part(fold([capture()])[0])._replace(amount=Decimal("1e24"))
    one = too_large._replace(amount=Decimal("0.0001"))
    for parts in ([too_large, one], [too_large]):
        with pytest.raises(decimal.Rounded):
            fold_parts(parts)


def test_a_payment_without_its_content_is_refused() -> None:
    (payment,) = fold([copy("e1")._replace(event=None)])
    with pytest.raises(LakehouseError, match="does not carry its content"):
        fold_transactions([payment])
