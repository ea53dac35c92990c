"""`paywave query`: SQL on the tables, now or as they were. Belongs here: its options and its table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cli.context import catalog_of
from cli.output import Output, with_output
from cli.trail import recorded
from config.settings import load_settings
from lakehouse.moments import Moment
from lakehouse.query import Reader, Result, run_query

_SHOWN_ROWS = 1000


@click.command()
@click.argument("sql")
@click.option("--as-of", "as_of", metavar="TIME", help="As readers saw it then: ISO 8601, UTC if no offset.")
@click.option("--snapshot", "snapshots", metavar="TABLE=ID", multiple=True, help="A table at a snapshot.")
@click.option("--tag", metavar="NAME", help="Every table at its tag of this name.")
@click.option("--consistent", is_flag=True, help="All tables at the greatest offset vector they share.")
@click.option(
    "--reader",
    type=click.Choice(["duckdb", "pyiceberg"]),
    default="duckdb",
    show_default=True,
    help="Whose Iceberg reader reads the tables.",
)
@with_output
def query(
    sql: str,
    as_of: str | None,
    snapshots: tuple[str, ...],
    tag: str | None,
    consistent: bool,
    reader: Reader,
    out: Output,
) -> None:
    """Run one SELECT in DuckDB's SQL, tables as schema.table. It is recorded in the access trail.

    \b
    paywave query "SELECT status, count(*), sum(amount) FROM curated.payments GROUP BY 1"
    paywave query "SELECT count(*) FROM curated.payments" --as-of 2026-11-20T12:00:00Z
    """
    moment = _moment(as_of, snapshots, tag, consistent)
    settings = load_settings()
    catalog = catalog_of(settings)
    asked = {"sql": sql, "as_of": as_of, "snapshots": snapshots, "tag": tag, "consistent": consistent}
    with recorded(settings, catalog, "query", parameters=asked, announced=False) as access:
        result = run_query(catalog, settings.catalog_properties(), sql, moment, reader)
        access.target = ", ".join(sorted(result.snapshots))
        access.result = f"{len(result.rows):,} rows"
    value = {
        "columns": result.columns,
        "rows": [[_plain(v) for v in row] for row in result.rows],
        "snapshots": {name: str(snapshot_id) for name, snapshot_id in result.snapshots.items()},
    }
    if result.offsets is not None:
        value["offsets"] = result.offsets.topics
    out.result(value, lambda console: _print(console, result))


def _moment(as_of: str | None, snapshots: tuple[str, ...], tag: str | None, consistent: bool) -> Moment:
    if sum(map(bool, (as_of, snapshots, tag, consistent))) > 1:
        raise click.UsageError("give one of --as-of, --snapshot, --tag and --consistent")
    return Moment(_time(as_of) if as_of else None, dict(map(_snapshot, snapshots)), tag, consistent)


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--as-of {text}: ISO 8601 is wanted, e.g. 2026-11-20T12:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _snapshot(text: str) -> tuple[str, int]:
    table, _, number = text.partition("=")
    if not number.isdigit():
        raise click.UsageError(f"--snapshot {text}: TABLE=ID is wanted, e.g. curated.payments=123")
    return table, int(number)


def _plain(value: Any) -> Any:
    """Turn a value into what JSON has; decimals and times as text, so that nothing is rounded."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _print(console: Console, result: Result) -> None:
    table = Table(*result.columns)
    for row in result.rows[:_SHOWN_ROWS]:
        table.add_row(*("" if v is None else str(_plain(v)) for v in row))
    console.print(table)
    if len(result.rows) > _SHOWN_ROWS:
        console.print(f"{len(result.rows) - _SHOWN_ROWS} rows more; add a LIMIT, or --output json for all")
