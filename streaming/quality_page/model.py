"""What the quality page shows, from rows. Pure.

Belongs here: the figures. Does not: what follows from them (`verdict.py`), reading (`read.py`), looks
(`tables.py`, `draw.py`, `render.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from lakehouse.gates import GateEvent, GateState
from quality.bins import quantile
from streaming.quality_page.material import (
    Counted,
    Delay,
    Identity,
    Material,
    Reason,
)
from streaming.quality_page.verdict import Need, Verdict, balance, current, name_of, needs

MOST_BARS = 60
_STEPS = tuple(timedelta(hours=hours) for hours in (1, 2, 3, 6, 12, 24, 72, 168))


class Total(NamedTuple):
    """A figure of the whole range, and its share of all records where it has one."""

    name: str
    meaning: str
    records: int
    share: float | None


class Bar(NamedTuple):
    """Records of one stretch of time, by what became of them."""

    start: datetime
    accepted: int
    redelivered: int
    quarantined: int
    late: int
    duplicates: int
    drift: int


class Partner(NamedTuple):
    """What became of one partner's records."""

    name: str
    records: int
    accepted: int
    redelivered: int
    quarantined: int
    late: int
    last_hour: datetime


class DelayOf(NamedTuple):
    """Delays in seconds, within which so many of a partner's records came."""

    name: str
    records: int
    median: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Page:
    """What is shown, section by section; the longest tables are cut, and say how much is left out."""

    material: Material
    balance: Verdict
    needs: list[Need]
    totals: list[Total]
    step: timedelta
    bars: list[Bar]
    partners: list[Partner]
    reasons: list[Reason]
    delays: list[DelayOf]
    delay_bins: list[tuple[float, int]]
    identities: list[Identity]
    standing: list[GateEvent]


def page_of(material: Material) -> Page:
    """Decide what is shown."""
    partners = _partners(material.counted)
    identities, closed = current(material.identities or ()), list(GateState.of(material.gates or ()).standing)
    step = _step(material.end - material.start)
    return Page(
        material=material,
        balance=balance(material, identities),
        needs=needs(material, identities, closed),
        totals=_totals(partners, sum(material.duplicates.values())),
        step=step,
        bars=_bars(material, step),
        partners=partners,
        reasons=_reasons(material.reasons),
        delays=_delays(material.delays),
        delay_bins=_added_up((delay.seconds, delay.records) for delay in material.delays),
        identities=identities,
        standing=closed,
    )


# -- figures -------------------------------------------------------------------------------------------------


def _totals(partners: Sequence[Partner], duplicates: int) -> list[Total]:
    records = sum(p.records for p in partners)

    def total(name: str, meaning: str, count: int) -> Total:
        return Total(name, meaning, count, count / records if records and name != "Records" else None)

    return [
        total("Records", "taken by Kafka", records),
        total("Accepted", "new content of an event", sum(p.accepted for p in partners)),
        total("Redelivered", "copies of content that was there", sum(p.redelivered for p in partners)),
        total("Quarantined", "break the contract, or are held", sum(p.quarantined for p in partners)),
        total("Late", "came after their event hour was closed", sum(p.late for p in partners)),
        total("Duplicates", "events that another one of the same payment already was", duplicates),
    ]


def _partners(counted: Sequence[Counted]) -> list[Partner]:
    """Add up by the name that is shown; the one with the greatest share in quarantine comes first."""
    by_name: dict[str, list[Counted]] = {}
    for row in counted:
        by_name.setdefault(name_of(row.source), []).append(row)
    partners = [
        Partner(
            name,
            sum(r.records for r in rows),
            sum(r.versions for r in rows),
            sum(r.redelivered for r in rows),
            sum(r.quarantined for r in rows),
            sum(r.late for r in rows),
            max(r.hour for r in rows),
        )
        for name, rows in by_name.items()
    ]
    return sorted(partners, key=lambda p: (-p.quarantined / max(p.records, 1), -p.records, p.name))


def _step(span: timedelta) -> timedelta:
    return next((step for step in _STEPS if span / step <= MOST_BARS), _STEPS[-1])


def _bars(material: Material, step: timedelta) -> list[Bar]:
    """One bar for each stretch of the range, those without a record too."""
    sums: dict[datetime, Counter[str]] = {}
    for start in _starts(material, step):
        sums[start] = Counter()
    for row in material.counted:
        into = _within(sums, row.hour, material.start, step)
        into.update(
            accepted=row.versions, redelivered=row.redelivered, quarantined=row.quarantined, late=row.late
        )
    for name, hours in (("duplicates", material.duplicates), ("drift", material.drift_hours)):
        for hour, count in hours.items():
            _within(sums, hour, material.start, step)[name] += count
    return [Bar(start, *(sums[start][name] for name in Bar._fields[1:])) for start in sorted(sums)]


def _starts(material: Material, step: timedelta) -> list[datetime]:
    return [material.start + i * step for i in range(-(-(material.end - material.start) // step))]


def _within(
    sums: dict[datetime, Counter[str]], hour: datetime, start: datetime, step: timedelta
) -> Counter[str]:
    return sums.setdefault(start + (hour - start) // step * step, Counter())


def _reasons(reasons: Sequence[Reason]) -> list[Reason]:
    named = (reason._replace(source=name_of(reason.source)) for reason in reasons)
    return sorted(named, key=lambda r: (-r.records, r.rule, r.field, r.source))


def _delays(delays: Sequence[Delay]) -> list[DelayOf]:
    by_name: dict[str, list[tuple[float, int]]] = {}
    for delay in delays:
        by_name.setdefault(name_of(delay.source), []).append((delay.seconds, delay.records))
    found = [
        DelayOf(name, sum(n for _, n in bins), *(quantile(bins, share) for share in (0.5, 0.9, 0.99)))
        for name, bins in by_name.items()
    ]
    return sorted(found, key=lambda d: (-d.p99, d.name))


def _added_up(bins: Iterable[tuple[float, int]]) -> list[tuple[float, int]]:
    sums: Counter[float] = Counter()
    for bound, records in bins:
        sums[bound] += records
    return sorted(sums.items())
