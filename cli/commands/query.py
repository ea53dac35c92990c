"""`paywave query`: SQL on the tables, now or as they were. Belongs here: its options and its table."""

from __future__ import annotations

import click

from cli.context import catalog_of
from cli.output import Output, with_output
from cli.reading import as_json, print_rows, with_moment
from config.settings import load_settings
from lakehouse.moments import Moment
from lakehouse.query import Reader, run_query


@click.command()
@click.argument("sql")
@with_moment
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
    moment: Moment,
    reader: Reader,
    out: Output,
) -> None:
    """Run one SELECT in DuckDB's SQL, tables as schema.table.

    \b
    paywave query "SELECT status, count(*), sum(amount) FROM curated.payments GROUP BY 1"
    paywave query "SELECT count(*) FROM curated.payments" --as-of 2026-11-20T12:00:00Z
    """
    settings = load_settings()
    result = run_query(catalog_of(settings), settings.catalog_properties(), sql, moment, reader)
    out.result(as_json(result), lambda console: print_rows(console, result))
