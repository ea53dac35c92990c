"""Values made canonical: strict JSON in, canonical JSON out, and the length-safe encoding under hashes.

Belongs here: representation. Does not: what a good event is (`judge.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, NoReturn

MAX_BYTES = 256 * 1024
# Far below the interpreter's recursion limit, so that the verdict never depends on the caller's stack.
MAX_DEPTH = 32
# Beyond this many digits a number stays in scientific notation: 1e999999999 must not fill the memory.
_PLAIN_DIGITS = 40
# The same limit for an integer that is written in digits and one that is written with an exponent.
_LONG_INT = 300
_IN_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class UnreadableJson(ValueError):
    """The bytes are not one strict JSON value; `rule` names which rule they break."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def parse_json(data: bytes) -> Any:
    """Parse bytes as exactly one strict JSON value (RFC 8259).

    Numbers with a fraction or exponent become `Decimal` by their text, never a float. Raises
    `UnreadableJson` for bad UTF-8, bad syntax, NaN and infinities, a duplicate field, more than
    `MAX_DEPTH` levels or more than `MAX_BYTES` bytes.
    """
    if len(data) > MAX_BYTES:
        raise UnreadableJson("too_large", f"{len(data)} bytes, at most {MAX_BYTES}")
    if _depth_over(data, MAX_DEPTH):
        raise UnreadableJson("too_deep", f"more than {MAX_DEPTH} levels of nesting")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableJson("not_utf8", f"invalid UTF-8 at byte {error.start}") from None
    try:
        return _DECODER.decode(text)
    except UnreadableJson:
        raise
    except (ValueError, ArithmeticError, RecursionError) as error:
        position = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise UnreadableJson("unreadable", f"not JSON{position}") from None


def canonical_json(value: Any) -> str:
    """Render a value of `parse_json` so that equal values give equal text.

    Fields are sorted by code point, numbers are written by value (1.0, 1e0 and 1 are the same).
    """
    try:
        return "".join(_encode(value, 0))
    except TypeError:  # a Decimal inside: the C encoder cannot write one, so write the tree by hand
        return _write(value)


def encode_fields(fields: Iterable[str | None]) -> bytes:
    """Join fields so that no two different lists give the same bytes: each its length, or `-` for null."""
    return "".join([_netstring(f) for f in fields]).encode()


def sha256_of(fields: Iterable[str | None]) -> str:
    """Lowercase hex sha256 of the fields' encoding."""
    return hashlib.sha256(encode_fields(fields)).hexdigest()


def _netstring(field: str | None) -> str:
    if field is None:
        return "-"
    return f"{len(field)}:{field}" if field.isascii() else f"{len(field.encode())}:{field}"


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


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise UnreadableJson("duplicate_field", "a field is given twice in one object")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise UnreadableJson("unreadable", f"{name} is not JSON")


def _int(text: str) -> int | Decimal:
    return int(text) if len(text.lstrip("-")) <= _LONG_INT else Decimal(text)


def _write(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{_write(k)}:{_write(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_write, value)) + "]"
    if isinstance(value, Decimal):
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


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_fields, parse_float=Decimal, parse_int=_int, parse_constant=_refuse_constant
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
# `_ENCODER.encode` makes one of these for each value. Markers would look for circles, which JSON has not.
_encode = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, _ENCODER.default, encode_basestring, None, ":", ",", True, False, False
)
