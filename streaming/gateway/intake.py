"""One event on its way in: stamped, looked through for card numbers, judged, wrapped for Kafka.

Belongs here: that path, without HTTP and without Kafka. Does not: the rules themselves (`quality/`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from quality.canonical import MAX_BYTES, UnreadableJson, canonical_json, parse_json
from quality.card_tokens import TokenKey, key_at, token
from quality.cards import holds_card_number, may_hold_card_number, without_card_numbers
from quality.contract import Contract, Event, in_force
from quality.judge import judge_fields
from streaming.message import Headers, Message, message_from, with_fields
from streaming.partners.registry import CardPolicy

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Reason(NamedTuple):
    """One rule that an event breaks; never a value of it."""

    rule: str
    field: str
    message: str


@dataclass(frozen=True)
class Taken:
    """An event that goes to Kafka."""

    event_id: str
    message: Message


@dataclass(frozen=True)
class Rejected:
    """An event that is not taken, with every reason. Its id is told only where it is a good one."""

    reasons: tuple[Reason, ...]
    event_id: str | None = None
    is_unreadable: bool = False


Verdict = Taken | Rejected

_CARD_NUMBER = Reason("card_number", "", "the event holds a card number in clear")
TOO_LARGE = "too_large"
_GROWN = Reason(TOO_LARGE, "", f"{MAX_BYTES} bytes at most, with the time of arrival and tokens put in")


class IngestClock:
    """Times of arrival: strictly rising, whatever the machine's clock does."""

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        self._now = now
        self._last_us = 0

    def next(self) -> datetime:
        """The moment, in microseconds; never one that was given before, nor an earlier one."""
        self._last_us = max(self._last_us + 1, self._now() // 1000)
        return _EPOCH + timedelta(microseconds=self._last_us)


class Intake:
    """Takes in events one by one. `token_keys` may be empty where no partner's policy needs them."""

    def __init__(self, clock: IngestClock, token_keys: Sequence[TokenKey]) -> None:
        self._clock = clock
        self._token_keys = token_keys

    def take(self, raw: bytes, source: str, policy: CardPolicy, extra: Headers = ()) -> Verdict:
        """Judge one event's bytes as of now; what is taken keeps them, unless something had to be changed.

        Args:
            raw: the event's own bytes.
            source: the partner's, for `ce_source`.
            policy: what becomes of a card number.
            extra: more headers for the record.
        """
        now = self._clock.next()
        try:
            fields = parse_json(raw)
        except UnreadableJson as error:
            return Rejected((Reason(error.rule, "", str(error)),), is_unreadable=True)
        if not isinstance(fields, dict):
            return Rejected((Reason("not_an_object", "", "a JSON object is wanted"),), is_unreadable=True)
        if may_hold_card_number(raw) and holds_card_number(fields):
            if policy == "refuse":
                return Rejected((_CARD_NUMBER,))
            fields, raw = self._tokenised(fields)
        if "ingest_ts" not in fields:
            added = {"ingest_ts": now.isoformat(timespec="microseconds").replace("+00:00", "Z")}
            fields, raw = {**added, **fields}, with_fields(raw, added)
        if len(raw) > MAX_BYTES:  # it was not before something was put in: the contract would refuse it
            return Rejected((_GROWN,))
        return _judged(raw, fields, now, in_force(now), source, extra)

    def _tokenised(self, fields: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        key = key_at(self._token_keys, fields.get("event_ts"))
        clean = without_card_numbers(fields, lambda digits: token(key, digits))
        # What cannot be written as UTF-8 is rejected: by the fields, which keep what the bytes cannot.
        return clean, canonical_json(clean).encode("utf-8", "replace")


def _judged(
    raw: bytes, fields: dict[str, Any], now: datetime, contract: Contract, source: str, extra: Headers
) -> Verdict:
    verdict = judge_fields(fields, now, contract)
    if isinstance(verdict, Event):
        return Taken(verdict.event_id, message_from(raw, fields, source, extra))
    reasons = tuple(Reason(v.rule, v.field, v.message) for v in verdict)
    broken = {v.field for v in verdict}
    is_good_id = not broken & {"event_id", ""}
    return Rejected(reasons, str(fields["event_id"]).lower() if is_good_id else None)
