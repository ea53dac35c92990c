"""A generated event before it is text, and its plain rendering.

Belongs here: the fields on the wire and their ordinary text. Does not: its other texts (`wording.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from quality.currencies import MINOR_UNITS

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # naive on purpose: formatting is faster, and Z is appended
_LETTERS = str.maketrans("0123456789", "ghijklmnop")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(slots=True)
class Draft:
    """One event: its fields on the wire, and the numbers they were written from (UTC microseconds).

    `minor` is the amount in the currency's minor units. `ingest_us` is when the producer took it in;
    the line may come later still.
    """

    fields: dict[str, Any]
    event_us: int
    ingest_us: int
    minor: int

    @property
    def scale(self) -> int:
        """Decimal places of the currency."""
        return MINOR_UNITS[self.fields["currency"]]

    def variant(self, ingest_us: int, minor: int | None = None, **changes: Any) -> Draft:
        """Give a copy ingested at another time, with changed fields; fields changed to None are left out."""
        fields = self.fields | changes
        for name, value in changes.items():
            if value is None:
                del fields[name]
        if minor is None:
            minor = self.minor
        else:
            fields["amount"] = amount_text(minor, self.scale)
        return Draft(fields, self.event_us, ingest_us, minor)

    def stamp(self) -> None:
        """Write the amount's and the event time's text from their numbers."""
        self.fields["event_ts"] = time_text(self.event_us)
        self.fields["amount"] = amount_text(self.minor, self.scale)

    def line(self) -> bytes:
        """Render as the plain JSON line, without a line end."""
        fields = self.fields
        fields["ingest_ts"] = time_text(self.ingest_us)
        return _encode(fields).encode()


def time_text(micros: int) -> str:
    """ISO 8601 in UTC with six fractional digits: microseconds since 1970 as text."""
    return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds") + "Z"


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC of an aware datetime."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def amount_text(minor: int, scale: int) -> str:
    """The decimal of so many minor units: (1234, 2) is "12.34"."""
    if not scale:
        return str(minor)
    digits = str(minor).rjust(scale + 1, "0")
    return f"{digits[:-scale]}.{digits[-scale:]}"


def new_uuid(rng: Random) -> str:
    """A UUID version 4 from the seeded generator."""
    h = f"{rng.getrandbits(128):032x}"
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{'89ab'[int(h[16], 16) & 3]}{h[17:20]}-{h[20:]}"


def letters(rng: Random, length: int) -> str:
    """Random letters a-p: no digits, so that nothing generated can be taken for a card number."""
    return f"{rng.getrandbits(4 * length):0{length}x}".translate(_LETTERS)
