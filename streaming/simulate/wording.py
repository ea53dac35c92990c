"""Other texts of the same value: what a redelivery may look like after another system has written it again.

Belongs here: changes that the contract calls no change. Does not: any change of value.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import Any

from streaming.simulate.draft import Draft

_OFFSETS = tuple(timezone(timedelta(minutes=m)) for m in (0, 60, 120, -300, -480, 330, 540))
Rewording = Callable[[Random, dict[str, Any]], None]


def reworded(rng: Random, draft: Draft) -> bytes:
    """Render the draft with one to three rewordings; the value stays, the bytes hardly ever."""
    draft.line()  # writes ingest_ts
    fields = dict(draft.fields)
    for _ in range(1 + int(rng.random() * 3)):
        _REWORDINGS[int(rng.random() * len(_REWORDINGS))](rng, fields)
    if rng.random() < 0.3:
        fields = dict(reversed(fields.items()))
    is_ascii, separators = rng.random() < 0.5, ((",", ":"), (", ", ": "))[rng.random() < 0.5]
    return json.dumps(fields, ensure_ascii=is_ascii, separators=separators).encode()


def _longer_amount(_rng: Random, fields: dict[str, Any]) -> None:
    text = str(fields["amount"])
    if "E" in text:  # zeros there would change the exponent
        return
    fields["amount"] = text + ("0" if "." in text else ".0")


def _shorter_amount(_rng: Random, fields: dict[str, Any]) -> None:
    text = str(fields["amount"])
    if "." in text and "E" not in text:
        fields["amount"] = text.rstrip("0").rstrip(".")


def _number_amount(_rng: Random, fields: dict[str, Any]) -> None:
    # A float's repr gives back up to 15 significant digits exactly, and amounts here have fewer.
    text = str(fields["amount"])
    fields["amount"] = int(text) if text.isdigit() else float(text)


def _scientific_amount(_rng: Random, fields: dict[str, Any]) -> None:
    fields["amount"] = f"{Decimal(str(fields['amount'])):E}"


def _other_offset(rng: Random, fields: dict[str, Any]) -> None:
    moment = datetime.fromisoformat(fields["event_ts"])
    fields["event_ts"] = moment.astimezone(rng.choice(_OFFSETS)).isoformat()


def _plus_zero(_rng: Random, fields: dict[str, Any]) -> None:
    fields["event_ts"] = fields["event_ts"].replace("Z", "+00:00")


def _shuffled_attributes(rng: Random, fields: dict[str, Any]) -> None:
    names = list(fields["attributes"])
    rng.shuffle(names)
    fields["attributes"] = {name: fields["attributes"][name] for name in names}


def _explicit_nothing(rng: Random, fields: dict[str, Any]) -> None:
    fields.setdefault("revision", rng.choice((0, None)))
    fields.setdefault("transaction_ref", None)
    fields.setdefault("original_event_id", None)


def _capital_id(_rng: Random, fields: dict[str, Any]) -> None:
    fields["event_id"] = fields["event_id"].upper()


_REWORDINGS: tuple[Rewording, ...] = (
    _longer_amount, _shorter_amount, _number_amount, _scientific_amount, _other_offset,
    _plus_zero, _shuffled_attributes, _explicit_nothing, _capital_id,
)  # fmt: skip
