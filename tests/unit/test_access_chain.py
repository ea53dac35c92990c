"""The chain of the access trail: whatever is done to its rows, the first one that is not right is named."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.access_chain import (
    GENESIS,
    NO_ROWS,
    Access,
    Entry,
    Tail,
    chained,
    first_broken,
    hash_of,
    parameters_of,
    plain,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
COLUMNS = [f.name for f in fields(Entry)]


def access(number: int, **more: str) -> Access:
    told = {"actor": "ann@desk", "action": "query", "target": "", "parameters": "{}", "result": "done"}
    return Access(NOON + timedelta(seconds=number), access_id=f"{number:032x}", **(told | more))


def trail(length: int) -> list[Entry]:
    rows: list[Entry] = []
    tail = NO_ROWS
    for number in range(length):
        rows.append(chained(access(number), tail))
        tail = Tail(rows[-1].sequence, rows[-1].hash)
    return rows


def altered(row: Entry, column: str) -> Entry:
    value = getattr(row, column)
    changed = value + timedelta(microseconds=1) if isinstance(value, datetime) else f"{value}x"
    told: dict[str, Any] = {column: changed}
    return replace(row, **told)


def test_rows_count_from_one_and_each_holds_the_hash_before() -> None:
    rows = trail(3)
    assert [row.sequence for row in rows] == [1, 2, 3]
    assert [row.previous_hash for row in rows] == [GENESIS, rows[0].hash, rows[1].hash]
    assert first_broken(rows) is None
    assert first_broken([]) is None


@pytest.mark.parametrize("column", [name for name in COLUMNS if name not in ("sequence", "previous_hash")])
def test_any_column_that_is_altered_is_found(column: str) -> None:
    rows = trail(5)
    rows[2] = altered(rows[2], column)
    broken = first_broken(rows)
    assert broken is not None
    assert (broken.sequence, broken.what) == (3, "altered")


def test_a_row_that_is_altered_and_hashed_anew_is_found_by_the_next_one() -> None:
    rows = trail(5)
    forged = replace(rows[2], actor="nobody@nowhere")
    rows[2] = replace(forged, hash=hash_of(forged))
    broken = first_broken(rows)
    assert broken is not None
    assert (broken.sequence, broken.what) == (3, "altered")


@pytest.mark.parametrize("gone", [0, 2])
def test_a_row_that_is_removed_is_found(gone: int) -> None:
    rows = trail(5)
    del rows[gone]
    broken = first_broken(rows)
    assert broken is not None
    assert (broken.sequence, broken.what) == (gone + 1, "removed")


def test_a_row_that_is_removed_with_the_others_counted_anew_is_found() -> None:
    rows = trail(5)
    rows = rows[:2] + [replace(row, sequence=row.sequence - 1) for row in rows[3:]]
    broken = first_broken(rows)
    assert broken is not None
    assert broken.sequence == 3


def test_rows_that_stand_in_another_order_are_found() -> None:
    rows = trail(5)
    rows[1], rows[2] = rows[2], rows[1]
    broken = first_broken(rows)
    assert broken is not None
    assert broken.sequence in (2, 3)
    swapped = trail(5)
    forged = [replace(swapped[2], sequence=2), replace(swapped[1], sequence=3)]
    swapped[1:3] = [replace(row, hash=hash_of(row)) for row in forged]
    broken = first_broken(swapped)
    assert broken is not None
    assert (
        broken.sequence == 1
    )  # the link from 1 to 2 is the first that is wrong: either may be the forged one


def test_a_row_that_stands_twice_is_found() -> None:
    rows = trail(3)
    broken = first_broken([*rows, rows[2]])
    assert broken is not None
    assert (broken.sequence, broken.what) == (3, "reordered")


def test_rows_cut_off_the_end_are_found_by_a_tail_that_was_known() -> None:
    rows = trail(5)
    known = [Tail(rows[4].sequence, rows[4].hash), Tail(rows[1].sequence, rows[1].hash)]
    assert first_broken(rows, known) is None
    assert first_broken(rows[:3]) is None  # the rows alone cannot tell
    broken = first_broken(rows[:3], known)
    assert broken is not None
    assert (broken.sequence, broken.what) == (4, "removed")
    emptied = first_broken([], known)
    assert emptied is not None
    assert emptied.sequence == 1


def test_a_trail_that_is_written_anew_is_found_by_a_tail_that_was_known() -> None:
    known = [Tail(trail(5)[3].sequence, trail(5)[3].hash)]
    tail, rows = NO_ROWS, []
    for number in range(5):
        rows.append(chained(access(number, actor="nobody@nowhere"), tail))
        tail = Tail(rows[-1].sequence, rows[-1].hash)
    assert first_broken(rows) is None
    broken = first_broken(rows, known)
    assert broken is not None
    assert (broken.sequence, broken.what) == (4, "altered")


@given(
    length=st.integers(2, 12),
    place=st.integers(0, 11),
    change=st.sampled_from([*COLUMNS[1:], "remove", "repeat", "swap"]),
)
def test_no_single_change_before_the_last_row_goes_unseen(length: int, place: int, change: str) -> None:
    rows = trail(length)
    at = place % (length - 1)
    if change == "remove":
        del rows[at]
    elif change == "repeat":
        rows.insert(at, rows[at])
    elif change == "swap":
        rows[at], rows[at + 1] = rows[at + 1], rows[at]
    else:
        rows[at] = altered(rows[at], change)
    broken = first_broken(rows)
    assert broken is not None
    assert broken.sequence <= at + 2


@given(
    st.lists(st.text(max_size=5), min_size=5, max_size=5),
    st.lists(st.text(max_size=5), min_size=5, max_size=5),
)
def test_only_equal_rows_have_equal_hashes(one: list[str], other: list[str]) -> None:
    names = ("actor", "action", "target", "parameters", "result")
    hashes = [
        chained(access(1, **dict(zip(names, told, strict=True))), NO_ROWS).hash for told in (one, other)
    ]
    assert (hashes[0] == hashes[1]) == (one == other)


def test_the_hash_is_of_the_moment_whatever_its_offset() -> None:
    here = NOON.astimezone(timezone(timedelta(hours=5)))
    rows = [chained(replace(access(0), at=at), NO_ROWS) for at in (NOON, here)]
    assert rows[0] == rows[1]


def test_parameters_are_told_without_what_is_empty_or_secret() -> None:
    told = parameters_of(
        {
            "sql": "SELECT 1",
            "as_of": None,
            "tags": (),
            "again": False,
            "password": "hunter2",
            "nested": {"api_token": "x", "hours": [NOON]},
            "card": "seen 4111 1111 1111 1111 there",
        }
    )
    assert json.loads(told) == {
        "card": "seen [card number] there",
        "nested": {"api_token": "[hidden]", "hours": [NOON.isoformat()]},
        "password": "[hidden]",
        "sql": "SELECT 1",
    }


def test_long_texts_are_cut_and_card_numbers_masked() -> None:
    assert plain("x" * 10_000).endswith("x…")
    assert len(plain("x" * 10_000)) < 9_000
    assert "4111" not in plain("4111111111111111")
