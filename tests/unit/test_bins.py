"""Logarithmic bins: where a number falls, and quantiles of what was counted."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.bins import STEPS, WIDTH, bin_of, quantile

amounts = st.decimals("0.0001", "999999999999999", places=4)


@pytest.mark.parametrize(
    ("number", "bound"),
    [
        ("0", "0"),
        ("-3", "0"),
        ("1", "1"),
        ("1.2999", "1"),
        ("1.3", "1.3"),
        ("9.99", "7.5"),
        ("10", "10"),
        ("100.00", "100"),
        ("0.0001", "0.0001"),
        ("0.00555", "0.0042"),
        ("999999999999999.9999", "750000000000000"),
    ],
)
def test_a_number_falls_into_the_bin_of_the_greatest_bound_that_is_not_above_it(
    number: str, bound: str
) -> None:
    assert bin_of(Decimal(number)) == bound


@given(amounts)
def test_every_bin_holds_its_numbers_and_is_named_once(number: Decimal) -> None:
    bound = Decimal(bin_of(number))
    assert bound <= number
    assert bin_of(bound) == str(bin_of(number))
    upper = min(step.scaleb(e) for e in (bound.adjusted(), bound.adjusted() + 1) for step in STEPS
                if step.scaleb(e) > bound)  # fmt: skip
    assert number < upper
    assert 1.28 < float(upper / bound) < 1.4


@given(st.lists(amounts, min_size=1, max_size=60), st.sampled_from((0.1, 0.5, 0.9)))
def test_a_quantile_is_off_by_the_width_of_a_bin_at_most(numbers: list[Decimal], rank: float) -> None:
    counts = Counter(float(bin_of(number)) for number in numbers)
    exact = sorted(numbers)[min(int(rank * len(numbers)), len(numbers) - 1)]
    before = sorted(numbers)[max(int(rank * len(numbers)) - 1, 0)]
    found = quantile(counts.items(), rank)
    assert float(before) / WIDTH / 1.05 <= found <= float(exact) * WIDTH * 1.05


@given(st.lists(amounts, min_size=1), st.lists(amounts, min_size=1))
def test_counts_of_parts_add_up_to_those_of_the_whole(left: list[Decimal], right: list[Decimal]) -> None:
    parts = Counter(map(bin_of, left)) + Counter(map(bin_of, right))
    assert parts == Counter(map(bin_of, left + right))
