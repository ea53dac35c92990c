"""A hash chain over a ledger that only grows: each row's link is made of the row and the link before it.

Belongs here: making and following links. Pure. Does not: tables (`chained_ledger.py`), what rows mean.

Whoever changes, removes, adds or swaps a row breaks the links from there on. Rows cut off at the end leave a
chain that holds: a tail noted elsewhere tells (the stamp of the last append, Dagster's runs, a person).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from quality.canonical import sha256_of

SEQ, LINK = "seq", "link"
Row = Mapping[str, Any]


class Tail(NamedTuple):
    """The end of a chain: the number of its last row, and that row's link (sha256, hex)."""

    seq: int
    link: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.link}"

    @classmethod
    def parse(cls, text: str) -> Tail:
        """Read `SEQ:LINK` back. Raises ValueError."""
        seq, _, link = text.partition(":")
        if len(link) != len(EMPTY.link) or set(link) - set("0123456789abcdef"):
            raise ValueError(f"{text!r} is no tail of a chain; it is a number, a colon, and 64 hex digits")
        return cls(int(seq), link)


EMPTY = Tail(0, "0" * 64)


class Break(NamedTuple):
    """Where a chain does not hold, and how."""

    seq: int
    said: str


def link_of(previous: str, row: Row) -> str:
    """Make a row's link (sha256, hex) of the link before it and all its fields but the link.

    Null fields are left out, so that a column that is added later changes no old link.
    """
    said = [(name, _text(value)) for name, value in sorted(row.items()) if name != LINK and value is not None]
    return sha256_of([previous, *(part for pair in said for part in pair)])


def chained(rows: Iterable[Row], tail: Tail) -> list[dict[str, Any]]:
    """Give rows that come after a tail their numbers and links."""
    made = []
    for row in rows:
        numbered = {**row, SEQ: tail.seq + 1}
        tail = Tail(tail.seq + 1, link_of(tail.link, numbered))
        made.append({**numbered, LINK: tail.link})
    return made


class Follower:
    """Follows a chain row by row, in the order of their numbers, and keeps where it is."""

    def __init__(self) -> None:
        self.tail = EMPTY

    def follow(self, rows: Iterable[Row]) -> Iterator[Break]:
        """Take the next rows and say where they break the chain; then go on from what stands there."""
        for row in rows:
            seq, expected = row[SEQ], self.tail.seq + 1
            if seq > expected:
                yield Break(expected, f"rows {expected} to {seq - 1} are missing")
            elif seq < expected:
                yield Break(seq, f"row {seq} stands twice")
            elif row[LINK] != link_of(self.tail.link, row):
                yield Break(seq, f"row {seq} is not the row that was appended, or the one before it is not")
            self.tail = Tail(max(seq, self.tail.seq), row[LINK])


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return str(value)
