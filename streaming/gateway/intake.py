"""One event on its way in: stamped, looked through for card numbers, judged, sealed, wrapped for Kafka.

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
from quality.contract import Event, Violation, in_force
from quality.judge import judge_fields
from quality.personal import PERSONAL, PersonalFields
from quality.sealing import KeyOf, sealed_fields
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
_PERSONAL = Reason("personal_data", "attributes", "personal fields cannot be sealed here, so none are taken")
TOO_LARGE = "too_large"
_GROWN = Reason(TOO_LARGE, "", f"{MAX_BYTES} bytes at most, with time of arrival, tokens and seals put in")


class IngestClock:
    """Times of arrival: strictly rising, whatever the machine's clock does."""

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        self._now = now
        self._last_us = 0

    def next(self) -> datetime:
        """The moment, in microseconds; never one that was given before, nor an earlier one."""
        self._last_us = max(self._last_us + 1, self._now() // 1000)
        return _EPOCH + timedelta(microseconds=self._last_us)


class Judged(NamedTuple):
    """An event that the contract allows, before it is wrapped; `has_personal` wants its account's key."""

    event: Event
    fields: dict[str, Any]
    raw: bytes
    source: str
    extra: Headers
    personal: PersonalFields
    has_personal: bool


class Intake:
    """Takes in events one by one. `token_keys` may be empty where no partner's policy needs them.

    `key_of` gives the keys of persons; without it events with personal fields are rejected.
    """

    def __init__(
        self, clock: IngestClock, token_keys: Sequence[TokenKey], key_of: KeyOf | None = None
    ) -> None:
        self._clock = clock
        self._token_keys = token_keys
        self._key_of = key_of

    def take(
        self,
        raw: bytes,
        source: str,
        policy: CardPolicy,
        extra: Headers = (),
        personal: PersonalFields = PERSONAL,
    ) -> Verdict:
        """Judge one event's bytes as of now and wrap it; see `judge` and `wrap`."""
        judged = self.judge(raw, source, policy, extra, personal)
        return judged if isinstance(judged, Rejected) else self.wrap(judged)

    def judge(
        self,
        raw: bytes,
        source: str,
        policy: CardPolicy,
        extra: Headers = (),
        personal: PersonalFields = PERSONAL,
    ) -> Judged | Rejected:
        """Judge one event's bytes as of now; what is good keeps them, unless something had to be changed.

        Args:
            raw: the event's own bytes.
            source: the partner's, for `ce_source`.
            policy: what becomes of a card number.
            extra: more headers for the record.
            personal: the fields that are sealed with the key of the event's account.
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
        verdict = judge_fields(fields, now, in_force(now))
        if not isinstance(verdict, Event):
            return _rejected(fields, verdict)
        has_personal = personal.are_in(fields)
        if has_personal and self._key_of is None:
            return Rejected((_PERSONAL,), verdict.event_id)
        return Judged(verdict, fields, raw, source, extra, personal, has_personal)

    def wrap(self, judged: Judged) -> Verdict:
        """Seal what is personal, and wrap the event for Kafka.

        What `key_of` raises where the keyring cannot be reached comes through: the event is not taken then.
        """
        event, fields, raw = judged.event, judged.fields, judged.raw
        if judged.has_personal and self._key_of is not None:
            fields = sealed_fields(fields, judged.personal, event.account_id, self._key_of)
            raw = canonical_json(fields).encode()
            if len(raw) > MAX_BYTES:
                return Rejected((_GROWN,), event.event_id)
        return Taken(event.event_id, message_from(raw, fields, judged.source, judged.extra))

    def _tokenised(self, fields: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        key = key_at(self._token_keys, fields.get("event_ts"))
        clean = without_card_numbers(fields, lambda digits: token(key, digits))
        # What cannot be written as UTF-8 is rejected: by the fields, which keep what the bytes cannot.
        return clean, canonical_json(clean).encode("utf-8", "replace")


def _rejected(fields: dict[str, Any], violations: list[Violation]) -> Rejected:
    reasons = tuple(Reason(v.rule, v.field, v.message) for v in violations)
    is_good_id = not {v.field for v in violations} & {"event_id", ""}
    return Rejected(reasons, str(fields["event_id"]).lower() if is_good_id else None)
