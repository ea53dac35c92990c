"""Edits of the event's JSON Schema: those that break an older one, and those that do not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from quality.contract import HISTORY
from quality.event_schema import Schema, event_schema

OLD = event_schema(HISTORY[0])
Change = Callable[[Schema], Any]


def field(name: str, **changes: Any) -> Change:
    return lambda schema: schema["properties"].setdefault(name, {}).update(changes)


def new_currency(schema: Schema) -> None:
    schema["properties"]["currency"]["enum"].append("XBT")
    schema["allOf"][0]["if"]["properties"]["currency"]["enum"].append("XBT")


HARMLESS: dict[str, Change] = {
    "nothing": lambda schema: None,
    "words": lambda schema: schema.update(title="other", description="other"),
    "a new optional field": field("channel", type="string"),
    "one field less that is required": lambda schema: schema["required"].remove("network"),
    "one value more": lambda schema: schema["properties"]["network"]["enum"].append("JCB"),
    "a new currency with a condition of its own": new_currency,
    "longer identifiers": field("account_id", maxLength=256),
    "a field forgotten": lambda schema: schema["properties"].pop("revision"),
    "a condition less": lambda schema: schema["allOf"].pop(),
    "one type more": field("account_id", type=["string", "integer"]),
}
BREAKING: dict[str, tuple[Change, str]] = {
    "a new required field": (lambda schema: schema["required"].append("channel"), "channel is now required"),
    "an optional field required": (lambda s: s["required"].append("revision"), "revision is now required"),
    "a value less": (lambda s: s["properties"]["network"]["enum"].remove("AMEX"), "no longer allowed: AMEX"),
    "another type": (field("account_id", type="integer"), "account_id: type string was allowed"),
    "null no more": (field("revision", type="integer"), "revision: type null was allowed"),
    "shorter identifiers": (field("card_id", maxLength=64), "card_id: maxLength was 128, now 64"),
    "longer ones wanted": (field("card_id", minLength=2), "card_id: minLength was 1, now 2"),
    "another pattern": (field("event_id", pattern="^x$"), "event_id: pattern was"),
    "a form less": (lambda s: s["properties"]["amount"]["anyOf"].pop(), "amount: one of the forms"),
    "closed to unknown fields": (lambda s: s.update(additionalProperties=False), "not name were allowed"),
    "a condition more": (lambda s: s.update(allOf=event_schema(HISTORY[1])["allOf"]), "for CHARGEBACK APPR"),
    "a keyword nobody thought of": (field("attributes", maxProperties=3), "maxProperties was not set, now 3"),
    "an enumeration where there was none": (field("account_id", enum=["a"]), "any value was allowed"),
}  # fmt: skip


def changed(change: Change) -> Schema:
    schema = copy.deepcopy(OLD)
    change(schema)
    return schema
