"""What is worth compacting: cold partitions where readers gain, the neediest first, in few commits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.maintenance.need import (
    Cold,
    Limits,
    PartitionKey,
    Usage,
    choose,
    grouped,
    is_needy,
    opens_saved,
    units,
)

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
LIMITS = Limits(target_bytes=100, least_saved=4, deleted_share=0.1, commit_bytes=250)
COLD = Cold(closed_hour=10, quiet_since=NOW)
BEFORE, AFTER = NOW - timedelta(hours=1), NOW + timedelta(hours=1)


def usage(files: int, large: int, rows: int, vectors: int, deleted: float) -> Usage:
    """A partition of small files of 10 bytes, and large ones of 100."""
    size = 10 * files + 100 * large
    return Usage(files + large, size, rows, files, 10 * files, vectors, int(rows * deleted), BEFORE)


usages = st.builds(
    usage, st.integers(0, 30), st.integers(0, 5), st.integers(1, 1000), st.integers(0, 10), st.floats(0, 1)
)
tables = st.dictionaries(st.tuples(st.integers(0, 20), st.integers(0, 3)), usages)


@pytest.mark.parametrize(
    ("found", "saved", "needy"),
    [
        (usage(1, 0, 5, 0, 0), 0, False),
        (usage(4, 0, 20, 0, 0), 3, False),
        (usage(5, 0, 20, 0, 0), 4, True),
        (usage(15, 0, 20, 0, 0), 13, True),  # two files are left
        (usage(0, 5, 20, 0, 0), 0, False),  # large enough, each of them
        (usage(2, 0, 20, 3, 0.05), 4, True),
        (usage(1, 0, 10, 1, 0.1), 1, False),
        (usage(1, 0, 10, 1, 0.2), 1, True),  # few files, too many rows that are dead
        (Usage(), 0, False),
    ],
)
def test_need_is_what_a_reader_opens_in_vain(found: Usage, saved: int, needy: bool) -> None:
    assert opens_saved(found, LIMITS.target_bytes) == saved
    assert is_needy(found, LIMITS) is needy


@pytest.mark.parametrize(
    ("hour", "written_at", "cold"),
    [(9, BEFORE, True), (10, BEFORE, False), (9, AFTER, False), (9, NOW, False), (9, None, True)],
)
def test_an_hour_is_cold_when_it_is_closed_and_quiet(
    hour: int, written_at: datetime | None, cold: bool
) -> None:
    assert COLD.holds((hour, 0), Usage(written_at=written_at)) is cold


def test_where_no_hour_is_known_to_be_closed_none_is_cold() -> None:
    assert not Cold(None, NOW).holds((0, 0), Usage(written_at=None))


@given(tables)
def test_only_the_cold_and_needy_are_chosen_the_neediest_first(found: dict[PartitionKey, Usage]) -> None:
    chosen = choose(found, LIMITS, COLD.holds)
    assert set(chosen) == {k for k, u in found.items() if k[0] < 10 and is_needy(u, LIMITS)}
    needs = [opens_saved(found[key], LIMITS.target_bytes) for key in chosen]
    assert needs == sorted(needs, reverse=True)


@given(tables)
def test_commits_take_each_partition_once_in_order_and_are_no_larger_than_wanted(
    found: dict[PartitionKey, Usage],
) -> None:
    packed = list(units(found, found, LIMITS.commit_bytes))
    assert [key for unit in packed for key in unit] == list(found)
    sizes = [sum(found[key].bytes for key in unit) for unit in packed]
    assert all(
        size <= LIMITS.commit_bytes or len(unit) == 1 for unit, size in zip(packed, sizes, strict=True)
    )
    # few commits: no two neighbours would fit into one
    firsts = [found[unit[0]].bytes for unit in packed[1:]]
    assert all(a + b > LIMITS.commit_bytes for a, b in zip(sizes, firsts, strict=False))


@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 3))))
def test_products_name_just_the_partitions(keys: set[PartitionKey]) -> None:
    named = [(hour, bucket) for hours, buckets in grouped(keys) for hour in hours for bucket in buckets]
    assert sorted(named) == sorted(keys)


def test_products_of_one_value_and_of_none() -> None:
    assert grouped([(3,), (1,), (3,)]) == [([1, 3],)]
    assert grouped([()]) == [()]
    assert grouped([]) == []


@given(st.lists(usages, min_size=1))
def test_usages_add_up_whatever_the_order(found: list[Usage]) -> None:
    assert sum(found, Usage()) == sum(reversed(found), Usage())
    assert sum(found, Usage()).written_at == BEFORE
