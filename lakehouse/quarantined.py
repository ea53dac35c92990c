"""A record of quarantine, a group of them, and how it is said which ones are meant. Pure.

Belongs here: that, as data and as a condition in SQL. Does not: reading them (`quarantine.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple

from lakehouse.fold import Coordinates
from quality.contract import Violation

_TERMS = {
    "source": "coalesce(q.source, '') = {}",
    "since": "q.kafka_ts >= {}",
    "until": "q.kafka_ts < {}",
    "state": "q.state = {}",
}


@dataclass(frozen=True)
class Selection:
    """Records of quarantine; what is None is left open.

    Args:
        rule, field: of one and the same violation.
        source: the partner (header `ce_source`); empty for records that name none.
        since, until: Kafka time, the first inclusive, the second exclusive.
    """

    rule: str | None = None
    field: str | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    state: str | None = None

    def condition(self) -> tuple[str, dict[str, Any]]:
        """Render what holds for a row of quarantine, `q`, and the values that this reads by their names."""
        given = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        named = " AND ".join(f"v.{name} = {variable(name)}" for name in ("rule", "field") if name in given)
        told = f"len([v for v in q.violations if {named}]) > 0"
        terms = {"rule": told, "field": told} | {
            name: term.format(variable(name)) for name, term in _TERMS.items()
        }
        return " AND ".join(terms[name] for name in given) or "true", given


class Group(NamedTuple):
    """Records of one partner that break one rule in one field; one may be in several groups."""

    rule: str
    field: str
    source: str
    state: str
    records: int
    first: datetime
    last: datetime


class Quarantined(NamedTuple):
    """A row of quarantine. `became` of the record that it was sent again as: `valid` or `quarantined`."""

    topic_id: str
    topic: str
    partition: int
    offset: int
    kafka_ts: datetime
    source: str
    violations: tuple[Violation, ...]
    contract_version: int
    state: str
    redrive_of: str | None
    redriven_by: str | None
    redriven_at: datetime | None
    became: str | None

    @property
    def where(self) -> Coordinates:
        return Coordinates(self.topic_id, self.partition, self.offset)

    @property
    def place(self) -> tuple[Any, ...]:
        """Its place in the order in which records are read."""
        return (self.kafka_ts, *self.where)


class RawRecord(NamedTuple):
    """What raw has of a record, bytes as received."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def variable(name: str) -> str:
    """Render a value that comes from outside."""
    return f"getvariable('{name}')"
