"""The page's tables as text, from what it shows. Pure.

Belongs here: columns, rows, and how figures are written. Does not: which figures (`model.py`), HTML
(`render.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from lakehouse.gates import GateEvent
from quality.partner_hour import figure_text
from quality.policy import SURGE
from streaming.quality_page.material import Identity
from streaming.quality_page.model import Page
from streaming.quality_page.verdict import name_of

MOST_ROWS = 40
_WRITTEN = "%Y-%m-%d %H:%M"


class Table(NamedTuple):
    """A table of text; `numbers` are the columns that are set to the right, `left_out` the rows beyond."""

    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    numbers: frozenset[int] = frozenset()
    left_out: int = 0


def table(
    caption: str, columns: Sequence[str], rows: Iterable[tuple[str, ...]], numbers: Iterable[int] = ()
) -> Table:
    """Make a table of at most `MOST_ROWS` rows."""
    every = list(rows)
    left_out = max(len(every) - MOST_ROWS, 0)
    return Table(caption, tuple(columns), every[:MOST_ROWS], frozenset(numbers), left_out)


def tables_of(page: Page) -> dict[str, Table]:
    """All tables of the page by the section that shows them."""
    return {
        "hours": _hours(page),
        "partners": _partners(page),
        "reasons": _reasons(page),
        "warned": _warned(page),
        "delays": _delays(page),
        "completeness": _completeness(page),
        "broken": _broken(page),
        "identities": _identities(page),
        "drift": _drift(page),
        "anomalies": _anomalies(page),
        "gates": _gates("Closed or held now", page.standing),
        "gate_log": _gates("What gates did, the newest first", reversed(page.material.gates or ())),
        "snapshots": _snapshots(page),
    }


def moment(at: datetime | None) -> str:
    """A moment to the minute, in UTC as all of the page."""
    return "not known yet" if at is None else f"{at:{_WRITTEN}}"


def share(part: float, whole: float) -> str:
    """A share in per cent; few are not none, and nearly all are not all."""
    if not whole:
        return "-"
    per_cent = 100 * part / whole
    if part and per_cent < 0.01:
        return "< 0.01 %"
    return "> 99.99 %" if part < whole and per_cent > 99.99 else f"{per_cent:.2f} %"


def duration(seconds: float) -> str:
    """A delay in the unit in which it is easily read."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.2g} s"


def _hours(page: Page) -> Table:
    columns = (
        "From (UTC)",
        "Accepted",
        "Redelivered",
        "Duplicates",
        "Late",
        "Quarantined",
        "Beside contract",
    )
    rows = (
        (
            moment(b.start),
            *(f"{n:,}" for n in (b.accepted, b.redelivered, b.duplicates, b.late, b.quarantined, b.drift)),
        )
        for b in reversed(page.bars)
    )
    return table("The same in numbers, the newest first", columns, rows, range(1, 7))


def _partners(page: Page) -> Table:
    columns = (
        "Partner",
        "Records",
        "Accepted",
        "Redelivered",
        "Quarantined",
        "Share",
        "Late",
        "Last hour (UTC)",
    )
    rows = (
        (
            p.name,
            *(f"{n:,}" for n in (p.records, p.accepted, p.redelivered, p.quarantined)),
            share(p.quarantined, p.records),
            f"{p.late:,}",
            moment(p.last_hour),
        )
        for p in page.partners
    )
    caption = "What became of each partner's records, the greatest share in quarantine first"
    return table(caption, columns, rows, range(1, 7))


def _warned(page: Page) -> Table:
    rows = ((w.rule, name_of(w.source), f"{w.records:,}") for w in page.material.warned)
    return table(
        "Accepted, with a warning, the most frequent first", ("Rule", "Partner", "Records"), rows, [2]
    )


def _reasons(page: Page) -> Table:
    rows = (
        (r.rule, r.field or "(record)", r.source, f"{r.records:,}", f"{r.open:,}", r.message)
        for r in page.reasons
    )
    columns = ("Rule", "Field", "Partner", "Records", "Open", "What is wanted")
    return table("Rules that are broken, by partner", columns, rows, (3, 4))


