"""Canonical JSON and the encoding under hashes: equal values give equal text, others do not."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.canonical import (
    MAX_BYTES,
    MAX_DEPTH,
    Number,
    UnreadableJson,
    canonical_json,
    encode_fields,
    parse_json,
    sha256_of,
)

numbers = st.one_of(
    st.integers(-(10**25), 10**25).map(Number),
    st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12), max_value=10**12).map(
        Number
    ),
    st.builds(
        lambda digits, exponent: Number(f"{digits}e{exponent}"), st.integers(1, 999), st.integers(-400, 400)
    ),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def spelled(value: Any, random: Random) -> str:
    """Write a value as JSON in one of the many ways there are."""
    space = random.choice(["", " ", "\n\t"])
    if isinstance(value, dict):
        items = list(value.items())
        random.shuffle(items)
        inner = f",{space}".join(f"{spelled(k, random)}{space}:{spelled(v, random)}" for k, v in items)
        return f"{{{space}{inner}{space}}}"
    if isinstance(value, list):
        return f"[{space}" + f"{space},".join(spelled(v, random) for v in value) + f"{space}]"
    if isinstance(value, Decimal):
        return spelled_number(value, random)
    return json.dumps(value, ensure_ascii=random.random() < 0.5)


def spelled_number(value: Decimal, random: Random) -> str:
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    text, minus = "".join(map(str, digits)).lstrip("0") or "0", "-" if sign else ""
    zeros = random.randrange(4) if value else 0
    ways = [
        f"{minus}{text}{'0' * zeros}e{exponent - zeros}",
        f"{minus}{text}.{'0' * (zeros + 1)}E{exponent:+d}",
    ]
    if abs(exponent) < 450:
        plain = format(value, "f")
        ways.append(plain)
        ways.append(plain + ("0" if "." in plain else ".0") * 1)
    return random.choice(ways)


@given(values, st.randoms(use_true_random=False))
def test_equal_values_give_equal_text_however_they_are_spelled(value: Any, random: Random) -> None:
    one, other = (canonical_json(parse_json(spelled(value, random).encode())) for _ in range(2))
    assert one == other


@given(values, st.randoms(use_true_random=False))
def test_it_is_json_of_the_same_value_and_stays_as_it_is(value: Any, random: Random) -> None:
    parsed = parse_json(spelled(value, random).encode())
    text = canonical_json(parsed)
    again = parse_json(text.encode())
    assert again == parsed
    assert canonical_json(again) == text


@given(numbers, numbers)
def test_numbers_have_one_text_per_value(a: Number, b: Number) -> None:
    assert (canonical_json(a) == canonical_json(b)) == (a == b)


@pytest.mark.parametrize(
    "spellings",
    [
        ["1", "1.0", "1e0", "10e-1", "0.1E+1"],
        ["0", "-0", "0.0", "-0.0e5", "0e999999"],
        ["1e298", "1" + "0" * 298, "1" + "0" * 298 + ".0"],
        ["1e299", "1" + "0" * 299, "10e298"],
        ["1e300", "1" + "0" * 300, "1.0e300"],
        ["-1e299", "-1" + "0" * 299],
        ["123456789012345678901234567890.5", "1234567890123456789012345678905e-1"],
        ["1e-40", "0." + "0" * 39 + "1"],
        ["1e-41", "0." + "0" * 40 + "1"],
    ],
    ids=lambda spellings: spellings[0][:20],
)
def test_numbers_spelled_differently(spellings: list[str]) -> None:
    assert len({canonical_json(parse_json(b"[%s]" % s.encode())) for s in spellings}) == 1


def test_a_huge_exponent_does_not_fill_the_memory() -> None:
    assert canonical_json(parse_json(b'{"n": 1e999999999}')) == '{"n":1e999999999}'


def test_true_is_not_one_and_text_is_not_a_number() -> None:
    assert len({canonical_json(parse_json(t)) for t in (b"[1]", b"[true]", b'["1"]', b"[null]")}) == 4


def test_text_is_kept_to_the_byte() -> None:
    nfc, nfd = "caf\u00e9", "cafe\u0301"
    assert canonical_json([nfc]) == '["caf\u00e9"]'
    assert canonical_json([nfc]) != canonical_json([nfd])
    assert canonical_json(["a\u200bb"]) != canonical_json(["ab"])


def test_fields_are_sorted_by_code_point() -> None:
    parsed = parse_json('{"é": 1, "z": 2, "Z": 3, "\U0001f600": 4, "\uffee": 5}'.encode())
    assert canonical_json(parsed) == '{"Z":3,"z":2,"é":1,"\uffee":5,"\U0001f600":4}'
    with_decimal = parse_json('{"é": 1.5, "z": 2, "Z": 3, "\U0001f600": 4, "\uffee": 5}'.encode())
    assert canonical_json(with_decimal) == '{"Z":3,"z":2,"é":1.5,"\uffee":5,"\U0001f600":4}'


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "unreadable"),
        (b" ", "unreadable"),
        (b"{", "unreadable"),
        (b"{} {}", "unreadable"),
        (b'{"a": 1,}', "unreadable"),
        (b"{'a': 1}", "unreadable"),
        (b'{"a": 01}', "unreadable"),
        (b'{"a": .5}', "unreadable"),
        (b'{"a": NaN}', "unreadable"),
        (b'{"a": Infinity}', "unreadable"),
        (b'{"a": -Infinity}', "unreadable"),
        (b'{"a": "tab\there"}', "unreadable"),
        (b'{"a": 1e99999999999999999999}', "unreadable"),
        (b'\xef\xbb\xbf{"a": 1}', "unreadable"),
        (b'{"a": "\xff"}', "not_utf8"),
        (b'{"a": "\xed\xa0\x80"}', "not_utf8"),
        ('{"a": 1}'.encode("utf-16"), "not_utf8"),
        (b'{"a": 1, "a": 1}', "duplicate_field"),
        (b'{"a": 1, "\\u0061": 1}', "duplicate_field"),
        (b'{"x": [{"a": 1, "a": 2}]}', "duplicate_field"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "too_deep"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "too_deep"),
        (b"[" * 200_000, "too_deep"),
        # a string without an end, which anything worse than linear would look at for hours
        (b"[" * (MAX_DEPTH + 1) + b'"' + b'\\"' * 120_000, "too_deep"),
        (b"[" * MAX_DEPTH + b'"' + b'\\"' * 120_000 + b"\\", "unreadable"),
        (b"[" * MAX_DEPTH + b'["\\' * 80_000, "too_deep"),
        (b'"' + b"x" * MAX_BYTES + b'"', "too_large"),
        (b" " * 10_000_000, "too_large"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_what_is_not_strict_json_is_refused_by_rule(data: bytes, rule: str) -> None:
    with pytest.raises(UnreadableJson) as refused:
        parse_json(data)
    assert refused.value.rule == rule


@given(st.dictionaries(texts, values, min_size=1, max_size=4), values, st.randoms(use_true_random=False))
def test_a_field_that_is_given_twice_is_refused_however_it_is_spelled(
    fields: dict[str, Any], other: Any, random: Random
) -> None:
    pairs = [*fields.items(), (random.choice(list(fields)), other)]
    random.shuffle(pairs)
    text = ",".join(f"{spelled(name, random)}:{spelled(value, random)}" for name, value in pairs)
    with pytest.raises(UnreadableJson, match="twice"):
        parse_json(f"{{{text}}}".encode())


@given(values, st.randoms(use_true_random=False))
def test_the_shortest_text_is_read_like_any_other(value: Any, random: Random) -> None:
    shortest = canonical_json(parse_json(spelled(value, random).encode()))
    read, with_space = parse_json(shortest.encode()), parse_json(f" {shortest}".encode())
    assert read == with_space
    assert canonical_json(read) == canonical_json(with_space)


def test_the_deepest_and_the_largest_that_is_taken() -> None:
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert parse_json(b'"' + b"x" * (MAX_BYTES - 2) + b'"')


def test_brackets_within_strings_are_no_depth() -> None:
    assert parse_json(b'["' + b"[{" * 500 + b'\\"' + b"[" * 500 + b'"]')
    siblings = b"[" + b",".join([b"[]"] * 500) + b"]"
    assert len(parse_json(siblings)) == 500


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    try:
        parsed = parse_json(data)
    except UnreadableJson as error:
        assert error.rule and str(error)
    else:
        assert canonical_json(parsed)


# -- the encoding under hashes -----------------------------------------------------------------------------

fields = st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=5)


def decoded(data: bytes) -> list[str | None]:
    """Read an encoding back: that it can be done shows that no two lists share one."""
    found: list[str | None] = []
    while data:
        if data[:1] == b"-":
            found.append(None)
            data = data[1:]
            continue
        length, _, rest = data.partition(b":")
        found.append(rest[: int(length)].decode())
        data = rest[int(length) :]
    return found


@given(fields)
def test_encoding_can_be_read_back(given_fields: list[str | None]) -> None:
    assert decoded(encode_fields(given_fields)) == given_fields


@given(fields, fields)
def test_different_fields_never_share_an_encoding(a: list[str | None], b: list[str | None]) -> None:
    assert (encode_fields(a) == encode_fields(b)) == (a == b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (["ab", "c"], ["a", "bc"]),
        (["a", None], ["a", ""]),
        ([None], ["-"]),
        (["1:a"], ["1", "a"]),
        (["", ""], [""]),
        ([None, "x"], ["x", None]),
    ],
)
def test_fields_that_look_alike(a: list[str | None], b: list[str | None]) -> None:
    assert encode_fields(a) != encode_fields(b)
    assert sha256_of(a) != sha256_of(b)


def test_the_hash_never_changes() -> None:
    """Hashes are in the tables for ever: this text pins them."""
    assert encode_fields(["CAPTURE", None, "é", ""]) == b"7:CAPTURE-2:\xc3\xa90:"
    assert sha256_of([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
