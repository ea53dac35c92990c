"""The verdict on one record: an `Event`, or every rule that it breaks.

Belongs here: the rules. Does not: what becomes of a verdict (quarantine, an HTTP answer).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

from quality.canonical import UnreadableJson, canonical_json, encode_fields, parse_json
from quality.contract import (
    AMOUNT_LIMIT,
    AMOUNT_SCALE,
    EVENT_TYPES,
    MAX_ID_BYTES,
    MAX_REVISION,
    NETWORKS,
    REVERSED,
    STATUSES,
    Contract,
    Event,
    Violation,
)
from quality.currencies import MINOR_UNITS

_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}(?::[0-9]{2}(?:\.([0-9]{1,6}))?)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)"
)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ONE_TEN_THOUSANDTH = Decimal(1).scaleb(-AMOUNT_SCALE)
_SHOWN = 4


class Breach(ValueError):
    """A value breaks a rule."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def judge(
    value: bytes | None, kafka_ts: datetime, contract: Contract, archive: bool = False
) -> Event | list[Violation]:
    """Judge one record's bytes as of its Kafka time (UTC).

    Args:
        value: the record's bytes, exactly as received; None for a record without a value.
        kafka_ts: the record's LogAppendTime; age and future bounds are judged against it, never the clock.
        contract: the version in force at that time.
        archive: waives the oldest accepted age (a partner's archive, sent knowingly).

    Returns:
        The event, or the violations (never empty), in the order of the fields on the wire.
    """
    try:
        fields = parse_json(value or b"")
    except UnreadableJson as error:
        return [Violation(error.rule, "", _masked(value), str(error))]
    if not isinstance(fields, dict):
        return [Violation("not_an_object", "", _masked(value), "a JSON object is wanted")]
    checked, violations = _check_fields(fields)
    violations += _cross_checks(checked, kafka_ts, contract, archive)
    return violations or _event(checked)


def micros(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def _check_fields(fields: dict[str, Any]) -> tuple[dict[str, Any], list[Violation]]:
    checked: dict[str, Any] = {}
    violations: list[Violation] = []
    take = fields.pop
    for name, rule, required in _RULES:
        raw = take(name, None)
        if raw is None:
            if required:
                violations.append(Violation("missing", name, "", f"{name} is required"))
            continue
        try:
            checked[name] = rule(raw)
        except Breach as breach:
            violations.append(Violation(breach.rule, name, _masked(raw), f"{name}: {breach}"))
    if fields and "attributes" in checked:
        checked["attributes"] = _keep_unknown(checked["attributes"], fields)
    try:
        checked["attributes"] = _text_of_attributes(checked.get("attributes"))
    except Breach as breach:
        violations.append(Violation(breach.rule, "attributes", "", str(breach)))
    return checked, violations


def _keep_unknown(attributes: dict[str, Any], unknown: dict[str, Any]) -> dict[str, Any]:
    kept = dict(attributes)
    for name, value in unknown.items():
        key = name
        while key in kept:  # an attribute of the same name is another fact: keep both
            key = "~" + key
        kept[key] = value
    return kept


def _cross_checks(
    checked: dict[str, Any], kafka_ts: datetime, contract: Contract, archive: bool
) -> list[Violation]:
    found = []
    amount, currency = checked.get("amount"), checked.get("currency")
    if amount is not None and currency is not None and _needs_more_places(amount, MINOR_UNITS[currency]):
        message = f"amount: {currency} has {MINOR_UNITS[currency]} decimal places"
        found.append(Violation("scale", "amount", _masked(amount), message))
    event_ts, event_type = checked.get("event_ts"), checked.get("event_type")
    if event_ts is not None and event_ts - kafka_ts > contract.max_future:
        message = f"event_ts: more than {contract.max_future} after the record's Kafka time"
        found.append(Violation("future", "event_ts", event_ts.isoformat(), message))
    if event_ts is not None and event_type is not None and not archive:
        limit = contract.max_age[event_type]
        if kafka_ts - event_ts > limit:
            message = f"event_ts: {event_type} is accepted up to {limit.days} days late"
            found.append(Violation("age", "event_ts", event_ts.isoformat(), message))
    if amount == 0 and event_type in contract.more_than_zero and checked.get("status") != REVERSED:
        message = f"amount: of a {event_type} more than 0 is wanted"
        found.append(Violation("range", "amount", _masked(amount), message))
    return found


def _event(c: dict[str, Any]) -> Event:
    event_id, original = c["event_id"], c.get("original_event_id")
    amount = c["amount"].quantize(_ONE_TEN_THOUSANDTH)
    event_micros, amount_text = str(micros(c["event_ts"])), format(amount, "f")
    business = (
        c["event_type"], c["account_id"], c["card_id"], c["merchant_id"],
        c["network"], c["currency"], amount_text, event_micros,
    )  # fmt: skip
    revision, reference = c.get("revision"), c.get("transaction_ref")
    revision_text = None if revision is None else str(revision)
    what = encode_fields(business)  # part of the content too: encoded once
    rest = (c["status"], revision_text, original, reference, c["attributes"])
    content = encode_fields((event_id,)) + what + encode_fields(rest)
    return Event(
        event_id, c["event_type"], c["event_ts"], c["ingest_ts"], c["account_id"], c["card_id"],
        c["merchant_id"], amount, c["currency"], c["network"], c["status"], revision, original, reference,
        c["attributes"], sha256(content).hexdigest(), sha256(what).hexdigest(),
    )  # fmt: skip


def _text_of_attributes(attributes: dict[str, Any] | None) -> str | None:
    if attributes is None:
        return None
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
    if not _UUID.fullmatch(text):
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
    if not _TIME.fullmatch(text):
        raise Breach("format", "ISO 8601 with an offset and at most six fractional digits is wanted")
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Breach("format", "no such moment") from None


def _amount(raw: Any) -> Decimal:
    number = _decimal(raw)
    if number < 0:
        raise Breach("range", "negative")
    # adjusted() first: quantizing 1e400 or 1e-999999 would be refused or lose digits
    if number != 0 and (number.adjusted() >= AMOUNT_LIMIT.adjusted() or number.adjusted() < -AMOUNT_SCALE):
        raise Breach("range", f"outside DECIMAL(19,{AMOUNT_SCALE})")
    if _needs_more_places(number, AMOUNT_SCALE):
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


def _needs_more_places(number: Decimal, places: int) -> bool:
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


def _masked(raw: Any) -> str:
    """Show at most the first characters: a broken field may hold a card number."""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    shown = text[:_SHOWN].encode("utf-8", "replace").decode()
    return shown if len(text) <= _SHOWN else f"{shown}… ({len(text)} characters)"


# Field on the wire -> its rule, and whether it is required. Unknown fields are kept under `attributes`.
_RULES: tuple[tuple[str, Callable[[Any], Any], bool], ...] = (
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
