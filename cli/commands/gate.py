"""`paywave gate`: the policy, what is closed or held now, what the gates did, and letting something pass.

Belongs here: options and how it looks. Does not: the policy (`quality/policy.py`), what an override may do
(`lakehouse/gates.py`).
"""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.context import catalog_of, spark_of
from cli.output import Output, with_output
from cli.telemetry import start_telemetry
from cli.trail import recorded, who_runs
from config.settings import load_settings
from lakehouse.definitions import RAW
from lakehouse.gate_log import GateLog, as_row
from lakehouse.gates import CLOSED, GateEvent, GateState, overriding
from lakehouse.refs import read_head
from quality.policy import POLICY, Gate
from quality.policy import gate as gate_of


@click.group()
def gate() -> None:
    """What keeps bad data from readers: the policy, its state, and overrides."""


@gate.command()
@with_output
def policy(out: Output) -> None:
    """Show each gate: what it looks at, what is done, and why that choice was made."""
    rows = [_policy_row(row) for row in POLICY]
    out.result({"gates": rows}, _show_policy)


@gate.command()
@with_output
def status(out: Output) -> None:
    """Show what is closed or held now: since when, why, and what to do."""
    state = GateLog(catalog_of(load_settings())).state()
    rows = [_standing_row(state, event) for event in state.standing]
    out.result({"standing": rows}, lambda console: _show_status(console, rows))


@gate.command()
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="The latest so many."
)
@with_output
def log(limit: int, out: Output) -> None:
    """Show what the gates did, and who overrode them, the latest last."""
    events = GateLog(catalog_of(load_settings())).events()[-limit:]
    out.result({"events": [as_row(event) for event in events]}, lambda console: _show_log(console, events))


@gate.command()
@click.argument("name", metavar="GATE", type=click.Choice([row.name for row in POLICY]))
@click.option("--source", help="The partner, where the gate holds a partner's slice.")
@click.option("--reason", required=True, help="Why it is right to let it pass; kept in the log.")
@click.option("--dry-run", is_flag=True, help="Say what would be let pass; change nothing.")
@with_output
def override(name: str, source: str | None, reason: str, dry_run: bool, out: Output) -> None:
    """Let pass what a gate holds back now, and nothing that raw does not have yet.

    The curated job goes on by itself when it looks again. Of a held slice the hold ends; what it held comes
    back by `paywave quarantine redrive --rule slice_held`.

    \b
    paywave gate override surge --reason "the scheme dropped a currency, all of it is broken"
    paywave gate override slice_surge --source demo-bank --reason "the other half is good, they confirmed it"
    """
    if not reason.strip():
        raise click.UsageError("--reason must say something")
    settings = load_settings()
    catalog = catalog_of(settings)
    gate_log = GateLog(catalog)
    ends, actor = read_head(catalog, RAW).offsets, who_runs()

    def made(state: GateState) -> list[GateEvent]:
        return [overriding(state, name, source, reason, actor, ends)]

    (event,) = made(gate_log.state())  # refused before Spark is started for it
    if not dry_run:
        start_telemetry()
        asked = {"gate": name, "source": source, "reason": reason}
        with recorded(settings, catalog, "gate override", source or name, asked):
            (event,) = gate_log.append(spark_of(settings, "gate"), made)
    value = {"dry_run": dry_run, "override": as_row(event)}
    out.result(value, lambda console: _show_override(console, event, dry_run))


def _policy_row(row: Gate) -> dict[str, Any]:
    return {
        "gate": row.name,
        "about": row.about,
        "action": row.action.value,
        "scope": row.scope,
        "limit": None if row.limit is None else str(row.limit),
        "fails": "open" if row.is_open else "closed",
        "overridable": row.overridable,
        "why": row.why,
    }


def _standing_row(state: GateState, event: GateEvent) -> dict[str, Any]:
    said = state.override(event.gate, event.source)
    is_overridden = said is not None and said.seq > event.seq
    return {
        "state": event.event,
        "gate": event.gate,
        "table": event.table_name,
        "source": event.source,
        "since": None if event.at is None else event.at.isoformat(),
        "reason": event.reason,
        "starts": None if event.starts is None else event.starts.topics,
        "ends": None if event.ends is None else event.ends.topics,
        "snapshot_id": None if event.snapshot_id is None else str(event.snapshot_id),
        "overridden_by": said.actor if said is not None and is_overridden else None,
        "next": _next(event, is_overridden),
    }


def _next(event: GateEvent, is_overridden: bool) -> str:
    """Say what a person is to do about it."""
    if is_overridden:
        return "overridden: the curated job goes on when it looks again"
    way_out = "" if event.source is None else f" --source {event.source}"
    override = f'`paywave gate override {event.gate}{way_out} --reason "…"`'
    if event.event != CLOSED:
        return f"ask the partner; it ends by itself once most records are good again, or by {override}"
    if gate_of(event.gate).overridable:
        return f"find out what was changed; it opens by itself once the cause is gone, or by {override}"
    return "find out what spoilt it (`paywave replay verify`); it opens by itself once the cause is gone"


def _show_policy(console: Console) -> None:
    for row in POLICY:
        limit = "" if row.limit is None else f", more than {row.limit:.0%}"
        override = ", can be overridden" if row.overridable else ""
        fails = "open" if row.is_open else "closed"
        console.print(f"{row.name}: {row.about}{limit}", style="bold", soft_wrap=True)
        console.print(f"  {row.action} the {row.scope}, fails {fails}{override}", soft_wrap=True)
        console.print(f"  {row.why}", soft_wrap=True)


def _show_status(console: Console, rows: list[dict[str, Any]]) -> None:
    if not rows:
        console.print("all gates are open, no slice is held")
    for row in rows:
        about = row["table"] or (row["source"] if row["state"] != CLOSED else "") or ""
        console.print(f"{row['gate']} {row['state']} {about} since {row['since']}", markup=False)
        console.print(f"  {row['reason']}", markup=False, soft_wrap=True)
        console.print(f"  next: {row['next']}", markup=False, soft_wrap=True)


def _show_log(console: Console, events: tuple[GateEvent, ...]) -> None:
    table = Table("at", "what", "gate", "about", "who", "why", box=None)
    for event in events:
        at = "" if event.at is None else f"{event.at:%Y-%m-%d %H:%M:%S}"
        about = event.table_name or event.source or ""
        table.add_row(at, event.event, event.gate, *map(escape, (about, event.actor, event.reason)))
    console.print(table)


def _show_override(console: Console, event: GateEvent, dry_run: bool) -> None:
    would = "would let pass" if dry_run else "lets pass"
    of = "" if event.source is None else f" of {event.source}"
    console.print(f"{event.gate}: {would} what raw has{of} now: {event.reason}", markup=False, soft_wrap=True)
