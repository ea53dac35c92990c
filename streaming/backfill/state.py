"""How far a backfill is, hour by hour. Pure.

Belongs here: the state as a value, what may follow what, and what to do next. Does not: files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from streaming.backfill.plan import Approval, Plan, chosen

_LONGEST_ERROR = 500


class Status(StrEnum):
    """What became of an hour."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class HourState:
    """One hour: how often it was begun, and the rows that were added and deleted, by table."""

    status: Status = Status.PENDING
    attempts: int = 0
    changed: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None


@dataclass
class State:
    """All hours of a plan; those not named are pending.

    Args:
        token: what the scratch table is named by: two homes that run one plan do not share it.
        chunk: the hours that are gathered in the scratch table.
        is_repaired: identity conflicts were looked at after the last change.
        needs_repair: payments of identity conflicts were seen to differ.
        seconds: time that was used, over all runs.
    """

    token: str
    hours: dict[str, HourState] = field(default_factory=dict)
    chunk: tuple[str, ...] = ()
    approval: Approval | None = None
    is_repaired: bool = True
    needs_repair: bool = False
    seconds: float = 0.0
    finished_at: datetime | None = None

    def of(self, hour: str) -> HourState:
        """Tell where an hour is."""
        return self.hours.get(hour, HourState())

    def begin(self, chunk: Iterable[str]) -> None:
        """Take hours up; those done already stay so."""
        self.chunk = tuple(chunk)
        self.is_repaired = False
        self.finished_at = None
        for hour in self.chunk:
            found = self.of(hour)
            if found.status is not Status.DONE:
                self.hours[hour] = replace(
                    found, status=Status.RUNNING, attempts=found.attempts + 1, error=None
                )

    def note(self, hour: str, changed: Mapping[str, int]) -> None:
        """Add the rows that a publish changed in an hour."""
        found = self.of(hour)
        self.hours[hour] = replace(found, changed=dict(Counter(found.changed) + Counter(changed)))

    def finish(self, hour: str) -> None:
        """Both tables of the hour were published, or were right."""
        self.hours[hour] = replace(self.of(hour), status=Status.DONE, error=None)

    def fail(self, hour: str, error: str) -> None:
        """The hour could not be done."""
        self.hours[hour] = replace(self.of(hour), status=Status.FAILED, error=error[:_LONGEST_ERROR])

    def forget(self, hours: Iterable[str]) -> None:
        """Take hours for not done, so that they are done again; what they changed stays noted."""
        for hour in hours:
            self.hours[hour] = replace(self.of(hour), status=Status.PENDING)

    def interrupt(self) -> None:
        """Nobody is at work any more: hours that were begun wait to be gone on with."""
        for hour, found in self.hours.items():
            if found.status is Status.RUNNING:
                self.hours[hour] = replace(found, status=Status.PENDING)

    def counts(self, plan: Plan) -> dict[str, int]:
        """Count the plan's hours by status."""
        found = Counter(self.of(hour.hour).status for hour in plan.hours)
        return {status.value: found[status] for status in Status}

    def changed(self) -> Counter[str]:
        """Sum the rows that were changed."""
        return sum((Counter(hour.changed) for hour in self.hours.values()), Counter())

    def is_done(self, plan: Plan) -> bool:
        """Tell whether every hour is done and nothing is left to look at."""
        return self.is_repaired and all(self.of(h.hour).status is Status.DONE for h in plan.hours)

    def as_json(self) -> dict[str, Any]:
        """Render for the file."""
        approval = self.approval and {**asdict(self.approval), "at": self.approval.at.isoformat()}
        return {
            "token": self.token,
            "approval": approval,
            "chunk": list(self.chunk),
            "is_repaired": self.is_repaired,
            "needs_repair": self.needs_repair,
            "seconds": round(self.seconds, 3),
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
            "hours": {hour: asdict(found) for hour, found in sorted(self.hours.items())},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> State:
        """Read what `as_json` wrote."""
        approval, finished_at = value["approval"], value["finished_at"]
        return cls(
            value["token"],
            {
                h: HourState(**{**found, "status": Status(found["status"])})
                for h, found in value["hours"].items()
            },
            tuple(value["chunk"]),
            approval and Approval(**{**approval, "at": datetime.fromisoformat(approval["at"])}),
            value["is_repaired"],
            value["needs_repair"],
            value["seconds"],
            datetime.fromisoformat(finished_at) if finished_at else None,
        )


def hours_to_do(
    plan: Plan,
    state: State,
    only: Collection[str] | None = None,
    only_failed: bool = False,
    again: bool = False,
    most: int | None = None,
) -> list[str]:
    """Choose the hours of a run, in their order: those that are not done, unless asked for otherwise."""
    wanted = None if only is None else chosen(plan, only)
    found = []
    for hour in (planned.hour for planned in plan.hours):
        status = state.of(hour).status
        is_due = status is Status.FAILED if only_failed else again or status is not Status.DONE
        if is_due and (wanted is None or hour in wanted):
            found.append(hour)
    return found[:most]


def next_step(plan: Plan, state: State, is_running: bool) -> str:
    """Say what a person has to do next."""
    counts, run = state.counts(plan), f"`paywave backfill run {plan.name}`"
    if is_running:
        return "it is running"
    if state.is_done(plan):
        return "nothing to do"
    if state.approval is None and plan.approver is None:
        return f"have the plan reviewed, then {run} --approver NAME"
    if counts["failed"]:
        return f"see the errors, then {run}, which takes the hours that are not done"
    return run if counts["done"] == 0 else f"{run}, which goes on where it was"
