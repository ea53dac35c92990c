"""Values made canonical: strict JSON in, canonical JSON out, and the length-safe encoding under hashes.

Belongs here: representation. Does not: what a good event is (`judge.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

MAX_BYTES = 256 * 1024
# Far below the interpreter's recursion limit, so that the verdict never depends on the caller's stack.
MAX_DEPTH = 32
# Beyond this many digits a number stays in scientific notation: 1e999999999 must not fill the memory.
_PLAIN_DIGITS = 40
# The same limit for an integer that is written in digits and one that is written with an exponent.
_LONG_INT = 300
# A string that has no end goes to the end of all: looked for from each quote anew, it would take for ever.
_IN_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)


class Number(Decimal):
    """A number that was written with a fraction or an exponent, by its text.

    A type of its own: msgspec would write a `Decimal` as text, this it leaves to us.
    """


class UnreadableJson(ValueError):
    """The bytes are not one strict JSON value; `rule` names which rule they break."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def parse_json(data: bytes) -> Any:
    """Parse bytes as exactly one strict JSON value (RFC 8259).

    Numbers with a fraction or exponent become `Number` by their text, never a float. Raises
    `UnreadableJson` for bad UTF-8, bad syntax, NaN and infinities, a duplicate field, more than
    `MAX_DEPTH` levels or more than `MAX_BYTES` bytes.
    """
    if len(data) > MAX_BYTES:
        raise UnreadableJson("too_large", f"{len(data)} bytes, at most {MAX_BYTES}")
    if _depth_over(data, MAX_DEPTH):
        raise UnreadableJson("too_deep", f"more than {MAX_DEPTH} levels of nesting")
    try:
        return _read_compact(data)
    except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError):
        return _read_any(data)


def canonical_json(value: Any) -> str:
    """Render a value of `parse_json` so that equal values give equal text.

    Fields are sorted by code point, numbers are written by value (1.0, 1e0 and 1 are the same).
    """
    try:
        return _CANONICAL.encode(value).decode()
    except (TypeError, UnicodeEncodeError):  # a `Number`, or half of a surrogate pair
        return _write(value)


def encode_fields(fields: Iterable[str | None]) -> bytes:
    """Join fields so that no two different lists give the same bytes: each its length, or `-` for null."""
    return "".join(
        ["-" if f is None else f"{len(f) if f.isascii() else len(f.encode())}:{f}" for f in fields]
    ).encode()


def sha256_of(fields: Iterable[str | None]) -> str:
    """Lowercase hex sha256 of the fields' encoding."""
    return hashlib.sha256(encode_fields(fields)).hexdigest()


def _depth_over(data: bytes, limit: int) -> bool:
    if data.count(b"{") + data.count(b"[") <= limit:  # the ordinary case costs two scans in C
        return False
    depth = 0
    for byte in _IN_STRINGS.sub(b"", data):
        if byte in b"{[":
            depth += 1
            if depth > limit:
                return True
        elif byte in b"}]":
            depth -= 1
    return False


def _read_compact(data: bytes) -> Any:
    """Parse JSON that is written without a spare byte, as programs write it; raises where it is not.

    msgspec takes the last of two equal fields. But no value has a shorter text than `_SHORTEST` gives it:
    where the bytes are just as long, each part of them is, and nothing else was among them.
    """
    if _TOO_MANY_DIGITS in data.translate(_DIGITS_ALIKE):
        raise ValueError("an integer that is kept as a number by its text")
    value = _COMPACT.decode(data)
    if len(_SHORTEST.encode(value)) != len(data):
        raise ValueError("not the shortest text")
    return value


def _plain_number(text: str) -> Number:
    if "e" in text or "E" in text:
        raise ValueError("has no one shortest text")
    return Number(text)


def _read_any(data: bytes) -> Any:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableJson("not_utf8", f"invalid UTF-8 at byte {error.start}") from None
    try:
        return _ANY.decode(text)
    except UnreadableJson:
        raise
    except (ValueError, ArithmeticError, RecursionError) as error:
        position = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise UnreadableJson("unreadable", f"not JSON{position}") from None


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise UnreadableJson("duplicate_field", "a field is given twice in one object")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise UnreadableJson("unreadable", f"{name} is not JSON")


def _int(text: str) -> int | Number:
    return int(text) if len(text.lstrip("-")) <= _LONG_INT else Number(text)


def _write(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{_write(k)}:{_write(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_write, value)) + "]"
    if isinstance(value, Number):
        return _number(value)
    return _ENCODER.encode(value)


def _number(value: Decimal) -> str:
    sign, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    stripped = text.rstrip("0")
    if not stripped:
        return "0"
    assert isinstance(exponent, int)
    exponent += len(text) - len(stripped)
    minus = "-" if sign else ""
    if exponent >= 0 and len(stripped) + exponent <= _LONG_INT:
        return minus + stripped + "0" * exponent
    if -_PLAIN_DIGITS <= exponent < 0:
        padded = stripped.rjust(1 - exponent, "0")
        return f"{minus}{padded[:exponent]}.{padded[exponent:]}"
    return f"{minus}{stripped}e{exponent}"


_ANY = json.JSONDecoder(
    object_pairs_hook=_unique_fields, parse_float=Number, parse_int=_int, parse_constant=_refuse_constant
)
_ENCODER = json.JSONEncoder(ensure_ascii=False)
_COMPACT = msgspec.json.Decoder(float_hook=_plain_number)
_SHORTEST = msgspec.json.Encoder(enc_hook=lambda number: msgspec.Raw(str(number).encode()))
_CANONICAL = msgspec.json.Encoder(order="sorted")
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"0" * 9)
_TOO_MANY_DIGITS = b"0" * (_LONG_INT + 1)
