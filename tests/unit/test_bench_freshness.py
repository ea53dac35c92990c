"""Which publish shows a record first: the stages of the benchmark of freshness stand on it."""

from __future__ import annotations

from bench.freshness import Record, Shown, firsts
from lakehouse.offsets import OffsetVector


def test_a_record_is_shown_by_the_first_publish_that_is_beyond_it() -> None:
    published = [
        Shown(1_000 * number, OffsetVector({"t": {0: first, 1: second}}), number)
        for number, (first, second) in enumerate([(0, 0), (5, 0), (5, 3), (9, 3)])
    ]
    records = [Record("t", partition, offset, 0, None) for partition, offset in ((0, 4), (0, 5), (1, 2))]
    assert [one.snapshot_id for one in firsts(records, published)] == [1, 3, 2]
