"""The page itself: one HTML file that needs no script and no network.

Belongs here: putting figures, plots and tables into the template. Does not: what they hold (`model.py`,
`tables.py`), their shapes (`draw.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from quality.bins import WIDTH
from streaming.quality_page import draw
from streaming.quality_page.material import Identity
from streaming.quality_page.model import Bar, Page
from streaming.quality_page.tables import duration, moment, share, tables_of

_SERIES = {
    "accepted": "Accepted",
    "redelivered": "Redelivered",
    "duplicates": "Duplicates",
    "late": "Late",
    "quarantined": "Quarantined",
    "drift": "Beside the contract",
}
_RANKED = 8
_LONGEST_LABEL = 34


class Plot(NamedTuple):
    """A plot with its title, and what it shows said in words."""

    title: str
    words: str
    svg: str


def render(page: Page) -> str:
    """Render the page as HTML."""
    jinja = Environment(
        loader=PackageLoader("streaming.quality_page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {"moment": moment, "number": lambda number: f"{number:,}"}
    return jinja.get_template("page.html.j2").render(
        page=page,
        material=page.material,
        made=page.material.made_from,
        share=share,
        duration=duration,
        tables=tables_of(page),
        plots={name: _over_time(page, name) for name in _SERIES},
        by_reason=_ranked("by-reason", "By rule", "quarantined", _by_reason(page)),
        by_partner=_ranked("by-partner", "By partner", "quarantined", _by_partner(page)),
        delays=_delays(page),
        accounts=_accounts(page),
    )


def _over_time(page: Page, name: str) -> Plot:
    counts = [getattr(bar, name) for bar in page.bars]
    svg = draw.over_time(f"time-{name}", name, [bar.start for bar in page.bars], page.step, counts)
    return Plot(_SERIES[name], _peak(page, lambda bar: getattr(bar, name)), svg)


def _peak(page: Page, count: Callable[[Bar], int]) -> str:
    total = sum(map(count, page.bars))
    if not total:
        return "none"
    most = max(page.bars, key=count)
    return f"{total:,} in all, most from {moment(most.start)}: {count(most):,}"


def _accounts(page: Page) -> list[Plot]:
    """Each identity of several terms, as counted last: the left side, and what it consists of."""
    newest: dict[str, Identity] = {}
    for one in page.identities:
        if len(one.terms) > 1 and one.currency is None:
            newest.setdefault(one.identity, one)
    return [_account(one) for _, one in sorted(newest.items())]


def _account(one: Identity) -> Plot:
    rows = [
        (one.formula.split(" = ")[0], float(one.left)),
        *((name, float(n)) for name, n in one.terms.items()),
    ]
    svg = draw.ranked(f"account-{one.identity}", "broken" if one.is_broken else "accepted", rows)
    return Plot(one.formula, f"{one.state}, in {one.scope}", svg)


def _by_reason(page: Page) -> list[tuple[str, float]]:
    sums: dict[str, float] = {}
    for reason in page.reasons:
        name = f"{reason.rule} {reason.field}".strip()
        sums[name] = sums.get(name, 0) + reason.records
    return sorted(sums.items(), key=lambda item: (-item[1], item[0]))


def _by_partner(page: Page) -> list[tuple[str, float]]:
    found = [(partner.name, float(partner.quarantined)) for partner in page.partners if partner.quarantined]
    return sorted(found, key=lambda item: (-item[1], item[0]))


def _ranked(name: str, title: str, colour: str, rows: list[tuple[str, float]]) -> Plot:
    shown = [(_cut(label), value) for label, value in rows[:_RANKED]]
    words = f"{len(rows)} in all, most: {shown[0][0]} ({shown[0][1]:,.0f})" if shown else "none"
    return Plot(title, words, draw.ranked(name, colour, shown))


def _cut(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"


def _delays(page: Page) -> Plot:
    total = sum(count for _, count in page.delay_bins)
    words = f"of {total:,} valid records, from a second to a week on a logarithmic scale" if total else "none"
    svg = draw.delays("delays", page.delay_bins, WIDTH)
    return Plot("How long after the event Kafka took it", words, svg)
