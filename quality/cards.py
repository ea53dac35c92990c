"""Card numbers in clear: finding them in any text of an event, and replacing them.

Belongs here: what a card number looks like (issuer range, length, Luhn). Does not: what becomes of an event
that holds one (a partner's policy), where the keys of tokens are kept (`streaming/token_keys.py`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

_SHORTEST, _LONGEST = 13, 19
# First digits (from, to, both included) and the lengths that are issued.
_ISSUERS: tuple[tuple[str, str, frozenset[int]], ...] = (
    ("4", "4", frozenset({13, 16, 19})),  # VISA
    ("51", "55", frozenset({16})),  # MC
    ("2221", "2720", frozenset({16})),  # MC, the 2-series
    ("34", "34", frozenset({15})),  # AMEX
    ("37", "37", frozenset({15})),
)
_OF_LENGTH = {
    length: tuple((low, high) for low, high, lengths in _ISSUERS if length in lengths)
    for length in frozenset().union(*(lengths for _, _, lengths in _ISSUERS))
}
# In UTF-8 each byte beyond ASCII may belong to a digit or a space of another alphabet.
_DIGITS_ALIKE = bytes(ord("0") if byte in b"0123456789" or byte > 127 else ord(".") for byte in range(256))
_SEPARATORS = b" -._/\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f"  # those of `_RUN` that are ASCII: all of them
_LONG_RUN = b"0" * _SHORTEST
# Spaces, hyphens, dots and what cannot be seen between the digits, up to three in a row (`4111 - 1111`).
_RUN = re.compile(r"\d(?:[\s._/\u00ad\u200b-\u200d\u2010-\u2015\u2060\u2212\ufeff-]{0,3}\d){12,}")
_GROUP = re.compile(r"\d+")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")


class CardNumber(NamedTuple):
    """Where a card number stands in a text, and its digits alone. Never to be logged."""

    start: int
    end: int
    digits: str


def may_hold_card_number(json_text: bytes) -> bool:
    """Tell cheaply whether JSON might hold a card number; False is certain, True wants a closer look."""
    if b"\\" in json_text:  # an escape may stand for a digit
        return True
    return _LONG_RUN in json_text.translate(_DIGITS_ALIKE, _SEPARATORS)


def card_numbers(text: str) -> list[CardNumber]:
    """Find the card numbers in a text, from left to right, none overlapping another.

    A number begins and ends where a group of digits does, leading zeros aside: the digits inside a longer
    number (an acquirer's reference, say) are not searched, nor is a UUID, unless it has digits only.
    """
    found: list[CardNumber] = []
    if len(text) >= _SHORTEST and _RUN.search(text):
        for run in _RUN.finditer(_UUID.sub(_hide_uuid, text) if "-" in text else text):
            found += _in_run(run[0], run.start())
    return found


def holds_card_number(value: Any) -> bool:
    """Tell whether any string, number or field name in a value of `parse_json` holds a card number."""
    if isinstance(value, dict):
        return any(holds_card_number(key) or holds_card_number(value[key]) for key in value)
    if isinstance(value, list):
        return any(map(holds_card_number, value))
    text = _text_of(value)
    return text is not None and bool(card_numbers(text))


def without_card_numbers(value: Any, token: Callable[[str], str]) -> Any:
    """Copy a value of `parse_json` with each card number replaced by `token(digits)`.

    A number becomes a string. Field names that become equal are told apart by a leading `~`, `~2~` and so on.
    """
    if isinstance(value, dict):
        return _fields_without(value, token)
    if isinstance(value, list):
        return [without_card_numbers(inner, token) for inner in value]
    text = _text_of(value)
    return value if text is None or not card_numbers(text) else _replace(text, token)


def _fields_without(fields: dict[str, Any], token: Callable[[str], str]) -> dict[str, Any]:
    replaced: dict[str, Any] = {}
    equal: Counter[str] = Counter()
    for key, inner in fields.items():
        name = clean = _replace(key, token)
        while name in replaced:
            equal[clean] += 1  # a partner may have thousands of them: never begin at one again
            name = f"~{equal[clean]}~{clean}" if equal[clean] > 1 else f"~{clean}"
        replaced[name] = without_card_numbers(inner, token)
    return replaced


def _text_of(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    if isinstance(value, int):
        return format(value, "d")
    # 1e999999999 must not be written out, and the zeros of an exponent are nobody's digits
    is_long = abs(value.adjusted()) > _LONGEST
    return None if is_long or len(value.as_tuple().digits) < _SHORTEST else format(value, "f")


def _replace(text: str, token: Callable[[str], str]) -> str:
    parts, position = [], 0
    for number in card_numbers(text):
        parts += [text[position : number.start], token(number.digits)]
        position = number.end
    return "".join([*parts, text[position:]])


def _hide_uuid(match: re.Match[str]) -> str:
    # One UUID in a hundred thousand would pass for a card number; one of digits only is none of ours.
    return match[0] if match[0].replace("-", "").isdigit() else "x" * len(match[0])


def _in_run(run: str, offset: int) -> list[CardNumber]:
    """Try every stretch of whole groups of digits, the longest first; none is searched twice."""
    groups = [(group.start(), group.end(), _ascii(group[0])) for group in _GROUP.finditer(run)]
    found, first = [], 0
    while first < len(groups):
        last, digits = _longest_from(groups, first)
        if last is not None:
            found.append(CardNumber(offset + groups[first][0], offset + groups[last][1], digits))
        first = first + 1 if last is None else last + 1
    return found


def _longest_from(groups: list[tuple[int, int, str]], first: int) -> tuple[int | None, str]:
    digits = ""
    best: tuple[int | None, str] = (None, "")
    for last in range(first, len(groups)):
        digits = (digits + groups[last][2]).lstrip("0")
        # Without a digit of its own the first group begins no number: the next one does. Else every group
        # adds one at least, so that few are looked at from each.
        if not digits or len(digits) > _LONGEST:
            break
        if _is_card_number(digits):
            best = (last, digits)
    return best


def _ascii(digits: str) -> str:
    return digits if digits.isascii() else "".join(str(unicodedata.decimal(digit)) for digit in digits)


def _is_card_number(digits: str) -> bool:
    ranges = _OF_LENGTH.get(len(digits), ())
    return any(low <= digits[: len(low)] <= high for low, high in ranges) and _passes_luhn(digits.encode())


def _passes_luhn(digits: bytes) -> bool:
    doubled = digits[-2::-2].translate(_DOUBLED)
    return (sum(digits[::-2]) + sum(doubled) - ord("0") * len(digits)) % 10 == 0
