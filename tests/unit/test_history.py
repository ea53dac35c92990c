"""What is unusual beside its own history: shifts are found, chance, growth and one odd week are not."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.history import LEAST_HISTORY, ODDS, Comparison, Figure, compare, count, share, size

hours = st.integers(0, 10**6).map(count)
histories = st.lists(hours, min_size=LEAST_HISTORY, max_size=12)


def compared(now: Figure, history: list[Figure]) -> Comparison:
    found = compare(now, history)
    assert found is not None
    return found


def around(middle: float, rng: Random, weeks: int = 12, spread: float = 0.05) -> list[Figure]:
    return [count(round(rng.gauss(middle, spread * middle))) for _ in range(weeks)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("factor", [0, 0.3, 2.5, 10])
def test_a_volume_that_shifts_is_found(seed: int, factor: float) -> None:
    history = around(5000, Random(seed), spread=0.03)
    found = compared(count(round(5000 * factor)), history)
    assert found.is_unusual
    assert found.low < found.expected < found.high
    assert not found.low <= found.value <= found.high


def test_noise_alarms_about_as_often_as_the_odds_say() -> None:
    rng = Random(7)
    alarms = sum(compared(*_split(around(5000, rng, 13))).is_unusual for _ in range(5000))
    assert alarms <= 5000 * 4 / ODDS


def _split(figures: list[Figure]) -> tuple[Figure, list[Figure]]:
    return figures[0], figures[1:]


@given(hours, histories, st.randoms(use_true_random=False))
def test_the_order_of_the_history_does_not_matter(now: Figure, history: list[Figure], rng: Random) -> None:
    shuffled = rng.sample(history, len(history))
    assert compare(now, history) == compare(now, shuffled)


@given(hours, st.lists(hours, max_size=LEAST_HISTORY - 1))
def test_of_a_short_history_nothing_is_known_yet(now: Figure, history: list[Figure]) -> None:
    assert compare(now, history) is None


@given(st.integers(0, 10**6), st.integers(LEAST_HISTORY, 12))
def test_what_is_as_ever_is_usual_even_where_it_never_varied(records: int, weeks: int) -> None:
    found = compared(count(records), [count(records)] * weeks)
    assert found.off == 0
    assert found.expected == pytest.approx(records)


def test_beside_a_constant_history_chance_is_usual_and_a_shift_is_not() -> None:
    constant = [count(100)] * 8
    assert [compared(count(n), constant).is_unusual for n in (90, 110, 125, 200, 20)] == [
        False, False, False, True, True,
    ]  # fmt: skip
    never = [share(0, 1000)] * 8
    assert [compared(share(n, 1000), never).is_unusual for n in (0, 1, 20)] == [False, False, True]
    always = [share(1000, 1000)] * 8
    assert [compared(share(n, 1000), always).is_unusual for n in (1000, 999, 980)] == [False, False, True]


@given(st.floats(-0.3, 0.3), st.integers(50, 10**5), st.integers(LEAST_HISTORY, 12))
def test_steady_growth_or_decline_does_not_alarm(growth: float, start: int, weeks: int) -> None:
    volumes = [count(round(start * (1 + growth) ** week)) for week in range(weeks + 1)]
    assert not compared(volumes[-1], volumes[:-1]).is_unusual


@given(st.integers(1000, 10**6), st.integers(0, 10**7))
def test_one_odd_week_hides_nothing_and_breaks_nothing(usual: int, odd: int) -> None:
    history = [count(usual + week * usual // 200) for week in range(8)] + [count(odd)]
    assert not compared(count(usual), history).is_unusual
    assert compared(count(5 * usual), history).is_unusual


@given(st.integers(0, 20), st.integers(1, 20))
def test_few_records_prove_nothing_unless_they_say_the_opposite(part: int, records: int) -> None:
    history = [share(5, 10)] * 12
    found = compared(share(min(part, records), records), history)
    assert not found.is_unusual or abs(found.value - 0.5) > 0.35


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_what_is_shown_of_a_share_lies_between_0_and_1(part: int, records: int) -> None:
    found = compared(share(min(part, records), records), [share(n, 20) for n in range(LEAST_HISTORY)])
    assert 0 <= found.low <= found.expected <= found.high <= 1


def test_amounts_are_compared_by_their_ratio() -> None:
    usual = [size(value, 0.05) for value in (49, 50, 51, 50, 52, 48)]
    assert [compared(size(value, 0.05), usual).is_unusual for value in (50, 55, 150, 15)] == [
        False, False, True, True,
    ]  # fmt: skip
