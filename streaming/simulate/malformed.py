"""Lines that break the contract: a table of kinds, each with the rules it breaks.

Belongs here: broken records, each of which must end in quarantine. Does not: dirt that the contract allows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from streaming.simulate.draft import Draft

Fields = dict[str, Any]


class Malformed(NamedTuple):
    """One way to break a record: the rules of `quality.judge` that it breaks, and how it is written."""

    name: str
    rules: frozenset[str]
    write: Callable[[Random, Fields], bytes]


def broken_line(rng: Random, draft: Draft) -> bytes:
    """Render an event broken in one way of the table; the line holds no line end."""
    draft.line()  # writes ingest_ts
    return KINDS[int(rng.random() * len(KINDS))].write(rng, dict(draft.fields))


def _dumps(fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def _changed(**changes: Any) -> Callable[[Random, Fields], bytes]:
    return lambda _rng, fields: _dumps(fields | changes)


def _one_of(*changes: Fields) -> Callable[[Random, Fields], bytes]:
    return lambda rng, fields: _dumps(fields | rng.choice(changes))


def _raw_amount(text: str) -> Callable[[Random, Fields], bytes]:
    """Write `amount` as a bare word, as no JSON writer of Python would."""
    return lambda _rng, fields: _dumps(fields | {"amount": "@"}).replace(b'"@"', text.encode(), 1)


def _not_json(rng: Random, fields: Fields) -> bytes:
    return rng.choice((b"service unavailable", b"<event/>", _dumps(fields).replace(b'"', b"'"), b"{]"))


def _truncated(rng: Random, fields: Fields) -> bytes:
    text = _dumps(fields).decode()
    return text[: rng.randrange(1, len(text))].encode()


def _not_utf8(_rng: Random, fields: Fields) -> bytes:
    return _dumps(fields).replace(b'"status"', b'"note":"caf\xe9 \xff","status"', 1)


def _not_an_object(rng: Random, fields: Fields) -> bytes:
    return rng.choice((_dumps([fields]), _dumps(json.dumps(fields)), b"null", b"42", b"true"))


def _too_deep(_rng: Random, fields: Fields) -> bytes:
    return _dumps(fields).replace(b'"attributes":{', b'"attributes":{"x":' + b"[" * 64 + b"]" * 64 + b",", 1)


def _missing(rng: Random, fields: Fields) -> bytes:
    name = rng.choice(_REQUIRED)
    if rng.random() < 0.5:
        return _dumps(fields | {name: None})
    del fields[name]
    return _dumps(fields)


def _duplicate_field(_rng: Random, fields: Fields) -> bytes:
    return b'{"amount":"1",' + _dumps(fields)[1:]


def _byte_order_mark(_rng: Random, fields: Fields) -> bytes:
    return b"\xef\xbb\xbf" + _dumps(fields)


def _seven_digits(_rng: Random, fields: Fields) -> bytes:
    return _dumps(fields | {"event_ts": fields["event_ts"].replace("Z", "1Z")})


def _naive(rng: Random, fields: Fields) -> bytes:
    return _dumps(fields | {rng.choice(("event_ts", "ingest_ts")): fields["event_ts"].replace("Z", "")})


def _half_surrogate(_rng: Random, fields: Fields) -> bytes:
    return json.dumps(fields | {"merchant_id": "shop-\ud83d"}).encode()


def _kind(name: str, rule: str, write: Callable[[Random, Fields], bytes]) -> Malformed:
    return Malformed(name, frozenset({rule}), write)


_REQUIRED = ("event_id", "event_type", "event_ts", "account_id", "amount", "currency", "attributes")
_LONG = {"account_id": "a" * 129}, {"merchant_id": "é" * 65}, {"card_id": "tok_" + "x" * 200}
_TYPES = {"amount": {"value": "1"}}, {"amount": True}, {"account_id": 7}, {"attributes": ["a"]}, {"status": 1}
_ENUMS = {"event_type": "VOID"}, {"network": "visa"}, {"status": "PENDING"}, {"currency": "ZZZ"}
_SCALES = (
    {"currency": "JPY", "amount": "100.5"}, {"currency": "USD", "amount": "9.999"},
    {"currency": "KWD", "amount": "1.0005"},
)  # fmt: skip
_IDS = {"event_id": "not-a-uuid"}, {"event_id": "0" * 32}, {"original_event_id": "12345"}

KINDS: tuple[Malformed, ...] = (
    _kind("not_json", "unreadable", _not_json),
    _kind("truncated", "unreadable", _truncated),
    _kind("nan", "unreadable", _raw_amount("NaN")),
    _kind("leading_zero", "unreadable", _raw_amount("007.5")),
    _kind("byte_order_mark", "unreadable", _byte_order_mark),
    _kind("not_utf8", "not_utf8", _not_utf8),
    _kind("not_an_object", "not_an_object", _not_an_object),
    _kind("too_deep", "too_deep", _too_deep),
    _kind("duplicate_field", "duplicate_field", _duplicate_field),
    _kind("missing_field", "missing", _missing),
    _kind("wrong_type", "type", _one_of(*_TYPES)),
    _kind("unknown_value", "enum", _one_of(*_ENUMS)),
    _kind("naive_time", "format", _naive),
    _kind("seven_fractional_digits", "format", _seven_digits),
    _kind("no_such_day", "format", _changed(event_ts="2026-02-30T12:00:00Z")),
    _kind("far_future", "future", _changed(event_ts="2100-01-01T00:00:00Z")),
    _kind("too_old", "age", _changed(event_ts="1970-01-01T00:00:00Z")),
    _kind("negative_amount", "range", _changed(amount="-1")),
    _kind("huge_amount", "range", _one_of({"amount": "1e400"}, {"amount": "1000000000000000"})),
    _kind("huge_number", "range", _raw_amount("1e400")),
    _kind("amount_not_a_number", "format", _one_of({"amount": "NaN"}, {"amount": "12,50"}, {"amount": ""})),
    _kind("too_many_decimals", "scale", _one_of(*_SCALES)),
    _kind("bad_uuid", "format", _one_of(*_IDS)),
    _kind("empty_id", "length", _one_of({"account_id": ""}, {"card_id": ""}, {"transaction_ref": ""})),
    _kind("long_id", "length", _one_of(*_LONG)),
    _kind("half_surrogate", "not_unicode", _half_surrogate),
    _kind("negative_revision", "range", _changed(revision=-1)),
    _kind("fractional_revision", "type", _changed(revision=1.5)),
    _kind("two_rules", "enum", _changed(event_type="PAYOUT", amount="-5"))._replace(
        rules=frozenset({"enum", "range"})
    ),
)
