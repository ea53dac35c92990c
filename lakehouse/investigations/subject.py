"""What is investigated: an event, a transaction or an account, by its id. Pure.

Belongs here: which ids there can be, and what of a record mentions one. Does not: looking (`investigate.py`).
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from lakehouse.errors import LakehouseError
from quality.contract import MAX_ID_BYTES
from quality.fields import UUID

Kind = Literal["event", "transaction", "account"]
_WORD = rb"(?<![A-Za-z0-9_-])%s(?![A-Za-z0-9_-])"
EVENT: Final = "event"
TRANSACTION: Final = "transaction"
ACCOUNT: Final = "account"


class NotAnId(LakehouseError):
    """No record can carry such an id."""


class NothingFound(LakehouseError):
    """Nothing mentions the id; the message says where it was looked for."""


class Subject(NamedTuple):
    """One event, by its UUID; one transaction, by the partner's reference; or one account."""

    kind: Kind
    id: str

    @property
    def in_bytes(self) -> frozenset[bytes]:
        """How the id may stand in bytes: a UUID in either case."""
        texts = {self.id, self.id.upper()} if self.kind == EVENT else {self.id}
        return frozenset(text.encode() for text in texts)

    def is_in(self, value: bytes | None) -> bool:
        """Tell whether a record's bytes mention the id, as a whole word."""
        return any(re.search(_WORD % re.escape(text), value or b"") for text in self.in_bytes)

    def is_key(self, key: bytes | None) -> bool:
        """Tell whether a record's key is the account that is looked for."""
        return self.kind == ACCOUNT and key == self.id.encode()


def subject_of(kind: Kind, text: str) -> Subject:
    """Make an id what the tables have of it. Raises `NotAnId` for what no valid record can carry."""
    if kind == EVENT:
        if not UUID.fullmatch(text):
            raise NotAnId(f"{text!r} is no event id: a UUID is wanted", "ids stand in curated.event_versions")
        return Subject(kind, text.lower())
    if not 0 < len(text.encode()) <= MAX_ID_BYTES:
        raise NotAnId(f"the id of an {kind} has 1 to {MAX_ID_BYTES} bytes, not {len(text.encode())}")
    return Subject(kind, text)
