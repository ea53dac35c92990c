"""Offset vectors: the laws that progress stands on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.offsets import OffsetVector, Range

offsets = st.integers(0, 2**40)
vectors = st.dictionaries(
    st.sampled_from(["topic-a", "topic-b", "topic-ü"]),
    st.dictionaries(st.integers(0, 5), offsets, max_size=4),
    max_size=3,
).map(OffsetVector)


def as_points(vector: OffsetVector) -> dict[tuple[str, int], int]:
    """What a vector says, without the partitions that stand at 0 as those that are missing do."""
    return {(topic, partition): offset for topic, partition, offset in vector if offset}


@given(vectors)
def test_json_round_trip(vector: OffsetVector) -> None:
    again = OffsetVector.from_json(vector.to_json())
    assert as_points(again) == as_points(vector)
    assert again.to_json() == vector.to_json()


@given(vectors)
def test_json_does_not_depend_on_the_order_of_insertion(vector: OffsetVector) -> None:
    turned = {t: dict(reversed(list(p.items()))) for t, p in reversed(list(vector.topics.items()))}
    assert OffsetVector(turned).to_json() == vector.to_json()


@pytest.mark.parametrize(
    "text", ["", "1", "[]", "null", '{"t": 1}', '{"t": {"x": 1}}', '{"t": {"0": null}}', '{"t": {"0": "x"}}']
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        OffsetVector.from_json(text)


@given(vectors, vectors)
def test_least_and_greatest_are_per_partition(a: OffsetVector, b: OffsetVector) -> None:
    for topic, partition in as_points(a).keys() | as_points(b).keys():
        both = a.next_offset(topic, partition), b.next_offset(topic, partition)
        assert a.least(b).next_offset(topic, partition) == min(both)
        assert a.greatest(b).next_offset(topic, partition) == max(both)


@given(vectors, vectors, vectors)
def test_least_and_greatest_form_a_lattice(a: OffsetVector, b: OffsetVector, c: OffsetVector) -> None:
    for meet in (OffsetVector.least, OffsetVector.greatest):
        assert as_points(meet(a, a)) == as_points(a)
        assert as_points(meet(a, b)) == as_points(meet(b, a))
        assert as_points(meet(meet(a, b), c)) == as_points(meet(a, meet(b, c)))
    assert as_points(a.least(a.greatest(b))) == as_points(a)
    assert as_points(a.greatest(a.least(b))) == as_points(a)


@given(vectors, vectors)
def test_covers_is_the_order_of_that_lattice(a: OffsetVector, b: OffsetVector) -> None:
    assert a.greatest(b).covers(a) and a.greatest(b).covers(b)
    assert a.covers(a.least(b)) and b.covers(a.least(b))
    assert a.covers(b) == (as_points(a.greatest(b)) == as_points(a))
    assert a.covers(b) == (a.records_to(b) == 0)
    if a.covers(b) and b.covers(a):
        assert as_points(a) == as_points(b)


@given(vectors)
def test_an_empty_vector_is_covered_by_all_and_covers_nothing_consumed(vector: OffsetVector) -> None:
    assert vector.covers(OffsetVector())
    assert OffsetVector().covers(vector) == (not as_points(vector))
    assert OffsetVector().records_to(vector) == sum(as_points(vector).values())


@given(vectors, vectors)
def test_records_on_the_way_add_up(a: OffsetVector, b: OffsetVector) -> None:
    low, high = a.least(b), a.greatest(b)
    assert low.records_to(a) + a.records_to(high) == low.records_to(high)
    assert a.records_to(b) == sum(r.end - r.start for r in a.ranges_to(b))


@given(vectors, vectors)
def test_ranges_lead_from_one_to_the_other(a: OffsetVector, b: OffsetVector) -> None:
    ranges = a.ranges_to(b)
    assert ranges == sorted(ranges)
    assert all(r.start < r.end for r in ranges)
    reached = a
    for r in ranges:
        assert reached.next_offset(r.topic_id, r.partition) == r.start
        reached = reached.advanced(r.topic_id, {r.partition: r.end})
    assert as_points(reached) == as_points(a.greatest(b))


def test_advanced_leaves_other_partitions_and_topics() -> None:
    before = OffsetVector({"a": {0: 5, 1: 6}, "b": {0: 7}})
    after = before.advanced("a", {1: 9, 2: 3})
    assert after == OffsetVector({"a": {0: 5, 1: 9, 2: 3}, "b": {0: 7}})
    assert before == OffsetVector({"a": {0: 5, 1: 6}, "b": {0: 7}})


def test_ranges_of_a_new_topic_start_at_zero() -> None:
    before, after = OffsetVector({"old": {0: 50}}), OffsetVector({"old": {0: 50}, "new": {1: 2, 0: 3}})
    assert before.ranges_to(after) == [Range("new", 0, 0, 3), Range("new", 1, 0, 2)]