def _delays(page: Page) -> Table:
    rows = (
        (d.name, f"{d.records:,}", duration(d.median), duration(d.p90), duration(d.p99)) for d in page.delays
    )
    columns = ("Partner", "Valid records", "Half within", "90 % within", "99 % within")
    return table("Kafka time less event time, the slowest first", columns, rows, range(1, 5))


def _completeness(page: Page) -> Table:
    short = [h for h in page.material.event_hours if h.completeness is not None and h.completeness < 1]
    rows = (
        (moment(h.hour), f"{h.records:,}", f"{h.late or 0:,}", share(h.completeness or 0, 1))
        for h in sorted(short, key=lambda h: (h.completeness, h.hour))
    )
    columns = ("Event hour (UTC)", "Records", "After its close", "Complete at its close")
    return table(
        "Hours that were not complete when they were closed, the least first", columns, rows, (1, 2, 3)
    )


def _broken(page: Page) -> Table:
    rows = (
        (
            one.formula,
            one.scope,
            " ".join(part for part in (one.currency, one.event_type) if part) or "records",
            _sum(one.left),
            _sum(one.right),
            one.first_break or "no row is named",
        )
        for one in page.identities
        if one.is_broken
    )
    columns = ("Identity", "Records", "Of", "Left side", "Right side", "First break")
    return table("What does not balance", columns, rows, (3, 4))


def _identities(page: Page) -> Table:
    """One row per identity and depth: its parts are hours, or currencies and types."""
    parts: dict[tuple[str, str], list[Identity]] = {}
    for one in page.identities:
        parts.setdefault((one.formula, one.depth), []).append(one)
    rows = (
        (
            formula,
            depth,
            moment(of[0].made_at),
            f"{len(of):,}",
            f"{sum(one.is_broken for one in of):,}",
            _sum(of[0].left) if len(of) == 1 else "",
            _sum(of[0].right) if len(of) == 1 else "",
        )
        for (formula, depth), of in sorted(parts.items())
    )
    columns = ("Identity", "Depth", "Newest (UTC)", "Parts", "Broken", "Left side", "Right side")
    caption = "Every identity; its parts are hours, or currencies and types"
    return table(caption, columns, rows, (3, 4, 5, 6))


def _sum(number: Decimal) -> str:
    """A count or an amount without the zeros that the table's type adds."""
    whole = number.to_integral_value()
    return f"{whole:,}" if number == whole else f"{number.normalize():,f}"


def _drift(page: Page) -> Table:
    rows = (
        (
            d.field,
            name_of(d.source),
            d.json_type,
            moment(d.first_seen) + (" (new)" if d.first_seen >= page.material.start else ""),
            f"{d.records:,}",
        )
        for d in page.material.drift
    )
    columns = ("Field", "Partner", "Type", "First seen (UTC)", "Records")
    return table("Fields that partners send beside the contract, the newest first", columns, rows, (4,))


def _anomalies(page: Page) -> Table:
    rows = (
        (
            moment(a.hour),
            name_of(a.source),
            a.metric,
            figure_text(a.metric, a.comparison.value),
            figure_text(a.metric, a.comparison.expected),
            f"{figure_text(a.metric, a.comparison.low)} to {figure_text(a.metric, a.comparison.high)}",
            f"{a.comparison.history} weeks",
        )
        for a in page.material.anomalies.found
    )
    columns = ("Hour (UTC)", "Partner", "Figure", "Is", "Expected", "Usual", "History")
    return table("Unusual figures, the furthest off first", columns, rows, (3, 4, 5, 6))


def _about(event: GateEvent) -> str:
    return event.table_name or ("all partners" if event.gate == SURGE else name_of(event.source))


def _gates(caption: str, events: Iterable[GateEvent]) -> Table:
    rows = ((*_when(e), e.gate, _about(e), e.reason, e.actor) for e in events)
    return table(caption, ("At (UTC)", "What", "Gate", "Of", "Why", "By"), rows)


def _when(event: GateEvent) -> tuple[str, str]:
    return "" if event.at is None else moment(event.at), event.event


def _snapshots(page: Page) -> Table:
    read = sorted(page.material.made_from.snapshots.items())
    rows = ((name, str(snapshot_id)) for name, snapshot_id in read)
    return table("Tables and the snapshots that were read", ("Table", "Snapshot"), rows)
