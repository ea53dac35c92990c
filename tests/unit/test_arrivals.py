"""The figures of late arrival as the stamp writes them."""

from __future__ import annotations

from lakehouse.arrivals import MAX_HOURS, Arrivals, from_json, to_json


def test_hours_are_written_newest_first_and_read_back() -> None:
    some = [Arrivals(1, 10, 500, 400), Arrivals(3, 1, -20, -20), Arrivals(2, 5, 100, 90)]
    assert from_json(to_json(some)) == (some[1], some[2], some[0])
    assert from_json(to_json([])) == ()


def test_beyond_the_limit_the_oldest_are_one() -> None:
    many = [Arrivals(hour, 2, hour, hour - 1) for hour in range(MAX_HOURS + 3)]
    *named, older = from_json(to_json(many))
    assert [a.hour for a in named] == list(range(MAX_HOURS + 2, 2, -1))
    assert older == Arrivals(None, 6, 2, 1)
