"""The chain over a ledger: whatever is done to its rows is told, and where."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lakehouse.chain import ALTERED, EMPTY, REMOVED, REORDERED, Break, Follower, Tail, chained, link_of

texts = st.none() | st.text(max_size=5)
rows = st.lists(st.fixed_dictionaries({"path": st.text(max_size=5), "bytes": st.integers(), "note": texts}))
some = rows.filter(bool)


def breaks(of: list[dict[str, Any]], *known: Tail) -> list[Break]:
    follower = Follower(known)
    return [*follower.follow(of), *follower.end()]


def chain_of(length: int, said: str = "") -> list[dict[str, Any]]:
    return chained([{"path": f"{number}{said}", "bytes": number} for number in range(length)], EMPTY)


def tail_of(row: dict[str, Any]) -> Tail:
    return Tail(row["seq"], row["link"])


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
    assert found[0] == Break(at + 1, REMOVED, f"row {at + 1} is missing before row {at + 2}")


def test_rows_that_are_taken_out_are_named_from_the_first_to_the_last() -> None:
    made = chain_of(6)
    assert breaks([made[0], *made[4:]]) == [
        Break(2, REMOVED, "everything from row 2 to 4 is missing before row 5")
    ]


def test_a_row_that_is_taken_out_with_the_others_counted_anew_is_named() -> None:
    made = chain_of(5)
    counted = [{**row, "seq": row["seq"] - 1} for row in made[3:]]
    assert (breaks([*made[:2], *counted])[0].seq, breaks([*made[:2], *counted])[0].what) == (3, ALTERED)


def test_a_row_that_stands_twice_is_named() -> None:
    made = chain_of(2)
    assert breaks([made[0], made[0], made[1]]) == [Break(1, REORDERED, "row 1 stands twice")]
    assert breaks([*made, made[1]]) == [Break(2, REORDERED, "row 2 stands twice")]


def test_a_row_that_stands_behind_a_later_one_is_named() -> None:
    made = chain_of(4)
    found = breaks([made[0], made[2], made[1], made[3]])
    assert [(b.seq, b.what) for b in found[:2]] == [(2, REMOVED), (2, REORDERED)]


def test_rows_that_exchanged_their_places_and_numbers_are_named() -> None:
    made = chain_of(5)
    made[1:3] = [{**made[2], "seq": 2}, {**made[1], "seq": 3}]
    assert (breaks(made)[0].seq, breaks(made)[0].what) == (2, ALTERED)


def test_rows_cut_off_the_end_are_told_by_a_tail_that_was_known() -> None:
    made = chain_of(5)
    known = tail_of(made[4]), tail_of(made[1])
    assert breaks(made, *known) == []
    assert breaks(made[:3]) == []  # the rows alone cannot tell
    assert breaks(made[:3], *known) == [
        Break(4, REMOVED, "everything from row 4 to 5 is missing at the end, and was there once")
    ]
    assert [found.seq for found in breaks([], *known)] == [1]


def test_a_chain_that_is_written_anew_is_told_by_a_tail_that_was_known() -> None:
    known, anew = tail_of(chain_of(5)[3]), chain_of(5, "forged")
    assert breaks(anew) == []
    (found,) = breaks(anew, known)
    assert (found.seq, found.what) == (4, ALTERED)
    assert len(breaks(chain_of(5), known, tail_of(anew[3]))) == 1  # both cannot have been


@given(
    length=st.integers(2, 12),
    place=st.integers(0, 11),
    change=st.sampled_from(["path", "bytes", "link", "remove", "repeat", "swap"]),
)
def test_no_single_change_before_the_last_row_goes_unseen(length: int, place: int, change: str) -> None:
    made = chain_of(length)
    at = place % (length - 1)
    if change == "remove":
        del made[at]
    elif change == "repeat":
        made.insert(at, made[at])
    elif change == "swap":
        made[at], made[at + 1] = made[at + 1], made[at]
    else:
        value = made[at][change]
        made[at] = {**made[at], change: value + 1 if isinstance(value, int) else f"{value}x"}
    assert breaks(made)[0].seq <= at + 1


def test_a_link_goes_by_moments_and_leaves_out_what_a_row_lacks() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    elsewhere = at.astimezone(timezone(timedelta(hours=5)))
    assert link_of(EMPTY.link, {"at": at, "more": None}) == link_of(
        EMPTY.link, {"at": elsewhere, "link": "x"}
    )
    assert link_of(EMPTY.link, {"a": "b"}) != link_of(EMPTY.link, {"ab": ""})


@pytest.mark.parametrize("text", ["", "1", "1:abc", "x:" + "0" * 64, "1:" + "G" * 64, "-1:" + "0" * 64])
def test_what_is_no_tail_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Tail.parse(text)
