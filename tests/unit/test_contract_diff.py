"""What another contract would make of a record: every kind of change, and none."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from quality.contract import HISTORY, Contract
from quality.contract_diff import Change, difference
from quality.judge import judge
from tests.events import KAFKA_TS, wire

OLD = HISTORY[0]
STRICT = Contract(9, OLD.effective_from, max_future=timedelta(hours=-2), more_than_zero=frozenset({"REFUND"}))
REFUND_OF_NOTHING = wire(event_type="REFUND", amount="0", currency="EUR")


def compared(data: bytes, before: Contract = OLD, after: Contract = STRICT) -> Change | None:
    return difference(judge(data, KAFKA_TS, before), judge(data, KAFKA_TS, after))


def test_verdicts_that_agree_are_no_change() -> None:
    assert compared(wire(), after=OLD) is None
    assert compared(b"{]") is None


def test_all_rules_that_reject_a_record_are_named() -> None:
    refused = Change("rejected", "future event_ts, range amount", "REFUND", "EUR", Decimal(0))
    assert compared(REFUND_OF_NOTHING) == refused
    assert compared(REFUND_OF_NOTHING, STRICT, OLD) == refused._replace(change="accepted")


def test_a_record_that_both_reject_may_break_other_rules() -> None:
    unknown = wire(currency="XXX")
    assert compared(unknown) == Change("other rules", "enum currency, future event_ts", None, None, None)


def test_other_content_of_an_accepted_record() -> None:
    one, other = (judge(wire(amount=amount), KAFKA_TS, OLD) for amount in ("1", "2"))
    assert difference(one, other) == Change("other content", "", "CAPTURE", "USD", Decimal(2))


@pytest.mark.parametrize("version", HISTORY, ids=lambda c: f"version {c.version}")
def test_a_contract_changes_nothing_against_itself(version: Contract) -> None:
    assert compared(REFUND_OF_NOTHING, version, version) is None
