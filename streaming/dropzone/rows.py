"""One row of a file on its way in: mapped, freed of card numbers, judged, sealed, wrapped for Kafka.

Belongs here: that path, without files and without Kafka. Does not: the rules themselves (`quality/`). Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeGuard
from uuid import UUID, uuid5

from quality.canonical import MAX_BYTES, UnreadableJson, canonical_json, parse_json
from quality.card_tokens import TokenKey, key_at, token
from quality.cards import card_numbers, holds_card_number, may_hold_card_number, without_card_numbers
from quality.contract import MAX_ID_BYTES, Contract, Event, in_force
from quality.judge import judge, judge_fields
from quality.personal import PERSONAL, PersonalFields
from quality.sealing import KeyOf, is_sealed, sealed_fields
from streaming.dropzone.progress import Reason
from streaming.message import ARCHIVE, Headers, Message, message_from, with_fields
from streaming.partners.registry import CardPolicy
from streaming.partners.rows import RowMapper, UnmappableRow, event_bytes

FILE, LINE, FILE_DIGEST = "file", "line", "file-digest"
COLUMNS = "file-columns"  # of a rejected row: with them it can be mapped again (streaming/redrive/rows.py)
MASK = "[card number]"
WITHHELD = "[personal data]"
# The namespace of ids of rows that carry none. Never change it: the same row must keep its id.
_NAMESPACE = UUID("b3b1ff0c-6f0e-5f0a-8a44-9d5c2e0f7a61")
_UNDECODED = re.compile("[\udc80-\udcff]")
# What JSON writes for other characters, digits and the white space between them among these.
_ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|[tnrfb])")
_CARD_NUMBER = Reason("card_number", "", "the row holds a card number in clear")
_PERSONAL = Reason("personal_data", "attributes", "personal fields cannot be sealed here, so none are taken")
_GROWN = Reason("too_large", "", f"{MAX_BYTES} bytes at most are taken, with what is sealed")


class Taken(NamedTuple):
    """What becomes of a row: its events; or the row itself and every reason why it is rejected."""

    messages: tuple[Message, ...]
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Origin:
    """Where rows come from. `name` holds no card number; rows are judged as of `received_at`."""

    source: str
    name: str
    digest: str
    received_at: datetime


class RowIntake:
    """Takes in the rows of one file: CSV through a `mapper`, JSONL without.

    `token_keys` are needed where the policy is to tokenise. Rows are judged by `contract`, or by the one that
    was in force when reading began. The same row gives the same events with the same
    ids, wherever it stands and whatever else the file holds.

    `personal` fields are sealed by the keys that `key_of` gives; without it rows that have some are rejected.
    What `key_of` raises where the keyring cannot be reached comes through: the row is not taken then.
    """

    def __init__(
        self,
        origin: Origin,
        policy: CardPolicy,
        mapper: RowMapper | None,
        token_keys: Sequence[TokenKey] = (),
        contract: Contract | None = None,
        key_of: KeyOf | None = None,
        personal: PersonalFields = PERSONAL,
    ) -> None:
        self._origin = origin
        self._policy = policy
        self._mapper = mapper
        self._is_archive = mapper is not None and mapper.profile.archive
        self._encoding = mapper.profile.encoding if mapper is not None else "utf-8"
        self._token_keys = token_keys
        self._key_of = key_of
        self._personal = personal
        self._has_personal_columns = mapper is not None and any(
            map(personal.names, (*mapper.header, *mapper.profile.attributes))
        )
        self._contract = contract or in_force(origin.received_at)
        self._ingest_ts = origin.received_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        name, digest = origin.name.encode("utf-8", "replace"), origin.digest.encode()
        self._headers: Headers = ((FILE, name), (FILE_DIGEST, digest))
        if self._is_archive:
            self._headers = ((ARCHIVE, b"true"), *self._headers)

    def take(self, raw: bytes, line: int) -> Taken:
        """Take in one row, without its line's end.

        A rejected row is taken as it came, card numbers and personal fields aside, so that the contract
        quarantines it. The curated job judges anew, by Kafka's time, and has the last word.
        """
        headers: Headers = (*self._headers, (LINE, b"%d" % line))
        if len(raw) > MAX_BYTES:
            reason = Reason("too_large", "", f"{MAX_BYTES} bytes at most are taken")
            return self._rejected(_beginning(raw, self._encoding), (reason,), headers)
        raw, refused = self._without_card_numbers(raw)
        if refused:
            return self._rejected(raw, (_CARD_NUMBER,), headers)
        try:
            events = [self._json_event(raw)] if self._mapper is None else self._mapped(self._mapper, raw)
        except UnmappableRow as error:
            return self._rejected(raw, (Reason("unmappable", "", str(error)),), headers)
        except UnreadableJson as error:
            return self._rejected(raw, (Reason(error.rule, "", str(error)),), headers)
        reasons = tuple(reason for value, fields in events for reason in self._reasons(value, fields))
        if reasons:
            return self._rejected(raw, tuple(dict.fromkeys(reasons)), headers)
        sealed = [self._sealed(value, fields) for value, fields in events]
        if any(len(value) > MAX_BYTES for value, _ in sealed):
            return self._rejected(raw, (_GROWN,), headers)
        source = self._origin.source
        return Taken(tuple(message_from(value, fields, source, headers) for value, fields in sealed))

    def _sealed(self, value: bytes, fields: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
        """Seal what is personal in an event that is good."""
        if self._key_of is None:
            return value, fields  # there is nothing personal in it: else it was rejected
        sealed = sealed_fields(fields, self._personal, str(fields["account_id"]), self._key_of)
        return (value, fields) if sealed is fields else (canonical_json(sealed).encode(), sealed)

    def _rejected(self, raw: bytes, reasons: tuple[Reason, ...], headers: Headers) -> Taken:
        raw = self._without_personal(raw)
        value = masked(raw, self._encoding)
        if _CARD_NUMBER in reasons and value == raw:  # seen in the event only: nothing of the row is safe
            value = MASK.encode()
        elif value != raw:  # a masked line of JSON would be an event with a mask for a value
            value = (MASK.encode() + b" " + value)[:MAX_BYTES]
        if self._mapper is not None:
            headers = (*headers, (COLUMNS, masked(json.dumps(self._mapper.header).encode())))
        return Taken((message_from(value, {}, self._origin.source, headers),), reasons)

    def _reasons(self, value: bytes, fields: dict[str, Any]) -> list[Reason]:
        if may_hold_card_number(value) and holds_card_number(fields):  # put together from several columns
            return [_CARD_NUMBER]
        if self._key_of is None and self._personal.are_in(fields, is_sealed):  # redriven ones are sealed
            return [_PERSONAL]
        as_of = (self._origin.received_at, self._contract, self._is_archive)
        # What was put into a line may bring it over the limit, of which its bytes alone tell.
        verdict = judge(value, *as_of) if len(value) > MAX_BYTES else judge_fields(fields, *as_of)
        return [] if isinstance(verdict, Event) else [Reason(v.rule, v.field, v.message) for v in verdict]

    def _without_personal(self, raw: bytes) -> bytes:
        """Seal what is personal in a row that is rejected; withhold all of it where that cannot be told.

        The partner has the row, and its receipt says which one it was and why it was rejected.
        """
        if self._mapper is not None:
            return WITHHELD.encode() if self._has_personal_columns else raw
        if not self._personal.may_be_in(raw):
            return raw
        try:
            fields = _object(raw)
        except UnreadableJson:
            return WITHHELD.encode()
        if not self._personal.are_in(fields):
            return raw
        account = fields.get("account_id")
        if self._key_of is None or not _is_identifier(account):
            return WITHHELD.encode()
        sealed = canonical_json(sealed_fields(fields, self._personal, account, self._key_of))
        value = sealed.encode("utf-8", "replace")
        return value if len(value) <= MAX_BYTES else WITHHELD.encode()

    def _mapped(self, mapper: RowMapper, raw: bytes) -> list[tuple[bytes, dict[str, Any]]]:
        return [(event_bytes(fields), fields) for fields in mapper.events(raw)]

    def _json_event(self, raw: bytes) -> tuple[bytes, dict[str, Any]]:
        """Read a line of JSON; an id and a time of arrival that it lacks are put before its other fields."""
        fields = _object(raw)
        added = {}
        if "ingest_ts" not in fields:
            added["ingest_ts"] = self._ingest_ts
        if "event_id" not in fields:
            content = canonical_json({name: fields[name] for name in fields if name != "ingest_ts"})
            key = f"{self._origin.source}\n{content}".encode("utf-8", "replace").decode()
            added["event_id"] = str(uuid5(_NAMESPACE, key))
        return (with_fields(raw, added) if added else raw), {**added, **fields}

    def _without_card_numbers(self, raw: bytes) -> tuple[bytes, bool]:
        """Replace card numbers by tokens. Returns the row's bytes, and whether it is refused for them."""
        if not may_hold_card_number(raw):
            return raw, False
        if self._mapper is None:
            return self._json_without_card_numbers(raw)
        if masked(raw, self._encoding) == raw:
            return raw, False
        if self._policy == "refuse":
            return raw, True
        token_of = self._token_of(self._time_of(self._mapper, raw))
        return _replaced(raw, self._encoding, token_of), False

    def _json_without_card_numbers(self, raw: bytes) -> tuple[bytes, bool]:
        try:
            fields = _object(raw)
        except UnreadableJson:
            return raw, False  # it is rejected for that, and masked
        if not holds_card_number(fields):
            return raw, False
        if self._policy == "refuse":
            return raw, True
        clean = without_card_numbers(fields, self._token_of(fields.get("event_ts")))
        return canonical_json(clean).encode("utf-8", "replace"), False

    def _token_of(self, event_ts: Any) -> Callable[[str], str]:
        key = key_at(self._token_keys, event_ts)
        return lambda digits: token(key, digits)

    def _time_of(self, mapper: RowMapper, raw: bytes) -> Any:
        try:
            return mapper.events(raw)[0]["event_ts"]
        except UnmappableRow:
            return None


