"""The sums of reconciliation: what balances, what is named, what is kept of places that differ."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.definitions import BY_NAME, RECONCILIATION
from lakehouse.offsets import OffsetVector
from quality.reconciliation import (
    RECORDS,
    SHOWN,
    VERSION_AMOUNTS,
    Account,
    Break,
    Gap,
    Run,
    gaps,
)
from streaming.reconcile.result import Reconciliation
from streaming.replay.scope import ALL

EUR, USD = ({"currency": c, "event_type": "CAPTURE"} for c in ("EUR", "USD"))
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_an_identity_balances_if_its_sides_are_equal_at_every_place() -> None:
    account = Account(RECORDS)
    account.add({"partition": 0}, 5, 1, 3, 1)
    assert account.is_balanced
    account.add({"partition": 1}, 5, 1, 2, 1)
    account.add({"partition": 2}, 3, 1, 2, 1)
    assert account.total.are_equal, "what one place lacks another has too many"
    assert not account.is_balanced
    assert [place for place, _ in account.differing.items()] == [(("partition", "1"),), (("partition", "2"),)]
    said = account.as_json()
    assert (said["left"], said["right"]) == (13, 13)
    assert said["terms"] == {"redelivered": 3, "versions": 7, "quarantined": 3}
    assert said["differs"][0]["left"] == 5


def test_a_row_that_is_named_breaks_an_identity_whose_sums_agree() -> None:
    account = Account(RECORDS)
    account.add({}, 2, 0, 2, 0)
    account.name(Break((7,), "later", {"offset": "7"}), 3)
    account.name(Break((5,), "first", {"offset": "5"}))
    assert not account.is_balanced
    assert account.breaks == 4
    assert account.as_json()["first"] == {"what": "first", "offset": "5"}


def test_only_places_that_differ_are_kept_and_amounts_per_currency() -> None:
    counts, amounts = Account(RECORDS), Account(VERSION_AMOUNTS)
    for hour in range(3 * SHOWN):
        counts.add({"hour": hour}, 1, 0, 1, 0)
        amounts.add(EUR, Decimal("0.1"), Decimal("0.1"))
    assert not counts.parts
    amounts.add(USD, Decimal(1), Decimal(2))
    said = amounts.as_json()
    assert [(p["currency"], p["left"], p["right"]) for p in said["parts"]] == [
        ("EUR", "6.0000", "6.0000"),
        ("USD", "1.0000", "2.0000"),
    ]
    assert [place["currency"] for place in said["differs"]] == ["USD"]
    assert "left" not in said, "amounts of two currencies are not added up"


def test_each_row_of_a_result_has_the_columns_of_the_table_and_a_key_of_its_own() -> None:
    counts, amounts, empty = Account(RECORDS), Account(VERSION_AMOUNTS), Account(VERSION_AMOUNTS)
    counts.add({}, 3, 1, 1, 1)
    amounts.add(EUR, Decimal(1), Decimal(1))
    amounts.add(USD, Decimal(1), Decimal(2))
    for accounts in ((counts, amounts), (counts, empty)):
        offsets = OffsetVector({"t": {0: 3}})
        rows = Reconciliation("r", NOON, "deep", ALL, accounts, {"raw": 7}, offsets).rows()
        table = BY_NAME[RECONCILIATION]
        assert all(list(row) == [column.name for column in table.columns] for row in rows)
        assert len({tuple(row[name] for name in table.key) for row in rows}) == len(rows)
        assert json.loads(rows[0]["terms"]) == {"redelivered": 1, "versions": 1, "quarantined": 1}
    states = Reconciliation("r", NOON, "deep", ALL, (amounts,), {}, OffsetVector()).rows()
    assert [(row["currency"], row["state"]) for row in states] == [("EUR", "balanced"), ("USD", "broken")]


@given(st.sets(st.integers(0, 30)), st.integers(0, 10), st.integers(0, 30))
def test_gaps_are_just_the_offsets_that_are_not_there(present: set[int], start: int, end: int) -> None:
    within = {offset for offset in present if start <= offset < end}
    missing = [n for gap in gaps(runs_of(within), start, end) for n in range(gap.first, gap.last + 1)]
    assert missing == [n for n in range(start, end) if n not in within]


def test_a_gap_is_of_the_hour_of_the_record_before_it() -> None:
    runs = [Run(2, 4, 10, 11), Run(7, 7, 12, 12)]
    assert gaps(runs, 0, 9) == [Gap(0, 1, 10), Gap(5, 6, 11), Gap(8, 8, 12)]
    assert gaps([], 0, 2) == [Gap(0, 1, None)]


def runs_of(offsets: set[int]) -> list[Run]:
    firsts = [n for n in sorted(offsets) if n - 1 not in offsets]
    lasts = [n for n in sorted(offsets) if n + 1 not in offsets]
    return [Run(first, last, 0, 0) for first, last in zip(firsts, lasts, strict=True)]
