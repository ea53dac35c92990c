"""The contract as JSON Schema: one document per contract version, made from the judge's own rules.

Belongs here: saying the contract's rules in JSON Schema's words, and what these words cannot say.
Does not: judging (`judge.py`), comparing versions (`schema_changes.py`), files and registries (`streaming/`).
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from quality import fields as rules  # its patterns and required fields: no rule is written twice
from quality.contract import (
    AMOUNT_LIMIT,
    AMOUNT_SCALE,
    EVENT_TYPES,
    MAX_ID_BYTES,
    MAX_REVISION,
    NETWORKS,
    REFERENCE,
    REVERSED,
    STATUSES,
    Contract,
)
from quality.currencies import MINOR_UNITS

Schema = dict[str, Any]

NAME = "payment-event"
DRAFT = "http://json-schema.org/draft-07/schema#"
# Rules of the judge that JSON Schema has no words for: a record can match the schema and still break these.
BEYOND_SCHEMA = {
    "not_utf8": "The bytes are UTF-8.",
    "unreadable": "They are one JSON value as RFC 8259 has it: no NaN, no infinity, nothing behind it.",
    "duplicate_field": "No field is given twice in one object.",
    "too_large": "A record has at most 256 KiB.",
    "too_deep": "Objects and arrays are nested 32 levels at most.",
    "not_unicode": "No text holds half of a surrogate pair.",
    "length": f"An identifier has at most {MAX_ID_BYTES} bytes in UTF-8 (the schema counts characters).",
    "format": "A time is one that the calendar has.",
    "range": "An amount written with an exponent is below 10^15 too, and not nearer to 0 than 0.0001.",
    "scale": "An amount has no more decimal places than its currency, however it is written.",
    "type": "A revision is written without fraction and exponent.",
    "future": "`event_ts` is not later than the record came, give or take the tolerance below.",
    "age": "`event_ts` is not older than the limit of its type below.",
}

# Attributes that we know of, with their JSON type: a remark for readers, and what drift is measured against.
# The judge takes any attribute of any type.
KNOWN_ATTRIBUTES = {
    "card": "object",
    "channel": "string",
    "correction": "object",
    "device": "object",
    "fraud": "string",
    "merchant": "object",
    "response": "object",
    "risk": "object",
    "routing": "object",
    "terminal": "object",
    "three_ds": "object",
    "transaction_id": "string",
}
FIELDS = frozenset(name for name, _, _ in rules.FIELDS)

_EXPONENT = r"[eE][+-]?[0-9]+"
_AMOUNT_DIGITS = AMOUNT_LIMIT.adjusted()
_MEANINGS = {
    "event_id": "UUID of the event, in any version of UUID; the same event sent again has the same one",
    "event_type": "What happened",
    "event_ts": "When it happened; fixed for an event",
    "ingest_ts": "When the sender took it in; it differs between two sendings of one event",
    "account_id": "Account at the card's issuer; fixed for an event",
    "card_id": "Token of the card, never its number",
    "merchant_id": "Merchant",
    "amount": "Amount in the currency's major unit, exact: best as a string, or a number taken by its text",
    "currency": "ISO 4217 code",
    "network": "Card network",
    "status": "What became of it; REVERSED takes the event back",
    "attributes": "Everything else; may be empty",
    "revision": "Number of the correction: the highest wins; absent, null and 0 mean none",
    "original_event_id": "Event that this one refers to; on a REVERSED one, the event it takes back",
    "transaction_ref": "The partner's reference of the transaction, the same on all its events",
}


def event_schema(contract: Contract) -> Schema:
    """Say a contract version in JSON Schema (draft 7).

    Whatever the judge accepts matches it. What matches it and is refused breaks a rule of `BEYOND_SCHEMA`.
    Fields that it does not name are allowed: they are kept under `attributes`.
    """
    fragments = _fragments()
    required = [name for name, _, is_required in rules.FIELDS if is_required]
    return {
        "$schema": DRAFT,
        "$id": f"urn:paywave:{NAME}:{contract.version}",
        "title": "PayWave payment event",
        "description": f"Contract version {contract.version}",
        "x-effective-from": contract.effective_from.isoformat(),
        "type": "object",
        "required": required,
        "properties": {
            name: {"description": _MEANINGS[name], **_optional(fragments[name], name not in required)}
            for name, _, _ in rules.FIELDS
        },
        "additionalProperties": True,
        "allOf": [*_scales(), *_more_than_zero(contract), *_refers(contract)],
    }


def _fragments() -> dict[str, Schema]:
    uuid = {"type": "string", "pattern": _whole(rules.UUID.pattern)}
    time = {"type": "string", "pattern": _whole(rules.TIME.pattern)}
    identifier = {"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES}
    return {
        "event_id": uuid,
        "event_type": _one_of(EVENT_TYPES),
        "event_ts": time,
        "ingest_ts": time,
        "account_id": identifier,
        "card_id": identifier,
        "merchant_id": identifier,
        "amount": _amount(AMOUNT_SCALE),
        "currency": _one_of(MINOR_UNITS),
        "network": _one_of(NETWORKS),
        "status": _one_of(STATUSES),
        "attributes": {"type": "object", "x-known": KNOWN_ATTRIBUTES},
        "revision": {"type": "integer", "minimum": 0, "maximum": MAX_REVISION},
        "original_event_id": uuid,
        "transaction_ref": identifier,
    }


def _optional(fragment: Schema, is_optional: bool) -> Schema:
    """Null is the same as absent."""
    return {**fragment, "type": [fragment["type"], "null"]} if is_optional else fragment


def _one_of(values: frozenset[str] | dict[str, int]) -> Schema:
    return {"type": "string", "enum": sorted(values)}


def _amount(places: int) -> Schema:
    """An amount of so many decimal places, trailing zeros aside; with an exponent, any."""
    number: Schema = {"type": "number", "minimum": 0, "exclusiveMaximum": int(AMOUNT_LIMIT)}
    if places == 0:
        number["multipleOf"] = 1  # of fractions (0.01) a validator that counts in floats would be wrong
    fraction = rf"(?:\.[0-9]{{1,{places}}}0*)?" if places else r"(?:\.0+)?"
    plain = rf"(?:0|[1-9][0-9]{{0,{_AMOUNT_DIGITS - 1}}}){fraction}"
    scientific = rf"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?{_EXPONENT}"
    text = {"type": "string", "pattern": _whole(f"{plain}|{scientific}|-{_zero()}")}
    return {"anyOf": [text, number]}


def _zero() -> str:
    return rf"0(?:\.0+)?(?:{_EXPONENT})?"


def _scales() -> list[Schema]:
    """Each currency's decimal places, for the amounts that the pattern of all does not hold to them."""
    by_places = groupby(sorted(MINOR_UNITS, key=lambda c: (MINOR_UNITS[c], c)), key=MINOR_UNITS.__getitem__)
    return [
        _when({"currency": list(codes)}, _amount(places))
        for places, codes in by_places
        if places < AMOUNT_SCALE
    ]


