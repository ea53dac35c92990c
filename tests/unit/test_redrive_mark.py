"""Marks of redriven records: what is written is read, and what makes no sense is no mark."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.fold import Coordinates
from lakehouse.redrive_mark import (
    ATTEMPT,
    FIRST_TIME,
    NAMES,
    OF,
    OF_TIME,
    Mark,
    read_coordinates,
    read_mark,
    written,
)

NOW = datetime(2026, 11, 20, 12, 0, 0, 1, tzinfo=UTC)
OWN = Coordinates("a/topic+ID", 1, 10)
MARK = Mark(Coordinates("a/topic+ID", 0, 7), NOW - timedelta(hours=1), NOW - timedelta(days=1), 2)
_coordinates = st.builds(
    Coordinates,
    st.from_regex(r"[A-Za-z0-9+/=_-]{1,64}", fullmatch=True),
    st.integers(0, 10**9 - 1),
    st.integers(0, 10**18 - 1),
)


def headers(mark: Mark, **changes: bytes | None) -> list[dict[str, Any]]:
    own: dict[str, bytes | None] = dict(mark.headers()) | {k.replace("_", "-"): v for k, v in changes.items()}
    return [{"key": "ce_id", "value": b"1"}, *({"key": k, "value": v} for k, v in own.items())]


@given(
    _coordinates,
    st.lists(st.datetimes(timezones=st.just(UTC)), min_size=3, max_size=3),
    st.integers(1, 999_999),
    st.booleans(),
)
def test_what_is_written_is_read(
    of: Coordinates, moments: list[datetime], attempt: int, has_more: bool
) -> None:
    first_time, of_time, kafka_ts = sorted(moments)
    mark = Mark(of, of_time, first_time, attempt, has_more)
    if of != OWN:
        assert read_mark(headers(mark), OWN, kafka_ts) == mark
    assert read_coordinates(written(of)) == of


@pytest.mark.parametrize(
    "changes",
    [
        {"redrive_of": b"a/topic+ID/0"},
        {"redrive_of": b"/0/7"},
        {"redrive_of": b"a/topic+ID/0/7/"},
        {"redrive_of": b"a/topic+ID/-1/7"},
        {"redrive_of": "a/topic+ID/0/\u0667".encode()},
        {"redrive_of": b"\xff/0/7"},
        {"redrive_of": b""},
        {"redrive_of": None},
        {"redrive_of": b"a/topic+ID/1/10"},  # itself
        {"redrive_of_time": b"2026-11-20T12:00:00.000002Z"},  # later than the record
        {"redrive_of_time": b"2026-11-20 11:00:00"},
        {"redrive_of_time": b"2026-02-30T11:00:00.000000Z"},
        {"redrive_of_time": b"2026-02-28T24:00:00.000000Z"},
        {"redrive_first_time": b"2026-11-20T11:59:00.000000Z"},  # later than the record that it stands for
        {"redrive_attempt": b"0"},
        {"redrive_attempt": b"-1"},
        {"redrive_attempt": b"9" * 40},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_no_mark(changes: dict[str, bytes | None]) -> None:
    assert read_mark(headers(MARK), OWN, NOW) == MARK
    assert read_mark(headers(MARK, **changes), OWN, NOW) is None


def test_a_mark_is_whole_or_none_and_the_first_of_a_name_counts() -> None:
    for name in (OF, OF_TIME, FIRST_TIME, ATTEMPT):
        assert read_mark([h for h in headers(MARK) if h["key"] != name], OWN, NOW) is None
        assert read_mark([*headers(MARK), {"key": name, "value": b"x"}], OWN, NOW) == MARK
    assert read_mark(None, OWN, NOW) is None


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.none() | st.binary(max_size=40))))
def test_no_bytes_in_headers_are_an_error(pairs: list[tuple[str, bytes | None]]) -> None:
    read_mark([{"key": key, "value": value} for key, value in pairs], OWN, NOW)
