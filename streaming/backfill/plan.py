"""A plan of a backfill: which hours, what they hold, what it will cost, why, who asked, who approved. Pure.

Belongs here: the plan as a value and as a file that can be reviewed, its digest, and what an approval is.
Does not: measuring (`measure.py`), where files are kept (`store.py`), how far a run is (`state.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, TypeVar

from streaming.backfill.errors import EditedPlan, NotApproved, WrongPlan
from streaming.backfill.estimate import Estimate
from streaming.backfill.hours import in_order

_FORMAT = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_T = TypeVar("_T")


@dataclass(frozen=True)
class PlannedHour:
    """One event hour and what it holds: rows that stand, those deleted left out.

    Args:
        partitions: of each table that hold anything; all buckets are looked at, whatever stands here.
        raw_read: records of raw that may speak of it: all from its hour on.
        is_open: records of it are still to be expected when the plan is made.
    """

    hour: str
    partitions: int = 0
    versions: int = 0
    payments: int = 0
    files: int = 0
    bytes: int = 0
    raw_read: int = 0
    is_open: bool = False

    @property
    def rows(self) -> int:
        """Rows of both tables."""
        return self.versions + self.payments


@dataclass(frozen=True)
class MeasuredAt:
    """When the figures were taken: raw's offset vector, as JSON text, and each table's snapshot.

    Snapshots are text: not every reader of JSON has integers as long as theirs.
    """

    offsets: str
    snapshots: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """What is to be done, and why. `approver` may be put in later; all else is what was approved."""

    name: str
    reason: str
    requested_by: str
    created: datetime
    measured_at: MeasuredAt
    buckets: int
    chunk_hours: int
    chunk_rows: int
    estimate: Estimate
    hours: tuple[PlannedHour, ...]
    approver: str | None = None

    @property
    def totals(self) -> dict[str, int]:
        """Sums over the hours."""
        names = ("partitions", "versions", "payments", "files", "bytes")
        return {"hours": len(self.hours)} | {n: sum(getattr(h, n) for h in self.hours) for n in names}

    @property
    def digest(self) -> str:
        """Tell this plan from any other, whoever approved it."""
        return digest_of(self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Render for programs and files, but for the digest."""
        return {
            "format": _FORMAT,
            "name": self.name,
            "reason": self.reason,
            "requested_by": self.requested_by,
            "approver": self.approver,
            "created": self.created.isoformat(),
            "measured_at": asdict(self.measured_at),
            "buckets": self.buckets,
            "chunk_hours": self.chunk_hours,
            "chunk_rows": self.chunk_rows,
            "totals": self.totals,
            "estimate": asdict(self.estimate),
            "hours": [asdict(hour) for hour in self.hours],
        }


@dataclass(frozen=True)
class Approval:
    """Who approved which plan, and when it was taken note of."""

    by: str
    digest: str
    at: datetime


def check_name(name: str) -> str:
    """Return a name that a folder, a table and a tag can bear. Raises `WrongPlan` for others."""
    if not _NAME.fullmatch(name):
        raise WrongPlan(
            f"{name!r} cannot be the name of a backfill",
            "use a-z, 0-9 and -, up to 63 of them, e.g. fix-late-fees",
        )
    return name


def name_for(hours: Sequence[str], reason: str) -> str:
    """Name a backfill by its hours and reason, so that asking for the same again finds the same."""
    ordered = in_order(hours)
    digest = hashlib.sha256(json.dumps([ordered, reason]).encode()).hexdigest()[:10]
    return f"{ordered[0].lower()}-{digest}"


