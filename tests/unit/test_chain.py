"""The chain over a ledger: whatever is done to its rows is told, and where."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lakehouse.chain import EMPTY, Break, Follower, Tail, chained, link_of

texts = st.none() | st.text(max_size=5)
rows = st.lists(st.fixed_dictionaries({"path": st.text(max_size=5), "bytes": st.integers(), "note": texts}))
some = rows.filter(bool)


def breaks(of: list[dict[str, Any]]) -> list[Break]:
    return list(Follower().follow(of))


@given(rows, rows)
def test_what_is_appended_in_parts_is_one_chain(first: list[Any], second: list[Any]) -> None:
    made = chained(first, EMPTY)
    tail = Tail(made[-1]["seq"], made[-1]["link"]) if made else EMPTY
    made += chained(second, tail)
    follower = Follower()
    assert not list(follower.follow(made))
    assert made == chained([*first, *second], EMPTY)
    assert follower.tail == (Tail(len(made), made[-1]["link"]) if made else EMPTY)
    assert Tail.parse(str(follower.tail)) == follower.tail


@given(some, st.data())
def test_a_row_that_is_changed_is_named(given_rows: list[Any], data: st.DataObject) -> None:
    made = chained(given_rows, EMPTY)
    at = data.draw(st.integers(0, len(made) - 1))
    name = data.draw(st.sampled_from(["path", "bytes", "note"]))
    value = data.draw(st.integers() if name == "bytes" else st.text(max_size=5))
    assume(value != made[at][name])
    made[at] = {**made[at], name: value}
    assert breaks(made)[0].seq == at + 1


@given(some, st.data())
def test_a_row_that_is_changed_with_its_link_breaks_the_next_one(
    given_rows: list[Any], data: st.DataObject
) -> None:
    made = chained([*given_rows, {"path": "last", "bytes": 1, "note": None}], EMPTY)
    at = data.draw(st.integers(0, len(made) - 2))
    before = made[at - 1]["link"] if at else EMPTY.link
    changed = {**made[at], "path": made[at]["path"] + "x"}
    made[at] = {**changed, "link": link_of(before, changed)}
    assert [found.seq for found in breaks(made)] == [at + 2]


@given(some, st.data())
def test_a_row_that_is_taken_out_is_named(given_rows: list[Any], data: st.DataObject) -> None:
    made = chained([*given_rows, {"path": "last", "bytes": 1, "note": None}], EMPTY)
    del made[at := data.draw(st.integers(0, len(made) - 2))]
    found = breaks(made)
    assert found[0] == Break(at + 1, f"rows {at + 1} to {at + 1} are missing")


def test_a_row_that_stands_twice_is_named() -> None:
    made = chained([{"path": "a"}, {"path": "b"}], EMPTY)
    assert breaks([made[0], made[0], made[1]]) == [Break(1, "row 1 stands twice")]


def test_a_link_goes_by_moments_and_leaves_out_what_a_row_lacks() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    elsewhere = at.astimezone(timezone(timedelta(hours=5)))
    assert link_of(EMPTY.link, {"at": at, "more": None}) == link_of(
        EMPTY.link, {"at": elsewhere, "link": "x"}
    )
    assert link_of(EMPTY.link, {"a": "b"}) != link_of(EMPTY.link, {"ab": ""})


@pytest.mark.parametrize("text", ["", "1", "1:abc", "x:" + "0" * 64, "1:" + "G" * 64])
def test_what_is_no_tail_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Tail.parse(text)
