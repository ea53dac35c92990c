"""Legal holds: which stand, what one may be called and cover, and what they do to the plan."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import HoldRefused, RetentionRefused
from lakehouse.holds import (
    PLACED,
    RELEASED,
    HeldDays,
    Hold,
    Scope,
    check_new,
    first_held_day,
    held_export,
    standing,
)
from lakehouse.maintenance.retention import Due
from lakehouse.retention_plan import (
    Export,
    curated_store,
    cut_of,
    exports_store,
    kafka_store,
    raw_store,
)

AT, LATER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 27, tzinfo=UTC)
ACCOUNT = Scope("acct-1")


def row(name: str, event: str, scope: Scope = ACCOUNT) -> dict[str, Any]:
    who = {"reason": "court", "approver": "bob", "actor": "me@here"}
    return {
        **who, "name": name, "event": event, "at": AT,
        "account_id": scope.account_id, "starts": scope.starts, "ends": scope.ends,
    }  # fmt: skip


HELD = HeldDays(Hold("case", ACCOUNT, "court", "bob", "me@here", AT), date(2024, 1, 5), date(2024, 1, 9), 12)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_a_hold_stands_from_its_placing_to_its_release(events: list[tuple[str, bool]]) -> None:
    rows = [row(name, PLACED if placed else RELEASED) for name, placed in events]
    last = dict(events)
    assert {hold.name for hold in standing(rows)} == {name for name, placed in last.items() if placed}


def test_a_hold_says_what_it_is() -> None:
    (hold,) = standing([row("case", PLACED, Scope("acct-1", AT, LATER))])
    assert hold.tag == "legal-hold-case"
    assert str(hold.scope) == f"account acct-1 from {AT.isoformat()} to {LATER.isoformat()}"
    assert hold.as_json()["approver"] == "bob"


@pytest.mark.parametrize(
    ("name", "scope", "said"),
    [
        ("Case", ACCOUNT, "lowercase"),
        ("", ACCOUNT, "lowercase"),
        ("a" * 64, ACCOUNT, "lowercase"),
        ("case", Scope(), "at least one"),
        ("case", Scope(None, LATER, AT), "end must come after"),
        ("case", Scope(None, AT, AT), "end must come after"),
        ("old", ACCOUNT, "another name"),
    ],
)
def test_a_hold_that_cannot_be_placed_is_refused(name: str, scope: Scope, said: str) -> None:
    with pytest.raises(HoldRefused) as refused:
        check_new(name, scope, [row("old", PLACED), row("old", RELEASED)])
    assert said in refused.value.hint


def test_a_name_and_half_a_time_are_enough() -> None:
    check_new("case-1", Scope(None, AT), [])
    check_new("case-1", Scope(None, None, AT), [row("other", PLACED)])


def test_a_hold_keeps_days_from_being_dropped_and_says_who_placed_it() -> None:
    due = Due(date(2024, 2, 1), holds=(HELD,))
    with pytest.raises(
        RetentionRefused, match=r"hold case .* keeps 12 records .* approved by bob"
    ) as refused:
        due.check()
    assert "before 2024-01-05" in refused.value.hint
    assert first_held_day(()) is None
    found = due.as_json()
    assert cut_of(None, found) == "2024-01-05" and cut_of(date(2024, 1, 1), found) == "2024-01-01"
    assert raw_store(found, 30).blocked == (
        "hold case keeps 12 records from 2024-01-05 on: court, approved by bob, placed by me@here",
    )


def test_the_plan_says_what_goes_of_raw() -> None:
    store = raw_store(Due(date(2024, 5, 27)).as_json(), 30)
    assert store.goes == "nothing" and not store.blocked
    behind = Due(date(2024, 5, 27), behind={"curated.payments": "lacks 3 records"})
    assert raw_store(behind.as_json(), 30).blocked == ("curated.payments lacks 3 records",)


@pytest.mark.parametrize(
    ("differs", "unread", "blocked"),
    [
        ([], 0, ()),
        (["retention.ms 1 -> 2"], 0, ("the topic differs: retention.ms 1 -> 2",)),
        ([], 7, ("7 records are not in raw yet",)),
        (None, None, ("Kafka does not answer",)),
    ],
)
def test_the_plan_says_what_goes_of_kafka(differs: Any, unread: Any, blocked: tuple[str, ...]) -> None:
    found = kafka_store("payments.events", 30, differs, unread).blocked
    assert len(found) == len(blocked)
    assert all(said.startswith(wanted) for said, wanted in zip(found, blocked, strict=True))


def test_an_export_is_never_old_before_its_years_are_over() -> None:
    exports = [
        Export("old", datetime(2019, 11, 26, 23, tzinfo=UTC)),
        Export("young", datetime(2019, 11, 27, tzinfo=UTC)),
        Export("undated", None),
    ]
    store = exports_store(exports, 7, NOW)
    assert store.goes == "1 of 3: old"
    assert store.blocked == ("undated: its manifest does not say when it was made",)
    assert exports_store([], 7, NOW).goes == "nothing, of 0"


@pytest.mark.parametrize(
    ("scope", "account", "may"),
    [
        ("account:a", "a", True),
        ("account:a", "b", False),
        ("account:a", None, True),
        ("all", "b", True),
        ("merchant:m", "b", True),
        (None, "b", True),
    ],
)
def test_a_hold_keeps_every_export_that_it_may_cover(
    scope: str | None, account: str | None, may: bool
) -> None:
    hold = Hold("case", Scope(account, None if account else NOW), "court", "J. Doe", "me", NOW)
    old = Export("old", datetime(2019, 1, 1, tzinfo=UTC), scope)
    assert bool(held_export([hold], scope)) == may
    assert bool(exports_store([old], 7, NOW, [hold]).blocked) == may
    assert held_export([], scope) is None


def test_curated_rows_are_kept_for_good_unless_the_settings_say_else() -> None:
    day = {"day": "2019-01-01", "records": 7, "files": 1, "bytes": 10}
    due = {
        "before": "2019-11-27",
        "tables": {"curated.payments": [day, day]},
        "blocked": ["raw still has it"],
    }
    assert curated_store(None, None).goes == "nothing"
    assert curated_store(84, due | {"tables": {}, "blocked": []}).goes == "nothing"
    old = curated_store(84, due)
    assert old.goes == "rows of before 2019-11-27: curated.payments 14"
    assert old.blocked == ("raw still has it",)
