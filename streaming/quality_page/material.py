"""What the quality page is made from, as rows. Pure.

Belongs here: their types. Does not: reading them (`read.py`), what is made of them (`model.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from lakehouse.gates import GateEvent
from quality.partner_hour import Anomaly


class Counted(NamedTuple):
    """Records of one partner and Kafka hour.

    `versions`: those that are the earliest copy of one; `open`: those that are in quarantine still.
    """

    hour: datetime
    source: str
    records: int
    late: int
    versions: int
    quarantined: int
    open: int

    @property
    def redelivered(self) -> int:
        """What is neither. While counts and tables stand at different records, this is not below 0 either."""
        return max(self.records - self.versions - self.quarantined, 0)


class Reason(NamedTuple):
    """Records of one partner that break a rule at a field; one that breaks two counts in both."""

    rule: str
    field: str
    message: str
    source: str
    records: int
    open: int


class Delay(NamedTuple):
    """Records of a partner whose delay lies in the bin from `seconds` on."""

    source: str
    seconds: float
    records: int


class Warned(NamedTuple):
    """Accepted records of a partner that break a rule which the contract only warns of."""

    rule: str
    source: str
    records: int


class EventHour(NamedTuple):
    """How complete an event hour was when it was closed; None: it is open."""

    hour: datetime
    records: int
    late: int | None
    completeness: float | None


class Identity(NamedTuple):
    """One identity of a reconciliation run; `currency` for a sum of money."""

    run: str
    made_at: datetime
    depth: str
    scope: str
    scope_from: datetime | None
    scope_to: datetime | None
    identity: str
    formula: str
    currency: str | None
    event_type: str | None
    left: Decimal
    right: Decimal
    terms: Mapping[str, str]
    state: str
    first_break: str | None

    @property
    def is_broken(self) -> bool:
        return self.state != "balanced"


class DriftField(NamedTuple):
    """A field that a partner sends beside the contract; `records` of the range."""

    field: str
    source: str
    json_type: str
    first_seen: datetime
    records: int


@dataclass(frozen=True)
class Anomalies:
    """What is unusual in the hours that were looked at, and how much of it could be known."""

    hours: int = 0
    compared: int = 0
    unknown: int = 0
    found: Sequence[Anomaly] = ()


@dataclass(frozen=True)
class MadeFrom:
    """What was read: snapshot of each table, offsets, and how far the tables are complete."""

    snapshots: Mapping[str, int]
    offsets: str
    contract_version: int | None
    complete_to: datetime | None
    not_counted: int


@dataclass(frozen=True)
class Material:
    """Everything that the page is made from, of Kafka hours from `start` to before `end`.

    `identities` and `gates` are None where their tables do not exist yet.
    """

    start: datetime
    end: datetime
    made_at: datetime
    made_from: MadeFrom
    counted: Sequence[Counted] = ()
    duplicates: Mapping[datetime, int] = field(default_factory=dict)
    reasons: Sequence[Reason] = ()
    warned: Sequence[Warned] = ()
    delays: Sequence[Delay] = ()
    event_hours: Sequence[EventHour] = ()
    identities: Sequence[Identity] | None = None
    gates: Sequence[GateEvent] | None = None
    drift: Sequence[DriftField] = ()
    drift_hours: Mapping[datetime, int] = field(default_factory=dict)
    anomalies: Anomalies = Anomalies()
