"""What goes of each store, when, and why it may: one line of the retention plan each. Pure.

Belongs here: saying it. Does not: finding out (`maintenance/`, `streaming/`), dropping
(`maintenance/retention.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

from lakehouse.holds import Hold, held_export
from lakehouse.maintenance.due import latest_cut

MONTHS_A_YEAR = 12


@dataclass(frozen=True)
class Store:
    """One store in the plan.

    Args:
        rule: for how long it keeps what it has, and who says so.
        goes: what is old enough to go now.
        why: why that may go.
        blocked: what stands against it; nothing goes while there is any.
        how: what makes it go.
    """

    name: str
    rule: str
    goes: str
    why: str
    blocked: tuple[str, ...]
    how: str

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {**asdict(self), "blocked": list(self.blocked)}


@dataclass(frozen=True)
class Export:
    """An audit export: its name, when it was made, and its scope; None: its manifest does not say."""

    name: str
    made_at: datetime | None
    scope: str | None = None


def kafka_store(topic: str, days: int, differs: Iterable[str] | None, unread: int | None) -> Store:
    """Say what goes of the topic: what is older than its days, by the broker, whether we look or not.

    Args:
        differs: what of the topic is not as the settings say; None: Kafka was not asked, or did not answer.
        unread: records that raw does not have yet.
    """
    blocked = [f"the topic differs: {said}" for said in differs or ()]
    blocked += ["Kafka does not answer: what it keeps is not known"] if differs is None else []
    blocked += (
        [f"{unread:,} records are not in raw yet: they go {days} days after they came"] if unread else []
    )
    return Store(
        f"Kafka topic {topic}",
        f"{days} days (kafka.retention_days)",
        f"what came more than {days} days ago",
        "raw has every record as it came; holds are kept there",
        tuple(blocked),
        "the broker, by itself; `paywave topics apply` sets the days",
    )


def raw_store(due: Mapping[str, Any], months: int) -> Store:
    """Say what goes of raw.

    Args:
        due: `maintenance.retention.Due.as_json()` of the days that are old enough.
    """
    days = due["days"]
    goes = "nothing" if not days else (
        f"{len(days):,} days before {due['before']}: {due['records']:,} records, {due['files']:,} files, "
        f"{due['bytes']:,} bytes"
    )  # fmt: skip
    blocked = [_held(hold) for hold in due["legal_holds"]]
    blocked += [f"{reader} {stands}" for reader, stands in due["behind"].items()]
    blocked += [f"{due['strays']:,} later records lie before older ones"] if due["strays"] else []
    return Store(
        "raw.payment_events",
        f"{months} months (retention.raw_months), whole days of Kafka time, from the front",
        goes,
        "it is older than was promised, and every job has read it",
        tuple(blocked),
        "`paywave retention apply --before DAY --reason … --approver …`, then `paywave maintain expire`",
    )


def curated_store(months: int | None, due: Mapping[str, Any] | None) -> Store:
    """Say what goes of the curated tables.

    Args:
        due: `maintenance.curated_retention.CuratedDue.as_json()` of the days that are old enough; None where
            they are kept for good.
    """
    if months is None or due is None:
        return Store(
            "curated tables",
            "for good (retention.curated_months is not set)",
            "nothing",
            "nothing may go by the settings",
            (),
            "snapshots beyond the newest go by `paywave maintain expire`; what tags and holds pin stays",
        )
    goes = [f"{name} {sum(day['records'] for day in days):,}" for name, days in due["tables"].items()]
    return Store(
        "curated tables",
        f"{months} months (retention.curated_months), whole days of event time, from the front",
        f"rows of before {due['before']}: {', '.join(goes)}" if goes else "nothing",
        "it is older than the settings say, and raw has dropped it",
        tuple(due["blocked"]),
        "`paywave retention apply --store curated --before DAY --reason … --approver …`, then `paywave "
        "maintain expire`",
    )


def exports_store(exports: Iterable[Export], years: int, now: datetime, holds: Iterable[Hold] = ()) -> Store:
    """Say which audit exports are old enough to go. They are never deleted from here.

    Args:
        holds: legal holds in force; one that may cover an export keeps it, however old it is.
    """
    cut, found, holds = latest_cut(now, years * MONTHS_A_YEAR), list(exports), tuple(holds)
    old = sorted(e.name for e in found if e.made_at is not None and e.made_at.astimezone(UTC).date() < cut)
    undated = sorted(e.name for e in found if e.made_at is None)
    return Store(
        "audit exports",
        f"{years} years (audit.retention_years) from the date of the manifest",
        f"{len(old):,} of {len(found):,}: {', '.join(old)}" if old else f"nothing, of {len(found):,}",
        f"they were made before {cut}",
        (
            *(f"{name}: its manifest does not say when it was made" for name in undated),
            *(f"{e.name}: {said}" for e in found if e.name in old and (said := held_export(holds, e.scope))),
        ),
        "a person, where the store's lock is over; the manifests stay, the chain needs them",
    )


def cut_of(asked: date | None, due: Mapping[str, Any]) -> str:
    """Say up to which day raw can be dropped: what was asked for, or the first day that a hold keeps."""
    held: list[str] = [hold["first_day"] for hold in due["legal_holds"]]
    return min([str(asked or due["before"]), *held])


def _held(hold: Mapping[str, Any]) -> str:
    said = f"hold {hold['name']} keeps {hold['records']:,} records from {hold['first_day']} on"
    return f"{said}: {hold['reason']}, approved by {hold['approver']}, placed by {hold['actor']}"
