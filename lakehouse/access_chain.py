"""The chain of the access trail: an access as a row, its hash, and finding the first row that is not right.

Belongs here: what a row holds, how rows are chained, verifying a sequence of them. Does not: the table
(`access_log.py`), which commands are recorded (`cli/trail.py`). Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from quality.canonical import sha256_of
from quality.cards import without_card_numbers

GENESIS = "0" * 64
_VERSION = "access-1"  # of what the hash is over; with another one it would be another hash
_MASK = "[card number]"
_HIDDEN = "[hidden]"
_SECRET_NAMES = ("password", "secret", "token", "passphrase", "private_key", "credential")
_LONGEST = 8_000


@dataclass(frozen=True)
class Access:
    """One access, before it has a place in the chain. `result`: begun, done …, or failed …."""

    at: datetime
    actor: str
    action: str
    target: str
    parameters: str
    result: str
    access_id: str


@dataclass(frozen=True)
class Entry:
    """One row of the trail: an access in its place."""

    sequence: int
    at: datetime
    actor: str
    action: str
    target: str
    parameters: str
    result: str
    access_id: str
    previous_hash: str
    hash: str

    def as_json(self) -> dict[str, Any]:
        """Render for programs: times as text, parameters as an object."""
        return {**asdict(self), "at": self.at.isoformat(), "parameters": json.loads(self.parameters)}


class Tail(NamedTuple):
    """The last row that is known of a trail: its sequence (0: there is none) and hash."""

    sequence: int
    hash: str


class Broken(NamedTuple):
    """The first row that is not right: where, and what is wrong: altered, removed or reordered."""

    sequence: int
    what: str
    said: str


NO_ROWS = Tail(0, GENESIS)


def chained(access: Access, tail: Tail) -> Entry:
    """Put an access behind the last row."""
    sequence = tail.sequence + 1
    fields = {**asdict(access), "at": access.at.astimezone(UTC)}
    entry = Entry(sequence, **fields, previous_hash=tail.hash, hash="")
    return Entry(sequence, **fields, previous_hash=tail.hash, hash=hash_of(entry))


def hash_of(entry: Entry) -> str:
    """Compute a row's hash from all its other columns: sha256 in hex."""
    return sha256_of(
        (
            _VERSION,
            str(entry.sequence),
            entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
            entry.actor,
            entry.action,
            entry.target,
            entry.parameters,
            entry.result,
            entry.access_id,
            entry.previous_hash,
        )
    )


def first_broken(entries: Iterable[Entry], known: Iterable[Tail] = ()) -> Broken | None:
    """Find the first row that was altered, removed or put elsewhere; None where all stand as they were.

    Rows alone cannot tell that the last ones were cut off, or that all were written anew: `known` can, which
    are rows that were seen before, in no order.

    Args:
        entries: all rows from the first one on, in their order.
        known: tails that this trail had at earlier times.
    """
    rows = list(entries)
    hashes = {row.hash: row.sequence for row in rows}
    tail = NO_ROWS
    seen = dict[int, list[str]]()
    for sequence, value in known:
        seen.setdefault(sequence, []).append(value)
    for row in rows:
        broken = _broken(row, tail, hashes) or _rewritten(row, seen.get(row.sequence, ()))
        if broken is not None:
            return broken
        tail = Tail(row.sequence, row.hash)
    if seen and max(seen) > tail.sequence:
        said = f"{_span(tail.sequence + 1, max(seen))} missing at the end, and was there once"
        return Broken(tail.sequence + 1, "removed", said)
    return None


def _span(first: int, last: int) -> str:
    return f"row {first} is" if first == last else f"everything from row {first} to {last} is"


def _broken(row: Entry, tail: Tail, hashes: Mapping[str, int]) -> Broken | None:
    expected = tail.sequence + 1
    if row.sequence < expected:
        return Broken(row.sequence, "reordered", f"row {row.sequence} stands after row {tail.sequence}")
    if hash_of(row) != row.hash:
        return Broken(row.sequence, "altered", f"row {row.sequence} does not give the hash that it holds")
    if row.sequence > expected:
        last = row.sequence - 1
        said = f"{_span(expected, last)} missing before row {row.sequence}"
        return Broken(expected, "removed", said)
    if row.previous_hash == tail.hash:
        return None
    if row.previous_hash in hashes:
        said = f"row {row.sequence} was written behind row {hashes[row.previous_hash]}, not {tail.sequence}"
        return Broken(row.sequence, "reordered", said)
    said = f"row {row.sequence} was not written behind row {tail.sequence} as that stands: one was replaced"
    return Broken(max(tail.sequence, 1), "altered", said)


def _rewritten(row: Entry, seen: Iterable[str]) -> Broken | None:
    if all(value == row.hash for value in seen):
        return None
    said = f"row {row.sequence} had another hash once: it, or one before it, was written anew"
    return Broken(row.sequence, "altered", said)


def parameters_of(given: Mapping[str, Any]) -> str:
    """Render what a command was given as JSON: what is empty left out, secrets hidden, card numbers masked.

    Long texts are cut. The same parameters give the same text.
    """
    told = {
        name: _told(name, value) for name, value in given.items() if value not in (None, "", (), [], False)
    }
    clean = without_card_numbers(told, lambda _digits: _MASK)
    return json.dumps(clean, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def plain(text: str) -> str:
    """Mask card numbers in a text, and cut it."""
    masked: str = without_card_numbers(text, lambda _digits: _MASK)
    return masked if len(masked) <= _LONGEST else f"{masked[:_LONGEST]}…"


def _told(name: str, value: Any) -> Any:
    if any(part in name.lower() for part in _SECRET_NAMES):
        return _HIDDEN
    if isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _told(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_told(name, inner) for inner in value]
    return plain(value.isoformat() if isinstance(value, datetime) else str(value))
