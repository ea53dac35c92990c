"""`paywave query`: SQL on the tables, now or as they were. Belongs here: its options and its table."""

from __future__ import annotations

import click

from cli.context import catalog_of
from cli.output import Output, with_output
from cli.reading import as_json, asked, print_rows, told, with_moment
from cli.trail import recorded
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
    """Run one SELECT in DuckDB's SQL, tables as schema.table. It is recorded in the access trail.

    \b
    paywave query "SELECT status, count(*), sum(amount) FROM curated.payments GROUP BY 1"
    paywave query "SELECT count(*) FROM curated.payments" --as-of 2026-11-20T12:00:00Z
    """
    settings = load_settings()
    catalog = catalog_of(settings)
    with recorded(settings, catalog, "query", parameters=asked(sql, moment), announced=False) as access:
        result = run_query(catalog, settings.catalog_properties(), sql, moment, reader)
        access.target = ", ".join(sorted(result.snapshots))
        access.result = told(result)
    out.result(as_json(result), lambda console: print_rows(console, result))