def _is_identifier(account: Any) -> TypeGuard[str]:
    return isinstance(account, str) and 0 < len(account.encode("utf-8", "replace")) <= MAX_ID_BYTES


def masked(raw: bytes, encoding: str = "utf-8") -> bytes:
    """Replace the card numbers in bytes of any kind, those behind JSON's escapes too."""
    if not may_hold_card_number(raw):
        return raw
    clean = raw
    for tried in dict.fromkeys((encoding, "utf-8")):  # whoever reads the bytes may take them for UTF-8
        clean = _replaced(clean, tried, lambda _digits: MASK)
    unescaped = _ESCAPED.sub(_unescaped, _text(clean, "utf-8")[0])
    return MASK.encode() if card_numbers(unescaped) else clean


def shows_card_number(raw: bytes, encoding: str = "utf-8") -> bool:
    """Tell whether bytes hold a card number in clear for whoever reads them as JSON, or else as text."""
    if not may_hold_card_number(raw):
        return False
    try:
        return holds_card_number(parse_json(raw))
    except UnreadableJson:
        return masked(raw, encoding) != raw


def masked_text(text: str) -> str:
    """Replace the card numbers in a text."""
    clean: str = without_card_numbers(text, lambda _digits: MASK)
    return clean


def _beginning(raw: bytes, encoding: str) -> bytes:
    """Keep what a row too large begins with. It is masked first: half of a card number would not be found."""
    clean = masked(raw, encoding)
    shrunk = len(raw) - len(clean)  # by so much less is kept, so that the row's end does not move up
    return clean[: max(MAX_BYTES - shrunk, len(MASK))]


def _unescaped(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else " "  # one white space is looked at like another


def _replaced(raw: bytes, encoding: str, token_of: Callable[[str], str]) -> bytes:
    text, used = _text(raw, encoding)
    parts, position = [], 0
    for number in card_numbers(_UNDECODED.sub(" ", text)):  # which keeps every place where it was
        parts += [text[position : number.start], token_of(number.digits)]
        position = number.end
    return "".join([*parts, text[position:]]).encode(used, "surrogateescape") if parts else raw


def _text(raw: bytes, encoding: str) -> tuple[str, str]:
    """Bytes as text from which the same bytes can be made again, and by which encoding."""
    try:
        text = raw.decode(encoding)
        if text.encode(encoding) == raw:
            return text, encoding
    except UnicodeError:
        pass
    return raw.decode("utf-8", "surrogateescape"), "utf-8"


def _object(raw: bytes) -> dict[str, Any]:
    fields = parse_json(raw)
    if not isinstance(fields, dict):
        raise UnreadableJson("not_an_object", "a JSON object is wanted")
    return fields
