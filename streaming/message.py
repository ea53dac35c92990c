"""One message on its way to Kafka: bytes, key and headers.

Belongs here: how a record's bytes become a message. Does not: files (`event_file.py`), sending.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

ARCHIVE = "archive"
_MAX_HEADER = 256
_CLOUD_EVENT = (("ce_id", "event_id"), ("ce_type", "event_type"), ("ce_time", "event_ts"))

Headers = tuple[tuple[str, bytes], ...]


class Message(NamedTuple):
    """A record's bytes as they will stand in raw; the key is the account's id, or None if unreadable."""

    value: bytes
    key: bytes | None
    headers: Headers


def message_of(line: bytes, source: str, extra: Headers = ()) -> Message:
    """Wrap bytes that should be an event's JSON; broken ones too, with the headers that can be read."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):  # bad UTF-8 is a ValueError
        fields = None
    return message_from(line, fields if isinstance(fields, dict) else {}, source, extra)


def message_from(line: bytes, fields: dict[str, Any], source: str, extra: Headers = ()) -> Message:
    """Wrap bytes whose fields are known: CloudEvents' binary headers, then `extra`."""
    headers = [(name, text) for name, field in _CLOUD_EVENT if (text := _readable(fields.get(field)))]
    return Message(
        line, _readable(fields.get("account_id")), (*headers, ("ce_source", source.encode()), *extra)
    )


def with_fields(raw: bytes, added: Mapping[str, str]) -> bytes:
    """Put fields before the others of an object's bytes, and leave all other bytes as they are.

    Names and values are plain text, which needs no escapes.
    """
    start = raw.index(b"{") + 1
    is_empty = raw[start:].lstrip().startswith(b"}")
    text = ",".join(f'"{name}":"{value}"' for name, value in added.items())
    return raw[:start] + text.encode() + (b"" if is_empty else b",") + raw[start:]


def _readable(value: Any) -> bytes | None:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_HEADER:
        return None
    try:
        return value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
