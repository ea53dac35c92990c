"""How far a file is read: its tally, and the journal from which a reading that was killed goes on.

Belongs here: both, and how they are written down. Does not: where (`landing.py`), reading Kafka. Pure.

The journal is only a hint. It says that all up to a line stands in Kafka; what came after it is found in
Kafka itself, by the headers of the records. Without a journal all of it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import msgspec

LISTED_REJECTS = 1000
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Reason(NamedTuple):
    """One rule that a row breaks; never a value of it."""

    rule: str
    field: str
    message: str


class Reject(NamedTuple):
    """A row that was rejected."""

    line: int
    reasons: tuple[Reason, ...]


class Tally(msgspec.Struct):
    """What became of the rows up to a line: counts, the first rejects, the records' offsets.

    `offsets` is the first and the last offset per partition.
    """

    rows: _Count = 0
    events: _Count = 0
    accepted: _Count = 0
    rejected: _Count = 0
    rejects: list[Reject] = []
    offsets: dict[int, tuple[int, int]] = {}

    def add(self, line: int, events: int, reasons: tuple[Reason, ...]) -> None:
        """Count a row that is accepted as so many events, or rejected for reasons."""
        self.rows += 1
        if not reasons:
            self.accepted += 1
            self.events += events
            return
        self.rejected += 1
        if len(self.rejects) < LISTED_REJECTS:
            self.rejects.append(Reject(line, reasons))

    def stands_at(self, partition: int, offset: int) -> None:
        """Note that a record of the file stands there."""
        first, last = self.offsets.get(partition, (offset, offset))
        self.offsets[partition] = (min(first, offset), max(last, offset))


class Journal(msgspec.Struct):
    """Every row up to `line`, which ends at `byte`, is acknowledged by Kafka and in the tally."""

    digest: str
    line: _Count
    byte: _Count
    tally: Tally

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)


def read_journal(content: bytes | None, digest: str) -> Journal | None:
    """Read a journal; None where there is none of this content that can be read."""
    if content is None:
        return None
    try:
        journal = msgspec.json.decode(content, type=Journal)
    except msgspec.MsgspecError:
        return None
    return journal if journal.digest == digest else None


def look_from(starts: Mapping[int, int], journal: Journal | None) -> dict[int, int]:
    """Say from where each partition is to be searched for records that came after the journal was written."""
    after = {p: last + 1 for p, (_, last) in journal.tally.offsets.items()} if journal else {}
    return {partition: max(start, after.get(partition, start)) for partition, start in starts.items()}
