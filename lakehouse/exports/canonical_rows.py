"""The canonical bytes of a row, over which the Merkle tree of an export is built. Pure.

Belongs here: that one definition, which `verifier.py` states again in the standard library alone.
Does not: reading rows, hashing them (`merkle.py`).

A row is one JSON object in UTF-8 without blanks, its fields sorted by name, nulls included. A decimal is
text with all digits of its scale, a time is text in UTC with microseconds and `Z`, bytes are base64.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

_ENCODER = msgspec.json.Encoder(order="deterministic")


def encoded(row: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of a row whose values are plain already."""
    return _ENCODER.encode(row)


def plain(value: Any) -> Any:
    """Turn a value into what JSON has. Raises TypeError for a kind that no table has, e.g. a float."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, list | tuple):
        return [plain(element) for element in value]
    if isinstance(value, Mapping):
        return {name: plain(element) for name, element in value.items()}
    raise TypeError(f"no canonical form is agreed for {type(value).__name__}")
