"""Control totals of partners' files: what may be said, and what becomes of it in the books."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.offsets import OffsetVector
from quality.control_totals import ControlTotal, WrongTotals, read_totals, totals_from, totals_text
from streaming.dropzone.complete import BadSidecar, read_promise
from streaming.reconcile.files import FOLDED, NOWHERE, QUARANTINED, File, FileAccounts, FileLine, files_of

GOOD = {"currency": "EUR", "event_type": "CAPTURE", "count": 2, "amount": "129.90"}
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
EUR = ("EUR", "CAPTURE")
DAY = File(
    partner="bank",
    name="day.csv",
    sent_as="day.csv",
    version=1,
    digest="d",
    rows=3,
    events=2,
    accepted=2,
    rejected=1,
    received_at=NOON,
    offsets=OffsetVector({"t": {0: 3}}),
    totals=(ControlTotal(*EUR, 2, Decimal(10)),),
)
WELL = [FileLine(FOLDED, EUR, 2, Decimal("10.0000"), 2), FileLine(QUARANTINED, None, 1, None, 3)]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        [7],
        [{**GOOD, "sum": 1}],
        [{k: v for k, v in GOOD.items() if k != "count"}],
        [{**GOOD, "count": True}],
        [{**GOOD, "count": -1}],
        [{**GOOD, "amount": 129.9}],
        [{**GOOD, "amount": "1e3"}],
        [{**GOOD, "currency": "eur"}],
        [GOOD, {**GOOD, "count": 3}],
        [GOOD] * 1001,
    ],
)
def test_what_is_no_control_total_is_refused_and_the_file_waits(wrong: Any) -> None:
    with pytest.raises(WrongTotals):
        read_totals(wrong)
    with pytest.raises(BadSidecar):
        read_promise(".manifest.json", json.dumps({"rows": 2, "totals": wrong}).encode())


def test_a_manifest_may_say_totals_or_not() -> None:
    promise = read_promise(".manifest.json", json.dumps({"rows": 2, "totals": [GOOD]}).encode())
    assert promise.totals == (ControlTotal("EUR", "CAPTURE", 2, Decimal("129.90")),)
    assert read_promise(".manifest.json", b'{"rows": 2}').totals is None


_totals = st.builds(
    ControlTotal,
    st.sampled_from(["EUR", "USD", "JPY"]),
    st.sampled_from(["AUTH", "CAPTURE"]),
    st.integers(0, 10**9),
    st.decimals(Decimal(-(10**15)), Decimal(10**15), places=2),
)


@given(st.lists(_totals, unique_by=lambda total: total.kind))
def test_totals_come_back_from_the_ledger_as_they_were(said: list[ControlTotal]) -> None:
    assert list(totals_from(totals_text(said))) == sorted(said)


def added(file: File, found: list[FileLine], missing: int | None = None) -> FileAccounts:
    accounts = FileAccounts()
    accounts.add(file, found, missing)
    return accounts


def test_a_file_balances_if_all_of_it_stands_where_the_dropzone_said_and_comes_to_its_totals() -> None:
    accounts = added(DAY, WELL)
    assert all(account.is_balanced for account in vars(accounts).values())
    assert accounts.records.total.right == (2, 1)
    assert all(account.is_balanced for account in vars(added(replace(DAY, totals=None), WELL)).values())


def test_totals_that_disagree_name_the_file_and_the_first_line_that_is_in_quarantine() -> None:
    said = (ControlTotal(*EUR, 3, Decimal(15)),)
    accounts = added(replace(DAY, totals=said), WELL)
    assert accounts.records.is_balanced
    for account in (accounts.counts, accounts.amounts):
        assert account.first is not None
        row = account.first.row
        assert (row["partner"], row["file"], row["line"]) == ("bank", "day.csv", "3")
        assert (row["says"], row["folded"]) == ("15", "10.0000")
    only_money = added(replace(DAY, totals=(ControlTotal(*EUR, 2, Decimal(11)),)), WELL)
    assert only_money.counts.is_balanced
    assert not only_money.amounts.is_balanced
    unsaid = added(replace(DAY, totals=()), WELL)
    assert not unsaid.counts.is_balanced, "what a partner does not say and sends all the same is a difference"


def test_a_record_that_stands_nowhere_or_is_gone_names_its_line() -> None:
    lost = added(DAY, [WELL[0], FileLine(NOWHERE, None, 1, None, 3)])
    assert lost.records.first is not None
    assert lost.records.first.row["line"] == "3"
    gone = added(DAY, [WELL[0]], missing=4)
    assert gone.records.first is not None
    assert gone.records.first.row["line"] == "4"
    assert not added(replace(DAY, accepted=1), WELL).rows.is_balanced


def settled(name: str, digest: str, minute: int, state: str = "done", **more: Any) -> dict[str, Any]:
    counts = {"rows": 2, "events": 2, "accepted": 2, "rejected": 0, "totals": None}
    row = {"partner": "bank", "name": name, "digest": digest, "state": state, "seq": minute, "version": 1}
    moments = {"changed_at": NOON + timedelta(minutes=minute), "received_at": NOON}
    return {**row, **counts, **moments, "topic_id": "t", "offsets": '{"0": [4, 6]}', **more}


def test_of_each_name_the_newest_content_is_reconciled_and_what_was_last_said_of_it() -> None:
    rows = [
        settled("day.csv", "old", 1),
        settled("day.csv", "new", 2, version=2),
        settled("copy.csv", "new", 3, "repeated", totals=json.dumps([GOOD])),
        settled("other.csv", "x", 9),
    ]
    found = {file.name: file for file in files_of(rows, NOON + timedelta(minutes=9))}
    assert found.keys() == {"copy.csv"}
    copy = found["copy.csv"]
    assert (copy.sent_as, copy.digest) == ("day.csv", "new"), "its records carry the name of the first time"
    assert copy.totals is not None
    assert asdict(copy.totals[0])["count"] == 2
    assert copy.offsets == OffsetVector({"t": {0: 7}})
    assert len(files_of(rows, None)) == 2
