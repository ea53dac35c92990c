"""`paywave reconcile`: hold every record to account. Belongs here: options and looks. Does not: the work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
from rich.console import Console
from rich.table import Table

from cli.commands.replay import phases, replay_settings
from cli.context import catalog_of, spark_of
from cli.output import Output, with_output
from cli.params import Moment
from cli.telemetry import start_telemetry
from config.settings import load_settings
from lakehouse.definitions import BY_NAME, RECONCILIATION
from lakehouse.tables import ensure_tables
from quality.reconciliation import Account
from streaming.reconcile.reconcile import Reconciler
from streaming.reconcile.result import Reconciliation
from streaming.reconcile.store import keep
from streaming.replay.scope import Scope
from streaming.topic_state import topic_if_it_answers

_HOUR = timedelta(hours=1)


@click.command()
@click.option("--hour", type=Moment(), help="One hour of Kafka time: its start, ISO 8601 with offset.")
@click.option("--from", "start", type=Moment(), help="Records from this Kafka time on.")
@click.option("--to", "end", type=Moment(), help="Records before this Kafka time.")
@click.option("--dry-run", is_flag=True, help=f"Say what comes out, and do not keep it in {RECONCILIATION}.")
@with_output
def reconcile(
    hour: datetime | None, start: datetime | None, end: datetime | None, dry_run: bool, out: Output
) -> None:
    """Account for every record, from Kafka's offsets to transactions and partners' files. Exits 1 on a break.

    Without a range: everything. A range is Kafka time; of the curated tables, the whole event hours that its
    records speak of are looked at. The first record or row that does not add up is named for each break.

    \b
    paywave reconcile
    paywave reconcile --hour 2026-11-22T10:00Z
    """
    scope = _scope(hour, start, end)
    settings = load_settings()
    catalog = catalog_of(settings)
    ensure_tables(catalog, settings.tables.buckets, [BY_NAME[RECONCILIATION]])
    start_telemetry()
    with phases(out) as report:
        spark = spark_of(settings, "reconcile")
        # without an answer the result says so
        topic = topic_if_it_answers(settings.kafka_properties(), settings.kafka.topic)
        reconciler = Reconciler(catalog, spark, replay_settings(settings), topic, report)
        found = reconciler.run(scope)
        if not dry_run:
            keep(catalog, spark, found)
    out.result(found.as_json(), lambda console: _print(console, found))
    if not found.is_balanced:
        raise SystemExit(1)


def _scope(hour: datetime | None, start: datetime | None, end: datetime | None) -> Scope:
    if hour is None:
        if start is not None and end is not None and end <= start:
            raise click.UsageError("--to must be later than --from")
        return Scope(start, end)
    if start is not None or end is not None:
        raise click.UsageError("give --hour, or --from and --to")
    if hour.replace(minute=0, second=0, microsecond=0) != hour:
        raise click.UsageError(f"--hour {hour.isoformat()}: the start of an hour is wanted")
    hour = hour.astimezone(UTC)
    return Scope(hour, hour + _HOUR)


def _print(console: Console, found: Reconciliation) -> None:
    console.print(f"{found.scope}: {found.figures['records']:,} records")
    table = Table("identity", "left", "right", "")
    for account in found.accounts:
        table.add_row(str(account.formula), *_sides(account), "" if account.is_balanced else "differs")
    console.print(table)
    for account in found.accounts:
        if not account.is_balanced:
            _print_break(console, account)
    for conflict in found.conflicts:
        console.print(f"identity conflict, left out: {conflict['what']} {conflict['name']}", markup=False)
    for remark in found.remarks:
        console.print(f"note: {remark}", markup=False, soft_wrap=True)
    console.print("balanced" if found.is_balanced else "not balanced")


def _sides(account: Account) -> tuple[str, str]:
    """Show both sides; of amounts how many there are, which --output json lists."""
    if account.formula.is_money:
        return f"{len(account.parts)} amounts", f"{len(account.parts) - len(account.differing)} equal"
    return f"{account.total.left:,}", " + ".join(f"{term:,}" for term in account.total.right)


def _print_break(console: Console, account: Account) -> None:
    console.print(f"{account.formula}: {account.breaks:,} do not add up", markup=False)
    for place in account.shown()[:3]:
        where = " ".join(f"{n}={v}" for n, v in place.items() if n not in ("left", "right", "terms"))
        console.print(f"  {where}: {place['left']} against {place['right']}", markup=False, soft_wrap=True)
    if account.first is not None:
        console.print(f"  first: {account.first}", markup=False, soft_wrap=True)
