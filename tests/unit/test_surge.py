"""Surges: a partner is judged by its latest records, all partners by the one in the middle."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.surge import (
    BATCHES,
    ENOUGH_RECORDS,
    LEAST_RECORDS,
    Tally,
    Window,
    is_general,
    middle_share,
    surging,
)

tallies = st.integers(1, 3000).flatmap(lambda n: st.builds(Tally, st.just(n), st.integers(0, n)))
batches = st.lists(st.dictionaries(st.sampled_from(["a", "b", None]), tallies), max_size=8)


def found(**shares: float) -> dict[str | None, Tally]:
    return {source: Tally(1000, int(share * 1000)) for source, share in shares.items()}


@pytest.mark.parametrize(
    ("shares", "over", "general"),
    [
        ({}, [], False),
        ({"a": 1.0}, ["a"], False),  # alone: nobody to compare it with
        ({"a": 0.5}, [], False),
        ({"a": 0.501}, ["a"], False),
        ({"a": 1.0, "b": 0.0}, ["a"], False),
        ({"a": 1.0, "b": 0.2}, ["a"], False),
        ({"a": 1.0, "b": 0.201}, ["a"], True),
        ({"a": 0.3, "b": 0.3}, [], True),
        ({"a": 1.0, "b": 1.0, "c": 0.0}, ["a", "b"], True),
        ({"a": 1.0, "b": 0.1, "c": 0.0}, ["a"], False),
        ({"a": 1.0, "b": 1.0, "c": 0.0, "d": 0.0}, ["a", "b"], False),
    ],
)
def test_one_partner_surges_or_all_do(shares: dict[str, float], over: list[str], general: bool) -> None:
    assert sorted(map(str, surging(found(**shares)))) == over
    assert is_general(found(**shares)) is general


@given(st.dictionaries(st.sampled_from("abcdefg"), tallies, min_size=3), tallies)
def test_no_single_partner_closes_the_gate_for_all(others: dict[str | None, Tally], loud: Tally) -> None:
    quiet = {source: Tally(tally.records, 0) for source, tally in others.items()}
    assert not is_general({**quiet, "loud": loud})
    assert middle_share({**quiet, "loud": loud}) == 0


def test_small_batches_are_judged_together_and_few_records_not_at_all() -> None:
    window, batch = Window(), {"bank": Tally(LEAST_RECORDS // 4, LEAST_RECORDS // 4)}
    for _ in range(3):
        assert window.with_batch(batch) == {}
        window.add(batch)
    assert window.with_batch(batch) == {"bank": Tally(LEAST_RECORDS, LEAST_RECORDS)}
    window.forget("bank")
    assert window.with_batch(batch) == {}


def test_a_partner_is_judged_by_what_it_sends_now() -> None:
    window = Window()
    for _ in range(30):
        window.add({"bank": Tally(100_000, 0)})
    bad = {"bank": Tally(ENOUGH_RECORDS, ENOUGH_RECORDS)}
    assert window.with_batch(bad) == bad
    assert window.with_batch({"bank": Tally(500, 500)})["bank"].share < Decimal("0.01")
    for _ in range(3):
        window.add({"bank": Tally(500, 500)})
    assert window.with_batch({"bank": Tally(10, 10)})["bank"].share == 1


def test_a_partner_that_fell_silent_says_nothing() -> None:
    window = Window()
    window.add(found(a=1.0))
    for _ in range(BATCHES):
        window.add(found(b=0.0))
    assert set(window.with_batch({})) == {"b"}


@given(batches, st.dictionaries(st.sampled_from(["a", "b", None]), tallies))
def test_the_batch_at_hand_counts_whole_and_shares_are_shares(
    earlier: list[dict[str | None, Tally]], batch: dict[str | None, Tally]
) -> None:
    window = Window()
    for counts in earlier:
        window.add(counts)
    for source, tally in window.with_batch(batch).items():
        assert tally.records >= max(LEAST_RECORDS, batch.get(source, Tally(0, 0)).records)
        assert 0 <= tally.share <= 1
        everything = sum(counts[source].broken for counts in [*earlier, batch] if source in counts)
        assert tally.broken <= everything
