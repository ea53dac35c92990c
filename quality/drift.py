"""Schema drift: what a record carries beside the contract.

Belongs here: which fields count as unknown, and how they are named. Does not: counting them over a table
(`streaming/schemas/`), what becomes of the record: it is kept, whatever it carries.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from quality.canonical import UnreadableJson, parse_json
from quality.cards import card_numbers
from quality.event_schema import FIELDS, KNOWN_ATTRIBUTES

MAX_NAME = 128
HIDDEN = "(a name that holds a card number)"
_TYPES: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "number",
    dict: "object",
    list: "array",
    type(None): "null",
}


class Unknown(NamedTuple):
    """A field that the contract does not name, or an attribute not known with this JSON type."""

    field: str
    json_type: str


def unknown_fields(value: bytes | None) -> Iterator[Unknown]:
    """List what a record's bytes carry beside the contract; nothing for bytes that are no JSON object.

    A field at the top is known if the contract names it. One in `attributes` is known if `KNOWN_ATTRIBUTES`
    has it with that type, or it is null; else it is called `attributes.<name>`. What lies deeper belongs to
    the attribute around it.
    """
    try:
        fields = parse_json(value or b"")
    except UnreadableJson:
        return
    if not isinstance(fields, dict):
        return
    for name in fields.keys() - FIELDS:
        yield Unknown(shown(name), json_type(fields[name]))
    attributes = fields.get("attributes")
    if isinstance(attributes, dict):
        for name, inner in attributes.items():
            kind = json_type(inner)
            if kind not in (KNOWN_ATTRIBUTES.get(name), "null" if name in KNOWN_ATTRIBUTES else ""):
                yield Unknown(f"attributes.{shown(name)}", kind)


def json_type(value: Any) -> str:
    """JSON's name for the type of a value of `parse_json`; a number is a number, whole or not."""
    return _TYPES.get(type(value)) or ("number" if isinstance(value, Decimal) else "string")


def shown(name: str) -> str:
    """A name as it may be kept and shown: who chose it may have made it long, broken, or a card number."""
    if card_numbers(name):
        return HIDDEN
    return name[:MAX_NAME].encode("utf-8", "replace").decode()
