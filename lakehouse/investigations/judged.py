"""A record of raw as the contract judges it: whose it is, how it came, what it tells. Pure.

Belongs here: one record by itself. Does not: reading it (`investigate.py`), what it comes to beside others
(`plot.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from lakehouse.fold import Coordinates, Version, record
from lakehouse.gates import HELD_VIOLATION, Hold
from lakehouse.investigations.subject import Subject
from lakehouse.offsets import OffsetVector
from lakehouse.redrive_mark import Mark, read_mark, written
from quality.contract import Event, Violation, in_force
from quality.judge import judge

ARCHIVE, FILE, LINE, SOURCE, EVENT_ID = "archive", "file", "line", "ce_source", "ce_id"


class Judged(NamedTuple):
    """One record of raw.

    Args:
        source: the partner (header `ce_source`); None where none is named.
        way: how it came, in words.
        contract_version: the contract that was in force at its Kafka time.
        event: what it tells; None for one that breaks the contract, or is held.
        violations: every rule that it breaks.
        mark: of which record it is a redrive.
        named: event id that its header names, in lowercase.
        mentions: its bytes or its key mention the id that is looked for.
    """

    where: Coordinates
    topic: str
    kafka_ts: datetime
    source: str | None
    way: str
    contract_version: int
    event: Event | None
    violations: tuple[Violation, ...]
    mark: Mark | None
    named: str | None
    mentions: bool
    size: int

    @property
    def version(self) -> Version | None:
        """The version that it tells, by itself."""
        return None if self.event is None else record(self.event, self.where)

    @property
    def is_held(self) -> bool:
        """Valid, but of a partner whose slice was held then."""
        return self.violations == (HELD_VIOLATION,)

    @property
    def place(self) -> tuple[datetime, Coordinates]:
        """Its place in the order in which Kafka took the records."""
        return self.kafka_ts, self.where


def judged(row: Mapping[str, Any], subject: Subject, holds: Iterable[Hold] = ()) -> Judged:
    """Judge a row of raw (the table's columns) as the curated job does, by the contract of its Kafka time."""
    where = coordinates_of(row)
    headers = _texts(row["headers"])
    mark = read_mark(row["headers"], where, row["kafka_ts"])
    contract = in_force(row["kafka_ts"])
    as_of = mark.first_time if mark else row["kafka_ts"]
    verdict = judge(row["value"], as_of, contract, headers.get(ARCHIVE) == "true")
    source = headers.get(SOURCE)
    if isinstance(verdict, Event) and mark is None and any(hold.holds(source, where) for hold in holds):
        verdict = [HELD_VIOLATION]
    return Judged(
        where,
        row["topic"],
        row["kafka_ts"],
        source,
        _way(headers, mark),
        contract.version,
        verdict if isinstance(verdict, Event) else None,
        () if isinstance(verdict, Event) else tuple(verdict),
        mark,
        headers.get(EVENT_ID, "").lower() or None,
        subject.is_in(row["value"]) or subject.is_key(row["key"]),
        len(row["value"] or b""),
    )


def coordinates_of(row: Mapping[str, Any]) -> Coordinates:
    """Take a row's coordinates."""
    return Coordinates(row["topic_id"], row["partition"], row["offset"])


def is_below(where: Coordinates, vector: OffsetVector) -> bool:
    """Tell whether a vector has consumed a record."""
    return where.offset < vector.next_offset(where.topic_id, where.partition)


def _way(headers: Mapping[str, str], mark: Mark | None) -> str:
    """Say how a record came. The gateway and producers of ours leave no mark of their own: files do."""
    told = "as a message, over the gateway or from a producer"
    if FILE in headers:
        told = f"in the file {headers[FILE]}, line {headers.get(LINE, '?')}"
    if headers.get(ARCHIVE) == "true":
        told += ", of an archive"
    if mark is not None:
        told += f"; sent again, attempt {mark.attempt}, for the record {written(mark.of)}"
    return told


def _texts(headers: Iterable[Mapping[str, Any]] | None) -> dict[str, str]:
    """Headers as text, the first of each name; what is no text is left out."""
    found: dict[str, str] = {}
    names = set()
    for header in headers or ():
        name, value = header["key"], header["value"]
        if name in names or value is None:
            names.add(name)
            continue
        names.add(name)
        try:
            found[name] = bytes(value).decode()
        except UnicodeDecodeError:
            continue
    return found
