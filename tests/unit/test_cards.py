"""Card numbers: all that are issued are found wherever they stand; tokens hide them and can be compared."""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.canonical import canonical_json, parse_json
from quality.card_tokens import TokenKey, key_for, token
from quality.cards import card_numbers, holds_card_number, may_hold_card_number, without_card_numbers
from streaming.errors import TokenKeyError
from streaming.token_keys import kms_decrypt, made_token_keys, token_keys

# Numbers that the networks publish for tests.
KNOWN = [
    "4111111111111111", "4222222222222", "4000000000000000006", "5555555555554444", "5105105105105100",
    "2223003122003222", "2720990000000007", "378282246310005", "341111111111111",
]  # fmt: skip
KEY = TokenKey("a", datetime(1970, 1, 1, tzinfo=UTC), b"k" * 32)


def tokens(digits: str) -> str:
    return token(KEY, digits)


@st.composite
def numbers(draw: st.DrawFn) -> str:
    """Any card number that could be issued, computed apart from the code under test."""
    prefix, length = draw(
        st.one_of(
            st.tuples(st.just("4"), st.sampled_from([13, 16, 19])),
            st.tuples(st.integers(51, 55).map(str), st.just(16)),
            st.tuples(st.integers(2221, 2720).map(str), st.just(16)),
            st.tuples(st.sampled_from(["34", "37"]), st.just(15)),
        )
    )
    rest = length - len(prefix) - 1
    body = prefix + draw(st.text("0123456789", min_size=rest, max_size=rest))
    total = 0
    for place, digit in enumerate(reversed(body)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return body + str(-total % 10)


@st.composite
def written(draw: st.DrawFn) -> str:
    """A card number as people write it."""
    digits = draw(numbers())
    separator = draw(
        st.sampled_from(["", " ", "-", "\u00a0", " - ", "\u2011", "\t", ".", "/", "_", "\u200d"])
    )
    cuts = sorted(draw(st.sets(st.integers(1, len(digits) - 1), max_size=4)))
    parts = [digits[a:b] for a, b in zip([0, *cuts], [*cuts, len(digits)], strict=True)]
    return separator.join(parts)


around = st.text(st.characters(exclude_categories=["Nd", "Cs"]), max_size=12).filter(
    lambda text: not re.search(r"[\s._/\u00ad\u200b-\u200d\u2060\ufeff\u2010-\u2015\u2212-]", text)
)


@given(around, written(), around)
def test_a_number_is_found_wherever_it_stands_and_however_it_is_written(a: str, number: str, b: str) -> None:
    (found,) = card_numbers(a + number + b)
    assert (found.start, found.end) == (len(a), len(a) + len(number))
    assert found.digits == re.sub(r"\D", "", number)


places: list[Callable[[str], Any]] = [
    lambda n: {"card_id": n},
    lambda n: {"attributes": {"deep": [[{"note": f"paid with {n}."}]]}},
    lambda n: {"attributes": {f"card {n}": 1}},
    lambda n: {"attributes": {"number": int(re.sub(r"\D", "", n))}},
    lambda n: {n: n, f"{n}!": [n, n]},
]


@given(st.sampled_from(places), written(), st.booleans())
def test_no_text_of_an_event_hides_a_number_and_nothing_of_it_is_left(
    place: Callable[[str], Any], number: str, is_escaped: bool
) -> None:
    text = json.dumps(place(number), ensure_ascii=is_escaped).encode()
    if is_escaped:  # one digit as an escape: the bytes alone do not show it
        text = re.sub(rb'"([^":\d]*)4', rb'"\1\\u0034', text)
    assert may_hold_card_number(text)
    value = parse_json(text)
    assert holds_card_number(value)
    clean = without_card_numbers(value, tokens)
    left = canonical_json(clean)
    assert not holds_card_number(clean)
    assert re.sub(r"\D", "", number) not in re.sub(r"\D", "", left)
    assert tokens(re.sub(r"\D", "", number)) in left


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_what_the_quick_look_lets_pass_holds_no_number(value: Any) -> None:
    text = canonical_json(value).encode("utf-8", "replace")
    if not may_hold_card_number(text):
        assert not holds_card_number(value)
    if not holds_card_number(value):
        assert without_card_numbers(value, tokens) == value


@given(st.lists(written(), min_size=2, max_size=4), st.sampled_from([" ", "-", ", "]))
def test_of_several_numbers_in_a_row_none_is_left(several: list[str], separator: str) -> None:
    clean = without_card_numbers(separator.join(several), tokens)
    assert not card_numbers(clean)


@pytest.mark.parametrize("digits", KNOWN)
def test_the_networks_test_numbers_are_found(digits: str) -> None:
    assert [number.digits for number in card_numbers(f"PAN={digits};")] == [digits]
    assert [number.digits for number in card_numbers(f"0000{digits}")] == [digits]
    assert not card_numbers(digits[:-1] + str((int(digits[-1]) + 1) % 10))


@pytest.mark.parametrize(
    "text",
    [
        "9411111111111111111234",  # inside a longer number: an acquirer's reference has 23 digits
        "2026-11-20T12:00:00.000001Z",
        "1763640000000000",  # a time in microseconds
        "6011111111111117",  # a network that we do not take
        "41111111-1111-1111-8111-11111111111a",
        "4111.1111",
        "",
    ],
)
def test_what_only_looks_like_a_number_is_let_pass(text: str) -> None:
    assert not card_numbers(text)


def test_digits_of_other_alphabets_and_uuids_without_a_letter_are_looked_at() -> None:
    wide = "".join(chr(0xFF10 + int(d)) for d in KNOWN[0])
    assert [number.digits for number in card_numbers(wide)] == [KNOWN[0]]
    assert card_numbers("00000000-0000-0000-4111-111111111111")


@given(st.uuids())
def test_an_id_is_no_card_number(value: uuid.UUID) -> None:
    if re.search("[a-f]", str(value)):
        assert not card_numbers(f"order {value}")


@given(st.text(max_size=8), written(), st.text(max_size=8))
def test_the_quick_look_sees_in_any_bytes_what_the_closer_one_finds(a: str, number: str, b: str) -> None:
    text = a + number + b
    assert may_hold_card_number(text.encode("utf-8", "replace")) or not card_numbers(text)


@given(numbers(), st.integers(1, 15))
def test_a_number_with_an_exponent_is_looked_at_by_both(digits: str, point: int) -> None:
    point = min(point, len(digits) - 1)
    text = f'{{"n": {digits[:point]}.{digits[point:]}E{len(digits) - point}}}'.encode()
    if parse_json(text)["n"].as_tuple().digits == tuple(map(int, digits)):
        assert holds_card_number(parse_json(text)) and may_hold_card_number(text)


def test_text_that_is_made_to_be_slow_is_not() -> None:
    for text in ("0 " * 130_000, "4 " * 130_000, "1 " * 130_000, "00 4" * 65_000):
        card_numbers(text)  # anything worse than linear would take hours
    spellings = {f"4111{a}1111{b}1111{c}1111": 1 for a, b, c in product(_SPELLINGS, repeat=3)}
    assert len(without_card_numbers(spellings, lambda _: "tok")) == len(spellings)


_SPELLINGS = ("", "_", *map("".join, product([" ", "-", ".", "/"], repeat=2)))


def test_two_field_names_that_become_equal_are_both_kept() -> None:
    clean = without_card_numbers({KNOWN[0]: 1, "4111 1111 1111 1111": 2}, tokens)
    assert clean == {tokens(KNOWN[0]): 1, "~" + tokens(KNOWN[0]): 2}


def test_the_key_is_chosen_by_the_events_own_time() -> None:
    second = TokenKey("b", datetime(2026, 6, 1, tzinfo=UTC), b"l" * 32)
    keys = (second, KEY)
    assert key_for(keys, second.effective_from) == key_for(keys, None) == second
    assert key_for(keys, second.effective_from - timedelta(microseconds=1)) == KEY
    assert token(KEY, KNOWN[0]) != token(second, KNOWN[0])
    assert "kkkk" not in repr(KEY)


def test_the_local_stack_makes_its_keys_once(tmp_path: Path) -> None:
    made = made_token_keys(tmp_path / "keys" / "tokens.toml")
    assert made_token_keys(tmp_path / "keys" / "tokens.toml") == made
    assert oct((tmp_path / "keys" / "tokens.toml").stat().st_mode & 0o777) == "0o600"


def test_keys_that_kms_closed_are_opened_by_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text('[[keys]]\nid = "a"\neffective_from = 1970-01-01T00:00:00Z\nciphertext = "YWJj"\n')
    assert token_keys(path, lambda closed: closed * 11)[0].secret == b"abc" * 11
    with pytest.raises(TokenKeyError, match="names no KMS"):
        token_keys(path)


def test_kms_is_asked_and_its_failures_tell_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kms:
        def decrypt(self, CiphertextBlob: bytes) -> dict[str, bytes]:
            if CiphertextBlob == b"good":
                return {"Plaintext": b"p" * 32}
            raise PermissionError("c0ffee")

    boto3 = SimpleNamespace(client=lambda name, region_name: {("kms", "eu-west-1"): Kms()}[name, region_name])
    monkeypatch.setitem(sys.modules, "boto3", boto3)
    decrypt = kms_decrypt("eu-west-1")
    assert decrypt(b"good") == b"p" * 32
    with pytest.raises(TokenKeyError, match="PermissionError") as raised:
        decrypt(b"bad")
    assert "c0ffee" not in str(raised.value)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(TokenKeyError, match="boto3"):
        kms_decrypt("eu-west-1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[keys]]\nid = "a"\neffective_from = 1970-01-01T00:00:00Z\nsecret = "c0ffee"\n', "shorter than"),
        ('[[keys]]\nid = "a"\neffective_from = 1970-01-01T00:00:00\nsecret = "c0ffee"\n', "effective_from"),
        ('[[keys]]\nid = "a"\neffective_from = 1970-01-01T00:00:00Z\n', "either secret"),
        ("keys = []", "keys"),
        ("keys = [", "wrong"),
    ],
)
def test_wrong_keys_are_named_and_not_shown(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "keys.toml").write_text(text)
    with pytest.raises(TokenKeyError, match=said) as raised:
        token_keys(tmp_path / "keys.toml")
    assert "c0ffee" not in str(raised.value)
