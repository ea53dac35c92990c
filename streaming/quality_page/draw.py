"""The page's plots, as SVG within HTML: text stays text, colours are the page's own.

Belongs here: drawing, and making an SVG fit into a page. Does not: what is drawn (`model.py`).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import datetime, timedelta
from io import StringIO
from math import log10
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

# Colours are drawn as these and become variables of the page, which has two sets of them: light and dark.
COLOURS = {
    "accepted": "#010001",
    "redelivered": "#010002",
    "quarantined": "#010003",
    "late": "#010004",
    "duplicates": "#010005",
    "drift": "#010006",
    "broken": "#010009",
    "line": "#010007",
    "text": "#010008",
}
_WIDTH = 3.7  # inches; a phone shows a plot of this width in nearly the size of its text
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.parse_math": False,  # names may hold dollar signs
    "text.color": COLOURS["text"],
    "axes.edgecolor": COLOURS["line"],
    "axes.labelcolor": COLOURS["text"],
    "xtick.color": COLOURS["line"],
    "ytick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["text"],
    "ytick.labelcolor": COLOURS["text"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid.axis": "y",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 0,
}
_FOR_A_PAGE = (
    (r'<g id="[^"]*">', "<g>"),
    (r'(\bid="|url\(#|xlink:href="#)', r"\1{name}-"),  # several plots share a page, and must not share ids
    (r'^<svg([^>]*?) width="[^"]*" height="[^"]*"', r'<svg\1 aria-hidden="true"'),
    (r" font-family: [^;]*;", ""),
)
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_DELAYS = {1: "1 s", 60: "1 min", 3600: "1 h", 86400: "1 d", 604800: "1 w"}


def over_time(
    name: str, colour: str, starts: Sequence[datetime], step: timedelta, counts: Sequence[int]
) -> str:
    """Draw counts of stretches of time as bars; `starts` are their beginnings, in UTC, none left out."""
    with mpl.rc_context(_STYLE):
        figure, axes = _plot(1.45)
        axes.bar(range(len(counts)), counts, width=0.86, align="edge", color=COLOURS[colour])
        axes.set_xlim(0, max(len(counts), 1))
        _count_axis(axes, max(counts, default=0))
        ticks = _ticks(starts, step)
        axes.set_xticks(list(ticks), list(ticks.values()))
        return _svg(figure, name)


def ranked(name: str, colour: str, rows: Sequence[tuple[str, float]], unit: str = "") -> str:
    """Draw figures with their names as horizontal bars, the first at the top, each with its figure."""
    with mpl.rc_context({**_STYLE, "axes.grid": False, "axes.spines.bottom": False}):
        figure, axes = _plot(0.12 + 0.4 * max(len(rows), 1))
        values = [value for _, value in rows]
        axes.barh(range(len(rows)), values, height=0.3, color=COLOURS[colour])
        for place, (label, value) in enumerate(rows):
            axes.text(0, place - 0.19, label, va="bottom")
            axes.text(max(values), place - 0.19, f"{value:,.10g}{unit}", va="bottom", ha="right")
        axes.set_ylim(len(rows) - 0.8, -0.65)
        axes.set_xlim(0, max([*values, 1e-9]))
        axes.set_axis_off()
        axes.set_position((0, 0, 1, 1))
        return _svg(figure, name)


def delays(name: str, bins: Sequence[tuple[float, int]], width: float) -> str:
    """Draw how many records came within which delay; bins (seconds, records) on a logarithmic axis."""
    with mpl.rc_context(_STYLE):
        figure, axes = _plot(1.6)
        places = [log10(max(bound, 0.001)) for bound, _ in bins]
        axes.bar(
            places, [n for _, n in bins], width=log10(width) * 0.9, align="edge", color=COLOURS["accepted"]
        )
        _count_axis(axes, max((n for _, n in bins), default=0))
        axes.set_xticks([log10(seconds) for seconds in _DELAYS], list(_DELAYS.values()))
        axes.set_xlim(min([*places, 0]) - 0.1, max([*places, log10(3600)]) + 0.3)
        return _svg(figure, name)


def _plot(height: float) -> tuple[Figure, Axes]:
    """An empty plot; fixed margins, so that plots beside each other have their axes in one line."""
    figure = Figure(figsize=(_WIDTH, height))
    figure.patch.set_visible(False)
    left, bottom, top = 0.3, 0.22, 0.08  # inches
    axes = figure.add_axes(
        (left / _WIDTH, bottom / height, 1 - (left + 0.08) / _WIDTH, 1 - (bottom + top) / height)
    )
    axes.patch.set_visible(False)
    return figure, axes


def _count_axis(axes: Axes, greatest: float) -> None:
    axes.set_ylim(0, max(greatest, 1) * 1.08)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{sign}"
    return f"{value:g}"


def _ticks(starts: Sequence[datetime], step: timedelta) -> dict[int, str]:
    """Label four places at most: days where the range is longer than two of them, else hours."""
    said = "%d %b" if len(starts) * step > timedelta(days=2) else "%H:%M"
    labels = [f"{start:{said}}" for start in starts]
    last = 0.9 * len(starts)  # a label further right would leave the plot
    begins = [place for place in range(1, int(last)) if labels[place] != labels[place - 1]]
    return {place: labels[place] for place in begins[:: -(-len(begins) // 4) or 1]} or dict(
        enumerate(labels[:1])
    )


def _svg(figure: Figure, name: str) -> str:
    """Render for a page: ids of its own, no prologue, the page's fonts and colours."""
    text = StringIO()
    with mpl.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's fonts draw it, not ours
        figure.savefig(text, format="svg", metadata=_NO_METADATA)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    for found, wanted in _FOR_A_PAGE:
        svg = re.sub(found, wanted.format(name=name), svg, flags=re.DOTALL)
    for colour, drawn in COLOURS.items():
        svg = svg.replace(drawn, "currentColor" if colour == "text" else f"var(--{colour})")
    return svg
