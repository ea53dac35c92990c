"""Choosing the next batch of raw: bounded, whole snapshots where they fit, and exact where they are gone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.offsets import OffsetVector
from lakehouse.refs import read_head
from streaming.raw_reader import RawBatch, next_batch
from tests.history import NAME, History, offsets


def history(*ends: int) -> History:
    """Raw with a snapshot, numbered from 1, for each of these ends; the first is its birth."""
    raw = History()
    for number, end in enumerate(ends, start=1):
        raw.publish(number, number - 1 if number > 1 else None, progress=end, writer="raw")
    return raw


def batch(raw: History, start: int, most: int, hint: int | None = None, end: int | None = None) -> RawBatch:
    head = read_head(raw.catalog(), NAME)
    found = next_batch(head, offsets(start), hint, most, None if end is None else offsets(end))
    assert found is not None
    return found


def test_whole_snapshots_up_to_the_limit() -> None:
    found = batch(history(0, 10, 20, 30), start=0, most=25, hint=1)
    assert (found.end, found.until, found.after, found.consumed) == (offsets(20), 3, 1, 3)


def test_a_snapshot_that_is_too_large_is_cut_and_not_taken_for_consumed() -> None:
    raw = history(0, 10, 110)
    found = batch(raw, start=10, most=40, hint=2)
    assert (found.end, found.until, found.after, found.consumed) == (offsets(50), 3, 2, 2)
    rest = batch(raw, start=50, most=400, hint=2)
    assert (rest.end, rest.after, rest.consumed) == (offsets(110), 2, 3)


def test_where_snapshots_have_expired_offsets_decide() -> None:
    raw = history(0, 10, 20, 300)
    raw.expire()
    found = batch(raw, start=10, most=100, hint=2)
    assert (found.end, found.until, found.after, found.consumed) == (offsets(110), 4, None, None)


def test_it_goes_where_it_is_told_to() -> None:
    found = batch(history(0, 10, 20, 30), start=5, most=1, end=15)
    assert (found.end, found.until, found.consumed) == (offsets(15), 3, 2)


def test_nothing_new_is_no_batch() -> None:
    raw = read_head(history(0, 10).catalog(), NAME)
    assert next_batch(raw, offsets(10), None, 5) is None


_vectors = st.dictionaries(
    st.sampled_from(["a", "b"]), st.dictionaries(st.integers(0, 3), st.integers(0, 90)), max_size=2
).map(OffsetVector)


@given(_vectors, _vectors, st.integers(1, 50))
def test_part_way_gets_there_in_bounded_steps(start: OffsetVector, way: OffsetVector, most: int) -> None:
    target, steps = start.greatest(way), 0
    while not start.covers(target):
        on = start.part_way(target, most)
        parts = len(start.ranges_to(target))
        assert 0 < start.records_to(on) <= most + parts
        assert target.covers(on)
        assert on.covers(start)
        start, steps = on, steps + 1
    assert steps <= 8 * 90
