"""`paywave quality`: what is unusual in what partners send, and the quality page.

Belongs here: options, looks. Does not: what is unusual (`quality/partner_hour.py`), the page itself
(`streaming/quality_page/`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.context import catalog_of
from cli.output import Output, with_output
from cli.params import Moment
from config.settings import load_settings
from quality.drift import shown
from quality.history import LEAST_HISTORY
from quality.partner_hour import figure_text


@click.group()
def quality() -> None:
    """Show what is unusual in what partners send, and write the quality page."""


@quality.command()
@click.option("--hour", type=Moment(), help="Start of a Kafka hour [default: the last complete one].")
@click.option("--partner", metavar="NAME", help="Only what this partner sent.")
@with_output
def anomalies(hour: datetime | None, partner: str | None, out: Output) -> None:
    """List what is unusual in an hour, beside the same hour of the weeks before. A warning only: exits 0.

    `paywave stream profile` counts the hours.
    """
    hour = _hour("--hour", hour)
    from streaming.profile.anomalies import find_anomalies

    settings = load_settings()
    wanted = None if hour is None else [hour]
    report = find_anomalies(catalog_of(settings), settings.catalog_properties(), wanted, partner)
    value = {
        "hours": [hour.isoformat() for hour in report.hours],
        "anomalies": [
            {
                "hour": a.hour.isoformat(),
                "partner": shown(a.source),
                "metric": a.metric,
                **a.comparison._asdict(),
            }
            for a in report.found
        ],
        "compared": report.compared,
        "not_known_yet": report.unknown,
        "complete_to": None if report.complete_to is None else report.complete_to.isoformat(),
        "behind_raw": report.behind,
    }
    out.result(value, lambda console: _show(console, value))


@quality.command()
@click.option(
    "--out",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    default="quality.html",
    show_default=True,
    help="File to write.",
)
@click.option(
    "--from", "start", type=Moment(), help="Start of a Kafka hour [default: seven days before --to]."
)
@click.option(
    "--to", "end", type=Moment(), help="Start of the Kafka hour after the last [default: the next]."
)
@with_output
def report(file: Path, start: datetime | None, end: datetime | None, out: Output) -> None:
    """Write the quality page: one HTML file, which needs no script and no network."""
    start, end = _hour("--from", start), _hour("--to", end)
    if start is not None and end is not None and start >= end:
        raise click.UsageError("--from must be before --to")
    from streaming.quality_page.model import page_of
    from streaming.quality_page.read import read_material
    from streaming.quality_page.render import render

    settings = load_settings()
    catalog, properties = catalog_of(settings), settings.catalog_properties()
    page = page_of(read_material(catalog, properties, start, end, datetime.now(UTC)))
    file.write_text(render(page), encoding="utf-8")
    value = {
        "file": str(file),
        "balanced": page.balance.is_good,
        "needs": [need._asdict() for need in page.needs],
        "warned": [
            {"rule": w.rule, "partner": shown(w.source), "records": w.records} for w in page.material.warned
        ],
        "totals": {total.name.lower(): total.records for total in page.totals},
    }
    said = "\n".join(
        (f"balances: {page.balance.answer}", *(f"- {need.what}" for need in page.needs), str(file))
    )
    out.result(value, lambda console: console.print(said, markup=False, soft_wrap=True))


def _hour(option: str, moment: datetime | None) -> datetime | None:
    if moment is not None and moment.replace(minute=0, second=0, microsecond=0) != moment:
        raise click.UsageError(f"{option} {moment.isoformat()}: the start of an hour is wanted")
    return None if moment is None else moment.astimezone(UTC)


def _show(console: Console, value: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("hour (UTC)", "partner", "metric"):
        table.add_column(column, overflow="fold")
    for column in ("value", "expected", "usual range", "off", "weeks"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in value["anomalies"]:
        figures = (figure_text(row["metric"], row[name]) for name in ("value", "expected", "low", "high"))
        now, expected, low, high = figures
        words = (row["hour"][:16].replace("T", " "), row["partner"], row["metric"])
        table.add_row(
            *map(Text, words), now, expected, f"{low} to {high}", f"{row['off']:.1f}x", str(row["history"])
        )
    if value["anomalies"]:
        console.print(table)
    console.print(_summary(value), markup=False, soft_wrap=True)
    if value["behind_raw"]:
        console.print(f"{value['behind_raw']:,} records are not counted yet: `paywave stream profile --once`")


def _summary(value: dict[str, Any]) -> str:
    if not value["hours"]:
        return f"no complete hour to look at; counted completely to {value['complete_to'] or 'no time yet'}"
    unknown = (
        f", {value['not_known_yet']} not known yet (fewer than {LEAST_HISTORY} weeks of history)"
        if value["not_known_yet"]
        else ""
    )
    return f"{len(value['anomalies'])} unusual of {value['compared']} figures compared{unknown}"
