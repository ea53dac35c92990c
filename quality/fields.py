"""The rules of single fields: a value as JSON gives it is typed, or breaches a rule.

Belongs here: what each field may hold. Does not: what fields say together, the verdict (`judge.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from quality.canonical import canonical_json
from quality.contract import (
    AMOUNT_LIMIT,
    AMOUNT_SCALE,
    EVENT_TYPES,
    MAX_ID_BYTES,
    MAX_REVISION,
    NETWORKS,
    STATUSES,
)
from quality.currencies import MINOR_UNITS

UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}(?::[0-9]{2}(?:\.([0-9]{1,6}))?)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)"
)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_SHOWN = 4


class Breach(ValueError):
    """A value breaks a rule."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def attributes_text(attributes: dict[str, Any]) -> str:
    """Write attributes as canonical JSON. Raises Breach where that is no Unicode text."""
    text = canonical_json(attributes)
    _utf8(text)
    return text


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Breach("not_unicode", "holds half of a surrogate pair") from None


def _string(raw: Any) -> str:
    if not isinstance(raw, str):
        raise Breach("type", "a string is wanted")
    return raw


def _identifier(raw: Any) -> str:
    if isinstance(raw, str) and raw.isascii() and 0 < len(raw) <= MAX_ID_BYTES:  # nearly all are
        return raw
    text = _string(raw)
    if not 0 < len(_utf8(text)) <= MAX_ID_BYTES:
        raise Breach("length", f"1 to {MAX_ID_BYTES} bytes are wanted")
    return text


def _uuid(raw: Any) -> str:
    text = _string(raw)
    if not UUID.fullmatch(text):
        raise Breach("format", "a UUID is wanted")
    return text.lower()  # compared by value: hex digits have no case


def _one_of(values: frozenset[str] | dict[str, int]) -> Callable[[Any], str]:
    def rule(raw: Any) -> str:
        if isinstance(raw, str) and raw in values:
            return raw
        _string(raw)
        raise Breach("enum", "not a known value")

    return rule


def _time(raw: Any) -> datetime:
    text = _string(raw)
    if not TIME.fullmatch(text):
        raise Breach("format", "ISO 8601 with an offset and at most six fractional digits is wanted")
    return moment(text)


def moment(text: str) -> datetime:
    """Read a time that `TIME` matches, in UTC. Raises Breach where the calendar has none such."""
    try:
        read = datetime.fromisoformat(text)
        return read if read.tzinfo is UTC else read.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Breach("format", "no such moment") from None


def _amount(raw: Any) -> Decimal:
    number = _decimal(raw)
    if number < 0:
        raise Breach("range", "negative")
    # adjusted() first: quantizing 1e400 or 1e-999999 would be refused or lose digits
    if number != 0 and (number.adjusted() >= AMOUNT_LIMIT.adjusted() or number.adjusted() < -AMOUNT_SCALE):
        raise Breach("range", f"outside DECIMAL(19,{AMOUNT_SCALE})")
    if needs_more_places(number, AMOUNT_SCALE):
        raise Breach("scale", f"more than {AMOUNT_SCALE} decimal places")
    return abs(number) if number else Decimal(0)


def _decimal(raw: Any) -> Decimal:
    if isinstance(raw, bool) or not isinstance(raw, int | Decimal | str):
        raise Breach("type", "a decimal number, or one in a string, is wanted")
    if isinstance(raw, str) and not _NUMBER.fullmatch(raw):
        raise Breach("format", "not a decimal number")
    try:
        return Decimal(raw)
    except ArithmeticError:
        raise Breach("range", "exponent out of range") from None


def needs_more_places(number: Decimal, places: int) -> bool:
    """Tell whether the value needs more decimal places: 100.00 needs none."""
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    written = -exponent
    return written > places and bool(number) and any(digits[places - written :])


def _revision(raw: Any) -> int | None:
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise Breach("type", "an integer is wanted")
    if not 0 <= raw <= MAX_REVISION:
        raise Breach("range", f"0 to {MAX_REVISION} is wanted")
    return raw or None


def _attributes(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise Breach("type", "an object is wanted")
    return raw


def masked(raw: Any) -> str:
    """Show at most the first characters: a broken field may hold a card number."""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    shown = text[:_SHOWN].encode("utf-8", "replace").decode()
    return shown if len(text) <= _SHOWN else f"{shown}… ({len(text)} characters)"


# Field on the wire -> its rule, and whether it is required. Unknown fields are kept under `attributes`.
FIELDS: tuple[tuple[str, Callable[[Any], Any], bool], ...] = (
    ("event_id", _uuid, True),
    ("event_type", _one_of(EVENT_TYPES), True),
    ("event_ts", _time, True),
    ("ingest_ts", _time, True),
    ("account_id", _identifier, True),
    ("card_id", _identifier, True),
    ("merchant_id", _identifier, True),
    ("amount", _amount, True),
    ("currency", _one_of(MINOR_UNITS), True),
    ("network", _one_of(NETWORKS), True),
    ("status", _one_of(STATUSES), True),
    ("attributes", _attributes, True),
    ("revision", _revision, False),
    ("original_event_id", _uuid, False),
    ("transaction_ref", _identifier, False),
)
