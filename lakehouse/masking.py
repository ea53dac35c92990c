"""What a command was given, as text that may be kept: secrets hidden, card numbers masked, long texts cut.

Belongs here: that. Does not: finding card numbers (`quality/cards.py`), recording (`cli/trail.py`). Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from quality.cards import without_card_numbers

_MASK = "[card number]"
_HIDDEN = "[hidden]"
_SECRET_NAMES = ("password", "secret", "token", "passphrase", "private_key", "credential")
_LONGEST = 8_000


def parameters_of(given: Mapping[str, Any]) -> str:
    """Render what a command was given as JSON: what is empty left out, secrets hidden, card numbers masked.

    Long texts are cut. The same parameters give the same text.
    """
    told = {
        name: _told(name, value) for name, value in given.items() if value not in (None, "", (), [], False)
    }
    clean = without_card_numbers(told, lambda _digits: _MASK)
    return json.dumps(clean, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def plain(text: str) -> str:
    """Mask card numbers in a text, and cut it."""
    masked: str = without_card_numbers(text, lambda _digits: _MASK)
    return masked if len(masked) <= _LONGEST else f"{masked[:_LONGEST]}…"


def _told(name: str, value: Any) -> Any:
    if any(part in name.lower() for part in _SECRET_NAMES):
        return _HIDDEN
    if isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _told(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_told(name, inner) for inner in value]
    return plain(value.isoformat() if isinstance(value, datetime) else str(value))
