"""`paywave schemas`: the contract as JSON Schemas. Belongs here: options, and how findings look.

Does not: comparing (`quality/schema_changes.py`), files and registry (`streaming/schemas/`).
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.output import Output, with_output
from cli.params import Moment
from config.settings import Settings, load_settings
from streaming.schemas import files
from streaming.schemas.registry import Registry, register


@click.group()
def schemas() -> None:
    """Hold the contract's JSON Schemas to its code, check their changes, register them."""


@schemas.command()
@click.option(
    "--released",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Schema files as they were released, if not those in quality/schemas/released.",
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Compare the versions in this folder, instead of those of this release.",
)
@with_output
def check(released: Path | None, folder: Path | None, out: Output) -> None:
    """Refuse a version that breaks with any earlier one (BACKWARD_TRANSITIVE). Exits 1 then.

    A break that the contract announces to partners is shown and allowed. The files, and the partners' page,
    must be what the contract's code makes, and each version what was released of it.
    """
    found = files.read_schemas(folder or files.FOLDER)
    breaks = files.find_breaks(found)
    problems = [] if folder else files.find_drift()
    if released or not folder:
        problems += files.find_rewritten(found, files.read_schemas(released or files.RELEASED))
    is_good = not problems and all(one.announced for one in breaks)
    value = {
        "versions": list(found),
        "breaks": [asdict(one) for one in breaks],
        "problems": problems,
        "ok": is_good,
    }
    out.result(value, lambda console: _show(console, value))
    sys.exit(0 if is_good else 1)


@schemas.command()
@with_output
def release(out: Output) -> None:
    """Keep copies of the schema files, so that later releases are held to them (in a checkout).

    A version that is in force can only be kept as it was.
    """
    _tell_changed(files.release(datetime.now(UTC)), out)


@schemas.command()
@with_output
def write(out: Output) -> None:
    """Write the schema files and the partners' page anew from the contract's code (in a checkout)."""
    _tell_changed(files.write(), out)


def _tell_changed(paths: list[Path], out: Output) -> None:
    changed = [path.name for path in paths]
    said = "\n".join(changed) or "nothing changed"
    out.result({"changed": changed}, lambda console: console.print(said, markup=False))


@schemas.command(name="register")
@click.option("--registry", metavar="URL", help="Base URL of its API [default: the setting registry.url].")
@click.option("--dry-run", is_flag=True, help="Show what is missing there, change nothing.")
@click.option(
    "--lift", is_flag=True, help="Lift the registry's own rule for what our check finds compatible."
)
@with_output
def register_schemas(registry: str | None, dry_run: bool, lift: bool, out: Output) -> None:
    """Register every version with a Confluent-compatible registry; those that it has stay as they are."""
    settings = load_settings()
    where = _registry(settings, registry)
    done = register(where, settings.kafka.topic, files.read_schemas(), dry_run=dry_run, lift=lift)
    lines = "\n".join(
        f"v{one.version}  {one.state:<10}  {one.subject}" + (f"  id {one.id}" if one.id else "")
        for one in done
    )
    out.result({"schemas": [asdict(one) for one in done]}, lambda console: console.print(lines, markup=False))


@schemas.command()
@click.option("--from", "start", type=Moment(), help="Start of a Kafka hour, ISO 8601 with offset.")
@click.option("--to", "end", type=Moment(), help="Start of the Kafka hour after the last.")
@with_output
def drift(start: datetime | None, end: datetime | None, out: Output) -> None:
    """List the fields that partners sent beside the contract, the newest first.

    `paywave stream drift` counts them. First and last seen are of all time, records are those of the range.
    """
    from cli.context import catalog_of
    from streaming.schemas.drift_report import report_drift

    for moment in (start, end):
        if moment is not None and moment.replace(minute=0, second=0, microsecond=0) != moment:
            raise click.UsageError(f"{moment.isoformat()}: the start of an hour is wanted")
    report = report_drift(catalog_of(load_settings()), start, end)
    rows = [
        {**d._asdict(), "first_seen": d.first_seen.isoformat(), "last_seen": d.last_seen.isoformat()}
        for d in report.found
    ]
    value = {"fields": rows, "behind_raw": report.behind}
    out.result(value, lambda console: _show_drift(console, value))


def _registry(settings: Settings, url: str | None) -> Registry:
    group = settings.registry
    password = group.password.get_secret_value() if group.password else None
    return Registry(url or str(settings.need("registry", "url")), group.username, password)


def _show(console: Console, value: dict[str, Any]) -> None:
    for problem in value["problems"]:
        console.print(f"problem: {problem}", markup=False, soft_wrap=True)
    for one in value["breaks"]:
        word = "announced break" if one["announced"] else "BREAK"
        said = f"{word}: v{one['version']} against v{one['against']}: {one['what']}"
        console.print(said, markup=False, soft_wrap=True)
    if value["problems"]:
        console.print("next: `paywave schemas write`, and look at the difference", markup=False)
    listed = ", ".join(f"v{version}" for version in value["versions"])
    console.print(f"{listed}: {'compatible' if value['ok'] else 'refused'}", markup=False)


def _show_drift(console: Console, value: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("field", "source", "type"):
        table.add_column(column, overflow="fold")
    for column in ("first seen (UTC)", "last seen (UTC)", "records"):
        table.add_column(column, justify="right" if column == "records" else "left", no_wrap=True)
    for row in value["fields"]:
        words = (row["field"], row["source"], row["json_type"])
        times = (row[name][:19].replace("T", " ") for name in ("first_seen", "last_seen"))
        table.add_row(*map(Text, words), *times, f"{row['records']:,}")
    console.print(table if value["fields"] else "no field beside the contract")
    if value["behind_raw"]:
        console.print(f"{value['behind_raw']:,} records are not counted yet: `paywave stream drift --once`")
