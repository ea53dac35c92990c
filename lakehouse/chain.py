"""A hash chain over a ledger that only grows: each row's link is made of the row and the link before it.

Belongs here: making and following links. Pure. Does not: tables (`chained_ledger.py`), what rows mean.

Whoever changes, removes, adds or swaps a row breaks the links from there on. Rows cut off at the end, or all
of them written anew, leave a chain that holds: tails noted elsewhere tell (stamps of appends, Dagster's runs,
a person).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from quality.canonical import sha256_of

SEQ, LINK = "seq", "link"
ALTERED, REMOVED, REORDERED, ADDED = "altered", "removed", "reordered", "added"
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
        if not seq.isdecimal() or len(link) != len(EMPTY.link) or set(link) - set("0123456789abcdef"):
            raise ValueError(f"{text!r} is no tail of a chain; it is a number, a colon, and 64 hex digits")
        return cls(int(seq), link)


EMPTY = Tail(0, "0" * 64)


class Break(NamedTuple):
    """Where a chain does not hold: the row's number, what is wrong (`ALTERED` and so on), and in words."""

    seq: int
    what: str
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
    """Follows a chain row by row, in the order of their numbers, and keeps where it is.

    Args:
        known: tails that this chain had at earlier times, in no order.
    """

    def __init__(self, known: Iterable[Tail] = ()) -> None:
        self.tail = EMPTY
        self._known = dict[int, set[str]]()
        for tail in known:
            self._known.setdefault(tail.seq, set()).add(tail.link)

    def follow(self, rows: Iterable[Row]) -> Iterator[Break]:
        """Take the next rows and say where they break the chain; then go on from what stands there."""
        for row in rows:
            found = self._unlinked(row) or self._rewritten(row)
            if found is not None:
                yield found
            self.tail = Tail(max(row[SEQ], self.tail.seq), row[LINK])

    def end(self) -> Iterator[Break]:
        """Say, after the last row, whether rows are gone that were known."""
        first, last = self.tail.seq + 1, max(self._known, default=0)
        if last >= first:
            yield Break(first, REMOVED, f"{_span(first, last)} missing at the end, and was there once")

    def _unlinked(self, row: Row) -> Break | None:
        seq, expected = row[SEQ], self.tail.seq + 1
        if seq > expected:
            return Break(expected, REMOVED, f"{_span(expected, seq - 1)} missing before row {seq}")
        if seq == self.tail.seq:
            return Break(seq, REORDERED, f"row {seq} stands twice")
        if seq < expected:
            return Break(seq, REORDERED, f"row {seq} stands after row {self.tail.seq}")
        if row[LINK] != link_of(self.tail.link, row):
            said = f"row {seq} is not the row that was appended, or the one before it is not"
            return Break(seq, ALTERED, said)
        return None

    def _rewritten(self, row: Row) -> Break | None:
        """Hold a row to what was known of it: a forger can make all links anew, but not what was noted."""
        if self._known.get(row[SEQ], set()) <= {row[LINK]}:
            return None
        said = f"row {row[SEQ]} had another link once: it, or one before it, was written anew"
        return Break(row[SEQ], ALTERED, said)


def _span(first: int, last: int) -> str:
    return f"row {first} is" if first == last else f"everything from row {first} to {last} is"


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return str(value)
