"""Legal holds: what each covers, which ones stand. Pure.

Belongs here: those decisions, on rows of the ledger. Does not: the ledger's table (`hold_log.py`), which days
of raw have records that a hold covers (`maintenance/held_days.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from lakehouse.errors import HoldRefused

PLACED, RELEASED = "placed", "released"
TAG_PREFIX = "legal-hold-"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class Scope:
    """What a hold covers: records of an account, or of a time, or both: those of the account in that time.

    Args:
        account_id: as the record's Kafka key or its event has it; None: every account.
        starts, ends: from the first moment on, up to before the second; None: without a bound. A record is in
            that time if Kafka took it then, or if its event happened then.
    """

    account_id: str | None = None
    starts: datetime | None = None
    ends: datetime | None = None

    def __str__(self) -> str:
        said = [f"account {self.account_id}"] if self.account_id is not None else []
        said += [f"from {self.starts.isoformat()}"] if self.starts is not None else []
        said += [f"to {self.ends.isoformat()}"] if self.ends is not None else []
        return " ".join(said)


@dataclass(frozen=True)
class Hold:
    """A hold that stands: its scope, why, by whose leave, who placed it and when."""

    name: str
    scope: Scope
    reason: str
    approver: str
    actor: str
    at: datetime

    @property
    def tag(self) -> str:
        """Name of the tags that keep what the tables held when it was placed."""
        return TAG_PREFIX + self.name

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        scope = self.scope
        return {
            "name": self.name,
            "account_id": scope.account_id,
            "from": scope.starts and scope.starts.isoformat(),
            "to": scope.ends and scope.ends.isoformat(),
            "reason": self.reason,
            "approver": self.approver,
            "actor": self.actor,
            "at": self.at.isoformat(),
        }


@dataclass(frozen=True)
class HeldDays:
    """What a hold keeps of the days that were looked at: the first and last of them, its records there."""

    hold: Hold
    first: date
    last: date
    records: int

    def __str__(self) -> str:
        hold, days = self.hold, f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"
        return (
            f"hold {hold.name} ({hold.scope}) keeps {self.records:,} records of {days}: {hold.reason}, "
            f"approved by {hold.approver}"
        )

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {
            **self.hold.as_json(),
            "first_day": self.first.isoformat(),
            "last_day": self.last.isoformat(),
            "records": self.records,
        }


def name_of(tag: str) -> str:
    """Return the name of the hold that a tag is of."""
    return tag.removeprefix(TAG_PREFIX)


def standing(rows: Iterable[Mapping[str, Any]]) -> tuple[Hold, ...]:
    """Find the holds that were placed and not released since, by the ledger's rows in their order."""
    found: dict[str, Hold] = {}
    for row in rows:
        if row["event"] == RELEASED:
            found.pop(row["name"], None)
        else:
            found[row["name"]] = _hold_of(row)
    return tuple(found.values())


def held_account(holds: Iterable[Hold], account_id: str) -> str | None:
    """Say which hold covers an account, why and by whose leave; None for none.

    One of a time covers every account: whether this one has records there is not asked.
    """
    for hold in holds:
        if hold.scope.account_id in (None, account_id):
            return f"hold {hold.name} ({hold.scope}): {hold.reason}, approved by {hold.approver}"
    return None


def held_export(holds: Iterable[Hold], scope: str | None) -> str | None:
    """Say which hold may cover an export of a scope (`account:ID`, …); None for none.

    Only of another account is it known that it has nothing of the hold's: all else may.
    """
    kind, _, account = (scope or "").partition(":")
    for hold in holds:
        if kind != "account" or hold.scope.account_id in (None, account):
            return f"hold {hold.name} ({hold.scope}) may cover it: {hold.reason}, approved by {hold.approver}"
    return None


def check_new(name: str, scope: Scope, rows: Iterable[Mapping[str, Any]]) -> None:
    """Check that a hold can be placed under this name. Raises `HoldRefused` and says why not."""
    if not _NAME.fullmatch(name):
        raise HoldRefused(
            f"{name!r} cannot name a hold: it also names tags", "lowercase letters, digits and -, up to 63"
        )
    if scope == Scope():
        raise HoldRefused("a hold covers an account, a time, or both", "name at least one of them")
    if scope.starts is not None and scope.ends is not None and scope.starts >= scope.ends:
        raise HoldRefused(f"no record lies in the time {scope}", "the end must come after the start")
    if any(row["name"] == name for row in rows):
        raise HoldRefused(
            f"there was a hold {name} already", "one name is one hold for ever: choose another name"
        )


def first_held_day(held: Iterable[HeldDays]) -> date | None:
    """Find the first day that a hold keeps: raw goes from the front, so everything from there on stays."""
    return min((days.first for days in held), default=None)


def _hold_of(row: Mapping[str, Any]) -> Hold:
    scope = Scope(row["account_id"], row["starts"], row["ends"])
    return Hold(row["name"], scope, row["reason"], row["approver"], row["actor"], row["at"])
