"""`paywave snowflake`: what Snowflake should have of the lake, made, watched and read.

Belongs here: options, what settings mean there, how results look. Does not: the work (`snowflake_external/`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from assets.snowflake_account import deployment_of, login_of
from cli.context import catalog_of
from cli.output import Output, with_output
from cli.reading import as_json, asked, print_rows, told, with_moment
from cli.trail import recorded
from config.settings import load_settings
from lakehouse.moments import Moment
from snowflake_external.apply import Applied, apply, planned, split
from snowflake_external.cost import Estimate, Rates, billed, estimate, most_per_month
from snowflake_external.estate import EXPOSED, Names, estate_of
from snowflake_external.freshness import RUNBOOK, Freshness, State
from snowflake_external.plan import Change, renewals
from snowflake_external.session import Session
from snowflake_external.terraform import configuration
from snowflake_external.time_travel import read_at
from snowflake_external.watch import Refreshed, freshness_of, readers_stopped, refresh

_LOG = "snowflake/applied.jsonl"
_FINDING = (1.0, 5.0, 15.0, 30.0)  # seconds that a linked database may take to find the lake's tables


@click.group()
def snowflake() -> None:
    """Have Snowflake read the curated tables in place, and know how fresh it is."""


@snowflake.command()
@click.option("--sql", "as_sql", is_flag=True, help="Only the statements, as they would be sent.")
@with_output
def plan(as_sql: bool, out: Output) -> None:
    """Compare what Snowflake has with what it should have; change nothing. Exits 0 either way.

    Secrets are never shown. A warehouse is needed to see which policies are on the views: where none runs,
    the plan makes them over.
    """
    settings = load_settings()
    with Session(login_of(settings), "snowflake plan") as session:
        changes = planned(estate_of(deployment_of(settings)), session.ask)
    value = {"changes": [change.to_json() for change in changes], "empty": not changes}
    out.result(
        value, lambda console: _print_sql(console, changes) if as_sql else _print_plan(console, changes)
    )


@snowflake.command(name="apply")
@click.option("--allow-destroy", is_flag=True, help="Drop, replace and revoke too, where the plan says so.")
@click.option("--renew-secrets", is_flag=True, help="Tell it the catalog's secret again, after a rotation.")
@click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")
@with_output
def apply_command(allow_destroy: bool, renew_secrets: bool, dry_run: bool, out: Output) -> None:
    """Make Snowflake have what it should, in order. Applying again goes on after a failure.

    What was done is kept in PAYWAVE_HOME/snowflake/applied.jsonl.
    """
    settings = load_settings()

    def say(change: Change, number: int, count: int) -> None:
        out.log.print(f"{number + 1} of {count}: {change.action} {change.what}")

    deployment = deployment_of(settings)
    with Session(login_of(settings), "snowflake apply") as session:
        estate = estate_of(deployment)
        changes = planned(estate, session.ask)
        if renew_secrets:
            parts = split(changes, allow_destroy)
            changes = (*renewals(estate, parts.done, parts.held), *changes)
        if dry_run:
            done = split(changes, allow_destroy)
        else:
            pauses = _FINDING if deployment.linked else ()
            account = login_of(settings).account
            wanted = {"allow_destroy": allow_destroy, "changes": [f"{c.action} {c.what}" for c in changes]}
            with recorded(settings, catalog_of(settings), "snowflake apply", account, wanted):
                names = Names(deployment)
                tables = [names.table(table) for table in EXPOSED]
                log = settings.home / _LOG
                done = apply(changes, session.ask, log, allow_destroy, say, pauses, tables=tables)
    value = {
        "dry_run": dry_run,
        "done": [change.to_json() for change in done.done],
        "held": [change.to_json() for change in done.held],
    }
    out.result(value, lambda console: _print_applied(console, done, dry_run))


@snowflake.command()
@with_output
def status(out: Output) -> None:
    """Say how far Snowflake's tables are behind the lake's, and how long each commit took to get there.

    Exits 1 where one is later than promised, will not come by itself, or cannot be seen, or where readers'
    queries do not run.
    """
    settings = load_settings()
    with Session(login_of(settings), "snowflake status") as session:
        deployment = deployment_of(settings)
        stopped = readers_stopped(deployment, session.ask)
        found = freshness_of(deployment, catalog_of(settings), session.ask, with_delays=True)
    value = {"tables": [_as_json(one) for one in found], "readers_stopped": stopped}
    out.result(value, lambda console: _print_status(console, found, stopped))
    if stopped or any(map(_is_wrong, found)):
        raise SystemExit(1)


@snowflake.command(name="refresh")
@click.option("--all", "all_of_them", is_flag=True, help="Every table, not only those that need it.")
@click.option("--dry-run", is_flag=True, help="Say which would be refreshed; change nothing.")
@with_output
def refresh_command(all_of_them: bool, dry_run: bool, out: Output) -> None:
    """Refresh by hand the tables that are late, or whose automated refresh has stalled or stopped.

    One that has stopped is switched off and on again. Exits 1 where a table does not show the lake's newest
    commit then, or does not refresh by itself: the runbook says what to look at. Takes no warehouse.
    """
    settings = load_settings()
    deployment, catalog = deployment_of(settings), catalog_of(settings)
    with Session(login_of(settings), "snowflake refresh") as session:
        found = freshness_of(deployment, catalog, session.ask)
        due = [one for one in found if all_of_them or one.needs_refresh]
        done = [] if dry_run else refresh(deployment, catalog, session.ask, due)
    names = [one.table for one in due]
    value = {"dry_run": dry_run, "due": names, "refreshed": [asdict(one) for one in done]}
    out.result(value, lambda console: _print_refreshed(console, names, done))
    if any(one.error for one in done):
        raise SystemExit(1)


@snowflake.command()
@click.argument("sql")
@with_moment
@with_output
def query(sql: str, moment: Moment, out: Output) -> None:
    """Run one SELECT in Snowflake on the tables as they were, tables as schema.table.

    The lake says which snapshots are meant. Where Snowflake cannot read them, DuckDB reads them in the lake,
    in its own SQL; the result says which way was taken, and why.

    \b
    paywave snowflake query "SELECT count(*) FROM curated.payments" --snapshot curated.payments=ID
    """
    settings = load_settings()
    catalog, properties = catalog_of(settings), settings.catalog_properties()
    with (
        Session(login_of(settings), "snowflake query") as session,
        recorded(
            settings, catalog, "snowflake query", parameters=asked(sql, moment), announced=False
        ) as access,
    ):
        reading = read_at(deployment_of(settings), catalog, properties, session, sql, moment)
        access.target, access.result = ", ".join(sorted(reading.snapshots)), told(reading)
    way = {"way": reading.way.value, "why": reading.why, "statement": reading.statement}
    out.result({**way, **as_json(reading)}, lambda console: print_rows(console, reading))
    if not out.as_json:
        out.log.print(f"read by {reading.way}: {reading.why}", markup=False)


@snowflake.command()
def terraform() -> None:
    """Print what Terraform's provider calls stable, from the same definitions, as main.tf.json.

    Views, policies, tables and what is granted on them stay with `apply`, which runs after Terraform.
    """
    click.echo(json.dumps(configuration(estate_of(deployment_of(load_settings()))), indent=2))


@snowflake.command()
@click.option(
    "--days", type=click.IntRange(min=1, max=365), default=1, show_default=True, help="Of what was billed."
)
@with_output
def cost(days: int, out: Output) -> None:
    """Guess what a day of refreshing costs; read back what was billed, where one may see it."""
    settings = load_settings()
    deployment, rates = deployment_of(settings), Rates(settings.snowflake.refresh_credits_per_hour)
    found = estimate(catalog_of(settings), deployment.refresh_s, rates)
    with Session(login_of(settings), "snowflake cost") as session:
        told = billed(deployment, session.ask, datetime.now(UTC) - timedelta(days=days))
    most = most_per_month(deployment, rates)
    value = {
        "refresh_per_day": [asdict(one) for one in found],
        "readers_per_month_at_most_dollars": most,
        "rates": asdict(rates),
        "billed_credits": told,
        "billed_days": days,
    }
    out.result(value, lambda console: _print_cost(console, found, most, told, days))


def _is_wrong(one: Freshness) -> bool:
    return one.needs_refresh or one.state is State.UNKNOWN


def _as_json(one: Freshness) -> dict[str, Any]:
    told = {name: value for name, value in asdict(one).items() if name != "delays_s"}
    count = None if one.delays_s is None else len(one.delays_s)
    delays = {"p50_s": one.delay_s(0.5), "p95_s": one.delay_s(0.95), "commits": count}
    return {**told, "snapshot_id": one.snapshot_id and str(one.snapshot_id), "late": one.is_late, **delays}


def _print_plan(console: Console, changes: Sequence[Change]) -> None:
    if not changes:
        console.print("Snowflake has what it should: nothing to do")
    for change in changes:
        mark = "!" if change.destroys else " " if change.statements else "?"
        console.print(f"{mark} {change.action} {change.what}", markup=False)
        for name, found, wanted in change.because:
            console.print(f"      {name}: {_short(found)} → {_short(wanted)}", markup=False)
    if any(change.destroys for change in changes):
        console.print("! needs --allow-destroy")
    if not all(change.statements for change in changes):
        console.print("? is for a person to do: no statement of ours names it")


def _print_sql(console: Console, changes: Sequence[Change]) -> None:
    for change in changes:
        for statement in change.statements:
            console.print(f"{statement.shown};", markup=False, soft_wrap=True)


def _print_applied(console: Console, done: Applied, dry_run: bool) -> None:
    console.print(f"{len(done.done)} changes {'would be made' if dry_run else 'made'}")
    for change in done.held:
        way = "allow it with --allow-destroy" if change.statements else "that is for a person to do"
        console.print(f"held back: {change.action} {change.what}; {way}", markup=False)


def _print_status(console: Console, found: Sequence[Freshness], stopped: str | None) -> None:
    table = Table("table", "refresh", "behind", "lag s", "P50 s", "P95 s", box=None)
    for one in found:
        delays = ["-" if delay is None else f"{delay:.0f}" for delay in (one.delay_s(0.5), one.delay_s(0.95))]
        table.add_row(one.table, one.state, str(one.behind), f"{one.lag_s:.0f}", *delays)
    console.print(table)
    if any(one.delays_s is None for one in found):
        console.print("how long each commit took is not to be seen: no warehouse runs")
    if stopped:
        console.print(f"readers are cut off: {stopped}; see {RUNBOOK}", markup=False)
    for one in filter(_is_wrong, found):
        console.print(f"{one.says()}: `paywave snowflake refresh`, or see {RUNBOOK}", markup=False)


def _print_refreshed(console: Console, due: Sequence[str], done: Sequence[Refreshed]) -> None:
    if not due:
        console.print("no table needs it")
    for table in due if not done else ():
        console.print(f"would refresh {table}")
    for one in done:
        failed = f"failed after {one.attempts} attempts: {one.error}; see {RUNBOOK}"
        console.print(f"{one.table}: {failed if one.error else 'refreshed'}")


def _print_cost(
    console: Console, found: Sequence[Estimate], most: float, told: dict[str, float] | None, days: int
) -> None:
    counts = ("polls a day", "commits a day", "refreshes a day")
    table = Table("table", *counts, "credits a day", "dollars a day", box=None)
    for one in found:
        numbers = [f"{count:,}" for count in (one.polls, one.commits, one.refreshes)]
        table.add_row(one.table, *numbers, f"{one.credits}", f"{one.dollars}")
    console.print(table)
    console.print(
        "a guess: how long a refresh computes is documented nowhere; hold it against what is billed"
    )
    console.print(f"readers' queries: {most:,.0f} dollars a month at most, then their warehouse is suspended")
    if told is None:
        console.print("billed: not to be seen; it takes IMPORTED PRIVILEGES on the database SNOWFLAKE")
    for what, credits in (told or {}).items():
        console.print(f"billed in {days} days: {what} {credits:.3f} credits")


def _short(text: str, length: int = 80) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
