"""`paywave hash`: the content hash of a table. Belongs here: its options and its lines."""

from __future__ import annotations

import click
from rich.console import Console

from cli.context import catalog_of
from cli.output import Output, with_output
from config.settings import load_settings
from lakehouse.content_hash import combine
from lakehouse.moments import NOW, Moment, snapshot_at
from lakehouse.query import Reader
from lakehouse.stored_hash import definition_of, partition_name, stored_sums
from lakehouse.table_hash import shape_of


@click.command("hash")
@click.argument("table")
@click.option("--snapshot", type=int, metavar="ID", help="As of this snapshot; the current one unless given.")
@click.option("--by-partition", is_flag=True, help="Of each partition too.")
@click.option(
    "--reader",
    type=click.Choice(["duckdb", "pyiceberg"]),
    default="duckdb",
    show_default=True,
    help="Who reads the table; both give the same.",
)
@with_output
def content_hash(table: str, snapshot: int | None, by_partition: bool, reader: Reader, out: Output) -> None:
    """Hash what a table holds, whatever the order of its rows, its files and who reads them.

    \b
    paywave hash curated.payments
    paywave hash curated.payments --by-partition --output json
    """
    definition, settings = definition_of(table), load_settings()
    stored = catalog_of(settings).load_table(table)
    moment = Moment(snapshots={table: snapshot}) if snapshot is not None else NOW
    snapshot_id, shape = snapshot_at(stored, moment), shape_of(definition)
    sums = stored_sums(stored, snapshot_id, settings.catalog_properties(), reader)
    whole = combine(sums.values()).fingerprint(shape)
    parts = {partition_name(definition, key): sums[key].fingerprint(shape) for key in sorted(sums)}
    value = {"table": table, "snapshot": str(snapshot_id), "rows": whole.rows, "hash": whole.hash}
    if by_partition:
        value["partitions"] = {name: vars(fingerprint) for name, fingerprint in parts.items()}

    def show(console: Console) -> None:
        lines = {**(parts if by_partition else {}), table: whole}
        for name, fingerprint in lines.items():
            console.print(f"{fingerprint.hash}  {fingerprint.rows:>12,} rows  {name}", soft_wrap=True)

    out.result(value, show)
