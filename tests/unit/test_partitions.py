"""The predicate over partitions: true for rows of just the partitions it was given."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from streaming.partitions import Partition, predicate

BUCKETS = 4
partitions = st.sets(st.builds(Partition, st.integers(-30, 30), st.integers(0, BUCKETS - 1)))
_SPAN = re.compile(r"\((?:t\.)?event_ts >= TIMESTAMP '([^']+)' AND (?:t\.)?event_ts < TIMESTAMP '([^']+)'\)")
_BUCKET = re.compile(r"lake\.system\.bucket\((\d+), (?:t\.)?account_id\) IN \(([0-9, ]+)\)")


def holds(sql: str, event_ts: datetime, bucket: int) -> bool:
    """Evaluate the predicate for one row, with the bucket that the row's account falls in."""

    def span(found: re.Match[str]) -> str:
        start, end = map(datetime.fromisoformat, found.groups())
        return str(start <= event_ts < end)

    def buckets(found: re.Match[str]) -> str:
        assert int(found[1]) == BUCKETS
        return str(bucket in {int(number) for number in found[2].split(",")})

    text = _BUCKET.sub(buckets, _SPAN.sub(span, sql))
    text = text.replace(" OR ", " or ").replace(" AND ", " and ").replace("false", "False")
    assert re.fullmatch(r"[TrueFals() andor]+", text), f"not understood: {text}"
    return bool(eval(text))


@given(partitions)
def test_it_is_true_for_just_these_partitions(wanted: set[Partition]) -> None:
    sql = predicate(wanted, BUCKETS)
    for hour in range(-32, 33):
        first = datetime.fromtimestamp(hour * 3600, UTC)
        last = datetime.fromtimestamp(hour * 3600 + 3599, UTC).replace(microsecond=999_999)
        for bucket in range(BUCKETS):
            inside = Partition(hour, bucket) in wanted
            assert holds(sql, first, bucket) == inside
            assert holds(sql, last, bucket) == inside


@given(partitions)
def test_it_does_not_depend_on_order_or_repeats(wanted: set[Partition]) -> None:
    listed = sorted(wanted)
    assert predicate([*reversed(listed), *listed], BUCKETS) == predicate(listed, BUCKETS)


def test_no_partitions_are_no_rows() -> None:
    assert predicate([], BUCKETS) == "false"


def test_neighbouring_hours_become_one_range_and_all_buckets_go_unnamed() -> None:
    every = [Partition(hour, bucket) for hour in range(10) for bucket in range(BUCKETS)]
    assert predicate(every, BUCKETS) == (
        "(((event_ts >= TIMESTAMP '1970-01-01 00:00:00+00:00' AND "
        "event_ts < TIMESTAMP '1970-01-01 10:00:00+00:00')))"
    )


def test_an_alias_stands_before_every_column() -> None:
    sql = predicate([Partition(3, 1)], BUCKETS, "t")
    assert len(re.findall(r"\bt\.(event_ts|account_id)", sql)) == len(
        re.findall(r"\b(event_ts|account_id)\b", sql)
    )
