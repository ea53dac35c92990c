"""The short way: a record that is written as nearly all are is typed in one look.

Belongs here: that look. Does not: a rule of its own. Its pattern is made of those of `fields.py`, and what it
does not know at sight is looked at field by field (`judge.py`). A test holds both to the same result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from quality.contract import AMOUNT_LIMIT, AMOUNT_SCALE, EVENT_TYPES, MAX_ID_BYTES, NETWORKS, STATUSES
from quality.currencies import MINOR_UNITS
from quality.fields import FIELDS, TIME, UUID, Breach, attributes_text, moment


def _one_of(values: Iterable[str]) -> str:
    return "|".join(sorted(values))


_ID = rf"[ -~]{{1,{MAX_ID_BYTES}}}"  # of visible ASCII: as many bytes as characters
_AMOUNT = rf"(?:0|[1-9][0-9]{{0,{AMOUNT_LIMIT.adjusted() - 1}}})(?:\.[0-9]{{1,{AMOUNT_SCALE}}})?"
_LINES = (
    UUID.pattern, _one_of(EVENT_TYPES), TIME.pattern, TIME.pattern, _ID, _ID, _ID, _AMOUNT,
    _one_of(MINOR_UNITS), _one_of(NETWORKS), _one_of(STATUSES), f"(?:{UUID.pattern})?", f"(?:{_ID})?",
)  # fmt: skip
# None of the patterns matches the end of a line, so no field can pass for two.
_USUAL = re.compile("\n".join(f"(?:{line})" for line in _LINES))
_REQUIRED = sum(is_required for _, _, is_required in FIELDS)
_rule_of_revision = next(rule for name, rule, _ in FIELDS if name == "revision")


def as_usual(fields: dict[str, Any]) -> dict[str, Any] | None:
    """Type the fields of an ordinary record, `attributes` to canonical text; None: look closer.

    What is typed keeps the rules of every field, and its amount its currency's decimal places.
    """
    get = fields.get
    try:
        amount, currency, attributes = fields["amount"], fields["currency"], fields["attributes"]
        original, reference = get("original_event_id"), get("transaction_ref")
        amount = amount if isinstance(amount, str) else str(amount)  # a number is taken by its text
        told = "\n".join((
            fields["event_id"], fields["event_type"], fields["event_ts"], fields["ingest_ts"],
            fields["account_id"], fields["card_id"], fields["merchant_id"], amount,
            currency, fields["network"], fields["status"],
            "" if original is None else original, "" if reference is None else reference,
        ))  # fmt: skip
        if not _USUAL.fullmatch(told) or original == "" or reference == "":
            return None
        optional = ("revision" in fields) + ("original_event_id" in fields) + ("transaction_ref" in fields)
        places = len(amount) - amount.find(".") - 1 if "." in amount else 0
        if len(fields) != _REQUIRED + optional or places > MINOR_UNITS[currency]:
            return None  # fields to be kept, or zeros that are no places
        return _typed(fields, amount, attributes) if isinstance(attributes, dict) else None
    except (KeyError, TypeError, Breach):
        return None


def _typed(fields: dict[str, Any], amount: str, attributes: dict[str, Any]) -> dict[str, Any]:
    typed = fields.copy()
    if typed.get("revision") is not None:
        typed["revision"] = _rule_of_revision(typed["revision"])
    if typed.get("original_event_id") is not None:
        typed["original_event_id"] = typed["original_event_id"].lower()
    typed["event_id"] = fields["event_id"].lower()
    typed["event_ts"] = moment(fields["event_ts"])
    typed["ingest_ts"] = moment(fields["ingest_ts"])
    typed["amount"] = Decimal(amount)
    typed["attributes"] = attributes_text(attributes)
    return typed
