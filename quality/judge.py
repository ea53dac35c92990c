"""The verdict on one record: an `Event`, or every rule that it breaks.

Belongs here: the rules. Does not: what becomes of a verdict (quarantine, an HTTP answer).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from operator import itemgetter
from typing import Any

from quality.canonical import UnreadableJson, encode_fields, parse_json
from quality.contract import (
    AMOUNT_SCALE,
    BUSINESS_KEY,
    REFERENCE,
    REVERSED,
    Contract,
    Event,
    Violation,
)
from quality.currencies import MINOR_UNITS
from quality.fields import FIELDS, Breach, attributes_text, masked, needs_more_places
from quality.usual import as_usual

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_as_told = itemgetter(*BUSINESS_KEY[:-2])  # its other two, amount and event_ts, are written by value
_ONE_TEN_THOUSANDTH = Decimal(1).scaleb(-AMOUNT_SCALE)


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
        return [Violation(error.rule, "", masked(value), str(error))]
    if not isinstance(fields, dict):
        return [Violation("not_an_object", "", masked(value), "a JSON object is wanted")]
    return judge_fields(fields, kafka_ts, contract, archive)


def judge_fields(
    fields: dict[str, Any], kafka_ts: datetime, contract: Contract, archive: bool = False
) -> Event | list[Violation]:
    """Judge a record that is parsed already: `fields` is an object of `parse_json`, and stays as it is."""
    typed = as_usual(fields)
    if typed is not None:
        return _checked_together(typed, kafka_ts, contract, archive) or _event(typed)
    checked, violations = _check_fields(dict(fields))
    violations += _scale_check(checked)
    violations += _checked_together(checked, kafka_ts, contract, archive)
    return violations or _event(checked)


def micros(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def _check_fields(fields: dict[str, Any]) -> tuple[dict[str, Any], list[Violation]]:
    checked: dict[str, Any] = {}
    violations: list[Violation] = []
    take = fields.pop
    for name, rule, required in FIELDS:
        raw = take(name, None)
        if raw is None:
            if required:
                violations.append(Violation("missing", name, "", f"{name} is required"))
            continue
        try:
            checked[name] = rule(raw)
        except Breach as breach:
            violations.append(Violation(breach.rule, name, masked(raw), f"{name}: {breach}"))
    if fields and "attributes" in checked:
        checked["attributes"] = _keep_unknown(checked["attributes"], fields)
    try:
        if "attributes" in checked:
            checked["attributes"] = attributes_text(checked["attributes"])
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


def _scale_check(checked: dict[str, Any]) -> list[Violation]:
    amount, currency = checked.get("amount"), checked.get("currency")
    if amount is None or currency is None or not needs_more_places(amount, MINOR_UNITS[currency]):
        return []
    message = f"amount: {currency} has {MINOR_UNITS[currency]} decimal places"
    return [Violation("scale", "amount", masked(amount), message)]


def _checked_together(
    checked: dict[str, Any], kafka_ts: datetime, contract: Contract, archive: bool
) -> list[Violation]:
    """Check what fields say together and of the record's time, as far as each is right by itself."""
    found: list[Violation] = []
    event_ts, event_type = checked.get("event_ts"), checked.get("event_type")
    if event_ts is not None and event_ts - kafka_ts > contract.max_future:
        message = f"event_ts: more than {contract.max_future} after the record's Kafka time"
        found.append(Violation("future", "event_ts", event_ts.isoformat(), message))
    if event_type is None:
        return found
    limit = contract.max_age[event_type]
    if event_ts is not None and kafka_ts - event_ts > limit and not archive:
        message = f"event_ts: {event_type} is accepted up to {limit.days} days late"
        found.append(Violation("age", "event_ts", event_ts.isoformat(), message))
    if event_type in contract.more_than_zero and checked.get("amount") == 0:
        message = f"amount: of a {event_type} more than 0 is wanted"
        found += _unless_reversed(checked, Violation("range", "amount", masked(checked["amount"]), message))
    if event_type in contract.refers and REFERENCE not in contract.warns and not refers(checked):
        found += _unless_reversed(checked, no_reference(event_type))
    return found


def refers(checked: Mapping[str, Any]) -> bool:
    """Tell whether an event says which transaction it belongs to."""
    return checked.get("transaction_ref") is not None or checked.get("original_event_id") is not None


def no_reference(event_type: str) -> Violation:
    """The breach of an event that does not."""
    message = (
        f"transaction_ref: a {event_type} says which transaction it belongs to, or its original_event_id"
    )
    return Violation(REFERENCE, "transaction_ref", "", message)


def _unless_reversed(checked: dict[str, Any], violation: Violation) -> list[Violation]:
    return [] if checked.get("status") == REVERSED else [violation]


def _event(c: dict[str, Any]) -> Event:
    event_id, original = c["event_id"], c.get("original_event_id")
    amount = c["amount"].quantize(_ONE_TEN_THOUSANDTH)
    event_micros, amount_text = str(micros(c["event_ts"])), format(amount, "f")
    business = (*_as_told(c), amount_text, event_micros)
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
