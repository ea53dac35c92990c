"""A request's body cut into events, each with its own bytes.

Belongs here: JSON object, JSON array, NDJSON. Does not: what is in an event (`intake.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from streaming.gateway.refusal import Refusal

JSON_TYPES = frozenset({"application/json"})
NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
# An event has a comma in some 30 bytes. Millions of values of a byte would take a hundred times their room;
# so many, or as many as that, are looked at all the same.
_VALUES, _BYTES_PER_COMMA = 250_000, 8
_WHITESPACE = b" \t\r\n"
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


class Batch(NamedTuple):
    """A body's events, and whether it was one alone rather than a list."""

    events: list[bytes]
    is_single: bool


def batch_of(body: bytes, content_type: str, most: int) -> Batch:
    """Cut a body into events: their bytes exactly as sent, white space around them aside.

    Args:
        body: the whole body.
        content_type: of the request; empty stands for JSON.
        most: events at most.

    Raises:
        Refusal: 400 for a body that is no JSON or holds no event, 413 for too many events, 415 for another
            type.
    """
    kind = content_type.partition(";")[0].strip().lower()
    is_array = body.lstrip(_WHITESPACE)[:1] == b"["
    if kind in NDJSON_TYPES:
        events = _lines(body, most)
    elif kind and kind not in JSON_TYPES:
        raise Refusal(415, "media_type", "application/json or application/x-ndjson is wanted")
    else:
        events = _elements(body, most) if is_array else [alone] if (alone := body.strip(_WHITESPACE)) else []
    if not events:
        raise Refusal(400, "empty", "there is no event in the body")
    if len(events) > most:
        raise _too_many(most)
    return Batch(events, is_single=not is_array and kind not in NDJSON_TYPES)


def _lines(body: bytes, most: int) -> list[bytes]:
    if body.count(b"\n") > 2 * most:  # before a list of them is made; blank lines are for free
        raise _too_many(most)
    return [line for raw in body.split(b"\n") if (line := raw.strip(_WHITESPACE))]


def _elements(body: bytes, most: int) -> list[bytes]:
    commas = body.count(b",")
    if commas > max(most, _VALUES, len(body) // _BYTES_PER_COMMA):  # before a list of them is made
        raise _too_many(most)
    try:
        return [bytes(value) for value in _ARRAY.decode(body)]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Refusal(400, "unreadable", "the body starts as a JSON array, and is none") from None


def _too_many(most: int) -> Refusal:
    return Refusal(413, "too_many_events", f"at most {most:,} events are taken at once")