def digest_of(rendered: dict[str, Any]) -> str:
    """Digest a rendered plan, but for its approver and the digest itself."""
    decides = {k: v for k, v in rendered.items() if k not in ("approver", "digest")}
    text = json.dumps(decides, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def render(plan: Plan) -> str:
    """Write a plan as JSON with one line per hour, so that a review shows what is in it."""
    rendered = plan.as_json()
    hours = rendered.pop("hours")
    head = json.dumps({**rendered, "digest": plan.digest}, indent=2, ensure_ascii=False)
    lines = ",\n    ".join(json.dumps(hour) for hour in hours)
    return f'{head[:-2]},\n  "hours": [\n    {lines}\n  ]\n}}\n'


def parse(text: str) -> Plan:
    """Read what `render` wrote.

    Raises `WrongPlan` for what is no plan, `EditedPlan` where more than the approver was changed by hand.
    """
    try:
        value = json.loads(text)
        if value["digest"] != digest_of(value):
            raise _edited(str(value["name"]))
        plan = _plan(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WrongPlan(
            f"this is no plan of a backfill: {error!r}", "make one: `paywave backfill plan`"
        ) from None
    if plan.digest != value["digest"]:
        raise _edited(plan.name)  # a field that we do not know says something that we would not do
    check_name(plan.name)
    if [hour.hour for hour in plan.hours] != in_order(hour.hour for hour in plan.hours):
        raise WrongPlan(f"backfill {plan.name}: its hours are not in order", "make a new plan")
    return plan


def approve(
    plan: Plan, approver: str | None, known: Approval | None, now: datetime, allows_requester: bool
) -> Approval:
    """Tell who approved a plan: an earlier run took note of it, the file says it, or `approver` does so now.

    Raises `NotApproved`, and `EditedPlan` where another plan of this name was approved before.
    """
    if known is not None and known.digest != plan.digest:
        raise _edited(plan.name)
    named = [who for who in (known.by if known else None, plan.approver, approver) if who and who.strip()]
    if not named:
        raise NotApproved(
            f"backfill {plan.name}: nobody has approved the plan",
            'have it reviewed; then fill in "approver" in its file, or give --approver to `run`',
        )
    if len({_normal(who) for who in named}) > 1:
        raise NotApproved(
            f"backfill {plan.name}: approved by {named[0]}, and {named[-1]} is given as approver",
            "leave --approver out, or make a new plan",
        )
    if is_own(plan, named[0]) and not allows_requester:
        raise NotApproved(
            f"backfill {plan.name}: {named[0]} asked for it, and cannot be the one who approves it",
            "have somebody else review it (only the profile `local` takes one's own approval)",
        )
    return known or Approval(named[0], plan.digest, now)


def is_own(plan: Plan, approver: str) -> bool:
    """Tell whether the approver is who asked for it."""
    return _normal(approver) == _normal(plan.requested_by)


def approved_by(plan: Plan, approver: str | None) -> Plan:
    """Put the approver into a plan that names none."""
    return replace(plan, approver=plan.approver or approver)


def chosen(plan: Plan, hours: Iterable[str]) -> set[str]:
    """Check that a plan has these hours. Raises `WrongPlan` for others."""
    wanted, known = set(in_order(hours)), {hour.hour for hour in plan.hours}
    if beyond := sorted(wanted - known):
        raise WrongPlan(
            f"backfill {plan.name} has no hour {', '.join(beyond[:5])}",
            f"it goes from {plan.hours[0].hour} to {plan.hours[-1].hour}",
        )
    return wanted


def _plan(value: dict[str, Any]) -> Plan:
    if value["format"] != _FORMAT:
        raise ValueError(f"format {value['format']}")
    return Plan(
        name=value["name"],
        reason=value["reason"],
        requested_by=value["requested_by"],
        created=datetime.fromisoformat(value["created"]),
        measured_at=_made(MeasuredAt, value["measured_at"]),
        buckets=value["buckets"],
        chunk_hours=value["chunk_hours"],
        chunk_rows=value["chunk_rows"],
        estimate=_made(Estimate, value["estimate"]),
        hours=tuple(_made(PlannedHour, hour) for hour in value["hours"]),
        approver=value["approver"],
    )


def _made(kind: type[_T], value: dict[str, Any]) -> _T:
    return kind(**{field.name: value[field.name] for field in fields(kind)})  # type: ignore[arg-type]


def _edited(name: str) -> EditedPlan:
    return EditedPlan(
        f"backfill {name}: the plan is not what was approved, it was edited",
        "make a new plan under another name and have it reviewed; only `approver` may be filled in by hand",
    )


def _normal(name: str) -> str:
    return name.strip().casefold()