def _more_than_zero(contract: Contract) -> list[Schema]:
    if not contract.more_than_zero:
        return []
    not_zero = {"not": {"anyOf": [{"const": 0}, {"type": "string", "pattern": _whole(f"-?{_zero()}")}]}}
    types, statuses = sorted(contract.more_than_zero), sorted(STATUSES - {REVERSED})
    return [_when({"event_type": types, "status": statuses}, not_zero)]


def _refers(contract: Contract) -> list[Schema]:
    if not contract.refers or REFERENCE in contract.warns:
        return []
    types, statuses = sorted(contract.refers), sorted(STATUSES - {REVERSED})
    named = [
        {"properties": {name: {"type": "string"}}, "required": [name]}
        for name in ("transaction_ref", "original_event_id")
    ]
    return [{"if": _where({"event_type": types, "status": statuses}), "then": {"anyOf": named}}]


def _when(values: dict[str, list[str]], amount: Schema) -> Schema:
    return {"if": _where(values), "then": {"properties": {"amount": amount}}}


def _where(values: dict[str, list[str]]) -> Schema:
    condition = {name: {"enum": allowed} for name, allowed in values.items()}
    return {"properties": condition, "required": list(condition)}


def _whole(pattern: str) -> str:
    """Anchored, as JSON Schema looks for a pattern anywhere; groups need no number there."""
    return f"^(?:{pattern})$"
