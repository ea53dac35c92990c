"""The contract as a page for partners, made from the schemas. Belongs here: its words and tables. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from quality.contract import BUSINESS_KEY, Contract
from quality.currencies import MINOR_UNITS
from quality.event_schema import BEYOND_SCHEMA, Schema, event_schema

_INTRODUCTION = """\
# What a payment event must be

<!-- Made from the contract by `paywave schemas write`. Do not edit: a test holds it to the code. -->

An event is one JSON object. Whatever you send is kept byte by byte. An event that breaks a rule below is not
counted: it goes to quarantine with every rule that it breaks, and your other events go on. Sending an event
again changes nothing, as long as it has the same `event_id`.

The same in JSON Schema (draft 7): {files} in `quality/schemas/payment-event/`.
"""
_UNKNOWN = """\
## Fields that are not in the table

They are allowed and kept, under `attributes`. So are other attributes than those that we know of:
{attributes}.
Fields that tell who somebody is (names, addresses of any kind, telephone numbers and the like) are encrypted
as soon as they come in, with a key per account. Better do not send them; if you must, tell us their names.
We note what comes, from whom and since when (`paywave schemas drift`), and ask. Please tell us first: a field
that becomes part of the contract later has one type.
"""
_SEVERITY = """\
## What a breach leads to

A record that breaks a rule goes to quarantine, whichever rule it is. Of some rules a version only warns: a
record that breaks no other counts.

"""
_EXAMPLE: dict[str, Any] = {
    "event_id": "6f1c2f0e-2f43-4c8e-9c53-0d6f3f1f8a11",
    "event_type": "CAPTURE",
    "event_ts": "2026-11-20T12:00:00.000001Z",
    "ingest_ts": "2026-11-20T12:00:01Z",
    "account_id": "acct-1001",
    "card_id": "tok-77",
    "merchant_id": "shop-9",
    "amount": "12.50",
    "currency": "EUR",
    "network": "VISA",
    "status": "APPROVED",
    "transaction_ref": "T-2026-0001",
    "attributes": {"channel": "pos"},
}


def contract_page(history: tuple[Contract, ...]) -> str:
    """Render the page, in Markdown: the newest version's fields, all versions' dates and limits."""
    newest = event_schema(history[-1])
    files = ", ".join(f"`v{c.version}.json`" for c in history)
    parts = [
        _INTRODUCTION.format(files=files),
        _versions(history),
        _fields(newest),
        "## Rules that the table cannot say\n\n" + "".join(f"- {text}\n" for text in _beyond()),
        _limits(history[-1]),
        _SEVERITY + "".join(_warned(c) for c in history if c.warns),
        f"## When two events are the same payment\n\nWhen they agree in {_names(BUSINESS_KEY)}.\n",
        _currencies(),
        _UNKNOWN.format(attributes=_attributes(newest)),
        f"## An example\n\n```json\n{json.dumps(_EXAMPLE, indent=2)}\n```\n",
    ]
    return "\n".join(parts)


def _versions(history: tuple[Contract, ...]) -> str:
    rows = [
        f"| {c.version} | {_since(c, history)} | {c.announced_break or 'Nothing that was allowed.'} |\n"
        for c in history
    ]
    head = (
        "| version | judges what Kafka takes | what it refuses beside the version before |\n|---|---|---|\n"
    )
    return "## Versions\n\n" + head + "".join(rows)


def _since(contract: Contract, history: tuple[Contract, ...]) -> str:
    return (
        "from the beginning"
        if contract == history[0]
        else f"from {contract.effective_from:%Y-%m-%d %H:%M} UTC"
    )


def _fields(schema: Schema) -> str:
    needed = schema["required"]
    rows = [
        f"| `{name}` | {'yes' if name in needed else 'no'} | {_wanted(field)} | {field['description']} |\n"
        for name, field in schema["properties"].items()
    ]
    return "## Fields\n\n| field | required | value | meaning |\n|---|---|---|---|\n" + "".join(rows)


def _wanted(field: Schema) -> str:
    if "anyOf" in field:
        return "decimal, as a string or a number; not negative"
    if "enum" in field:
        return (
            ", ".join(field["enum"]) if len(field["enum"]) < 10 else f"one of {len(field['enum'])}, see below"
        )
    if "pattern" in field:
        return (
            "UUID"
            if field["pattern"].startswith("^(?:[0-9a-fA-F]{8}")
            else "ISO 8601 with offset, at most six fractional digits"
        )
    if "maxLength" in field:
        return f"text, {field['minLength']} to {field['maxLength']} bytes"
    return "whole number, 0 or more" if "maximum" in field else "object"


def _warned(contract: Contract) -> str:
    return f"- Version {contract.version} warns of: {_names(sorted(contract.warns))}.\n"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _attributes(schema: Schema) -> str:
    known = schema["properties"]["attributes"]["x-known"]
    return ", ".join(f"`{name}` ({json_type})" for name, json_type in known.items())


def _beyond() -> list[str]:
    return list(dict.fromkeys(BEYOND_SCHEMA.values()))


def _limits(contract: Contract) -> str:
    rows = [f"| {name} | {age.days} days |\n" for name, age in contract.max_age.items()]
    future = contract.max_future // timedelta(minutes=1)
    return (
        "## How late an event may come\n\n| type | at most after `event_ts` |\n|---|---|\n"
        + "".join(rows)
        + f"\n`event_ts` may be {future} minutes ahead of our clock.\n"
    )


def _currencies() -> str:
    places = sorted(set(MINOR_UNITS.values()))
    codes = {n: sorted(code for code, digits in MINOR_UNITS.items() if digits == n) for n in places}
    rows = [f"| {n} | {', '.join(codes[n])} |\n" for n in places]
    return "## Currencies\n\n| decimal places | currencies |\n|---|---|\n" + "".join(rows)
