"""Tokens that stand for card numbers: keyed, so that they can be compared and not turned back.

Belongs here: the token and which key makes it. Does not: finding numbers (`cards.py`), keeping keys.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_HEX_DIGITS = 32


@dataclass(frozen=True)
class TokenKey:
    """A key, for the events whose `event_ts` is `effective_from` or later, until the next one's."""

    id: str
    effective_from: datetime
    secret: bytes = field(repr=False)


def key_for(keys: Sequence[TokenKey], event_ts: datetime | None) -> TokenKey:
    """Choose the key of an event by its own time, never by the clock: None stands for the newest.

    So an event that is sent again after a rotation gets the same token, and stays the same payment. Old
    keys are kept for as long as events of their time may come.
    """
    ordered = sorted(keys, key=lambda key: key.effective_from)
    if event_ts is None:
        return ordered[-1]
    return next((key for key in reversed(ordered) if key.effective_from <= event_ts), ordered[0])


def key_at(keys: Sequence[TokenKey], event_ts: Any) -> TokenKey:
    """Choose the key by an event's time as it is written; one that cannot be read stands for the newest."""
    return key_for(keys, _moment(event_ts))


def token(key: TokenKey, digits: str) -> str:
    """Return the token of a card number: 128 bits of HMAC-SHA256 in letters: it looks like no number."""
    mac = hmac.new(key.secret, digits.encode(), hashlib.sha256).hexdigest()[:_HEX_DIGITS]
    return f"tok_{key.id}_{mac.translate(_LETTERS)}"


def _moment(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None
