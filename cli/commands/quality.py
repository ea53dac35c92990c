"""`paywave quality`: what is unusual in what partners send, and the quality page.

Belongs here: options, looks. Does not: what is unusual (`quality/partner_hour.py`), the page itself
(`streaming/quality_page/`).
"""

from __future__ import annotations

from datetime import UTC, datetime
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
from quality.partner_hour import figure_text
from quality.unusual import LEAST_HISTORY


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
    if hour is not None and hour.replace(minute=0, second=0, microsecond=0) != hour:
        raise click.UsageError(f"--hour {hour.isoformat()}: the start of an hour is wanted")
    from streaming.profile.anomalies import find_anomalies

    settings = load_settings()
    wanted = None if hour is None else [hour.astimezone(UTC)]
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
