"""The content hash of a set of rows, whatever their order and whichever engine reads them. Pure.

Belongs here: the encoding of a row, adding rows up, the fingerprint. Does not: tables and engines
(`table_hash.py`). The choices are argued in docs/adr/0009-content-hash.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any, Protocol

from quality.canonical import encode_fields, sha256_of

# Part of every fingerprint: another encoding must never be taken for another content.
ENCODING = "1"
# How SQL adds up digests: lanes of 32 bits, each exact in a 64-bit integer below 2**31 rows.
LANES, LANE_DIGITS, MAX_ROWS = 8, 8, 2**31
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EXACT = Context(prec=76, traps=[Inexact, InvalidOperation])


class Kind(Protocol):
    """How one type is written. `str(kind)` is part of the fingerprint."""

    def text(self, value: Any) -> str:
        """Write a value that is not None; equal values give equal text, different ones different text."""
        ...


Shape = tuple[tuple[str, Kind], ...]
"""The columns that are hashed, in their order: name and kind."""


@dataclass(frozen=True)
class Text:
    """A string, as it is."""

    def __str__(self) -> str:
        return "text"

    def text(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class Whole:
    """An integer of any width, in decimal digits."""

    def __str__(self) -> str:
        return "whole"

    def text(self, value: int) -> str:
        return str(value)


@dataclass(frozen=True)
class Fixed:
    """A decimal with `scale` digits after the point, all of them written; refuses to round."""

    scale: int

    def __str__(self) -> str:
        return f"fixed({self.scale})"

    def text(self, value: Decimal) -> str:
        exact = (value or Decimal(0)).quantize(Decimal(1).scaleb(-self.scale), context=_EXACT)
        return format(exact, "f")


@dataclass(frozen=True)
class Time:
    """A moment, as microseconds since 1970-01-01 UTC; an integer is taken to be just that."""

    def __str__(self) -> str:
        return "time"

    def text(self, value: datetime | int) -> str:
        return str(value if isinstance(value, int) else (value - _EPOCH) // _MICROSECOND)


@dataclass(frozen=True)
class Binary:
    """Bytes, as lowercase hex digits."""

    def __str__(self) -> str:
        return "binary"

    def text(self, value: bytes) -> str:
        return value.hex()


@dataclass(frozen=True)
class Many:
    """A list, in its order; its length in the row's encoding tells where it ends."""

    element: Kind

    def __str__(self) -> str:
        return f"list<{self.element}>"

    def text(self, value: Iterable[Any]) -> str:
        return encode_fields(_or_none(self.element, v) for v in value).decode()


@dataclass(frozen=True)
class Record:
    """Named fields, as a mapping from name to value."""

    fields: Shape

    def __str__(self) -> str:
        return f"record<{', '.join(f'{name} {kind}' for name, kind in self.fields)}>"

    def text(self, value: dict[str, Any]) -> str:
        return encode_fields(_or_none(kind, value[name]) for name, kind in self.fields).decode()


@dataclass(frozen=True)
class Fingerprint:
    """What two contents are compared by: the number of rows, and a sha256 in lowercase hex."""

    rows: int
    hash: str


@dataclass(frozen=True)
class Sums:
    """Rows added up: how many, and the exact sum of their sha256 digests taken as 256-bit integers.

    A duplicate counts (in an XOR it would cancel itself), the order does not, and sums of disjoint
    parts add up to the sum of the whole.
    """

    rows: int = 0
    total: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.rows + other.rows, self.total + other.total)

    def fingerprint(self, shape: Shape) -> Fingerprint:
        """Close the sums: hash them with the names and kinds of the columns they were made of."""
        columns = [part for name, kind in shape for part in (name, str(kind))]
        return Fingerprint(self.rows, sha256_of([ENCODING, *columns, str(self.rows), str(self.total)]))


def combine(parts: Iterable[Sums]) -> Sums:
    """Add up the sums of disjoint parts, such as a table's partitions."""
    return sum(parts, Sums())


def of_columns(shape: Shape, columns: Sequence[Iterable[Any]]) -> Sums:
    """Add up rows given as one iterable of values per column of `shape`, all of one length."""
    if not shape:
        raise ValueError("no columns to hash")
    texts = [_texts(kind, values) for (_, kind), values in zip(shape, columns, strict=True)]
    rows = total = 0
    for row in zip(*texts, strict=True):
        total += int.from_bytes(hashlib.sha256(encode_fields(row)).digest(), "big")
        rows += 1
    return Sums(rows, total)


def of_lanes(rows: int, lanes: Sequence[int]) -> Sums:
    """Put together what SQL summed lane by lane, the most significant lane first.

    Raises ValueError for so many rows that a lane may have overflowed: sum by partition, then `combine`.
    """
    if rows >= MAX_ROWS or len(lanes) != LANES:
        raise ValueError(f"{rows} rows in {len(lanes)} lanes; under {MAX_ROWS} in {LANES} are exact")
    total = 0
    for lane in lanes:
        total = (total << 4 * LANE_DIGITS) + lane
    return Sums(rows, total)


def _texts(kind: Kind, values: Iterable[Any]) -> Iterable[str | None]:
    if isinstance(kind, Text):  # most columns, and already what is wanted
        return values
    write: Callable[[Any], str] = kind.text
    return (None if v is None else write(v) for v in values)


def _or_none(kind: Kind, value: Any) -> str | None:
    return None if value is None else kind.text(value)
