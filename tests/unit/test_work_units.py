"""Units of a replay: every partition comes once, and a lost race makes them smaller."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streaming.partitions import Partition
from streaming.replay.work_units import MOST_LOSSES, WorkUnits

SIZES = st.dictionaries(st.builds(Partition, st.integers(0, 40), st.integers(0, 3)), st.integers(0, 50))


@given(SIZES, st.integers(1, 100), st.lists(st.booleans(), max_size=30))
def test_every_partition_is_won_once_however_many_races_are_lost(
    sizes: dict[Partition, int], most_rows: int, losses: list[bool]
) -> None:
    left, won, luck = WorkUnits(sizes, most_rows), [], iter(losses)
    while left:
        unit = left.take()
        if not (next(luck, False) and left.lost(unit)):
            left.won()
            won += unit
    assert won == sorted(sizes)


@given(SIZES, st.integers(1, 100))
def test_a_unit_has_as_many_rows_as_it_may_have(sizes: dict[Partition, int], most_rows: int) -> None:
    left = WorkUnits(sizes, most_rows)
    units = []
    while left:
        units.append(left.take())
    rows = [sum(sizes[partition] for partition in unit) for unit in units]
    assert all(n <= most_rows or len(unit) == 1 for n, unit in zip(rows, units, strict=True))
    for before, after, n in zip(units, units[1:], rows, strict=False):
        assert n + sizes[after[0]] > most_rows, (before, after)


def test_a_lost_unit_comes_back_in_halves_and_so_do_the_ones_after_it() -> None:
    parts = [Partition(hour, 0) for hour in range(12)]
    left = WorkUnits(dict.fromkeys(parts, 10), 80)
    first = left.take()
    assert first == parts[:8]
    assert left.lost(first)
    assert [left.take(), left.take(), left.take()] == [parts[:4], parts[4:8], parts[8:]]


def test_it_ends_where_a_single_partition_is_lost_again_and_again() -> None:
    (part,) = parts = [Partition(1, 0)]
    left = WorkUnits({part: 1_000_000}, 10)
    for _ in range(MOST_LOSSES - 1):
        assert left.take() == parts
        assert left.lost(parts)
    assert left.take() == parts
    assert not left.lost(parts)
    assert not left


def test_parts_that_are_put_back_alone_come_first_and_one_by_one() -> None:
    parts = [Partition(hour, 0) for hour in range(4)]
    left = WorkUnits(dict.fromkeys(parts, 1), 3)
    first = left.take()
    left.put_back_alone([[part] for part in first])
    assert [left.take() for _ in range(4)] == [[part] for part in parts]
    assert not left
