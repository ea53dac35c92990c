"""`paywave replay` and `paywave repair`: prove the curated tables against raw, or put them right.

Belongs here: their options, progress and how their results look. Does not: the work (`streaming/replay/`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cli.context import catalog_of, spark_of
from cli.output import Output, with_output
from cli.params import Moment
from cli.progress import Meter, progress
from cli.telemetry import start_telemetry
from cli.trail import recorded
from config.settings import Settings, load_settings
from lakehouse.tables import ensure_tables
from streaming.replay.apply import Applied, Applier
from streaming.replay.conflicts import Conflict
from streaming.replay.contracts import ContractReport, report_contract
from streaming.replay.repair import repair as repair_conflicts
from streaming.replay.scope import Scope, WrongScope, read_partition
from streaming.replay.verify import ReplaySettings, Report, Verification, Verifier


@click.group()
def replay() -> None:
    """Fold again from raw: verify the curated tables, or apply the fold to them."""


def with_scope(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what a replay is about."""
    options = (
        click.option("--from", "start", type=Moment(), help="Records from this Kafka time on."),
        click.option("--to", "end", type=Moment(), help="Records before this Kafka time."),
        click.option("--raw-snapshot", type=int, metavar="ID", help="Records that this snapshot brought."),
        click.option(
            "--partition",
            "partitions",
            multiple=True,
            metavar="HOUR/BUCKET",
            help="A partition of the curated tables, e.g. 2026-11-22T14/0; may be given again.",
        ),
        click.option("--all", "is_all", is_flag=True, help="All of raw."),
        click.option("--restart", is_flag=True, help="Begin anew, not where an earlier run was interrupted."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@replay.command()
@with_scope
@click.option("--contract", type=int, metavar="V", help="Say what contract version V would change.")
@with_output
def verify(restart: bool, contract: int | None, out: Output, **options: Any) -> None:
    """Compare the curated tables with the fold of raw, and name the first rows that differ.

    \b
    paywave replay verify --all
    paywave replay verify --from 2026-11-22T10:00:00Z --to 2026-11-22T11:00:00Z
    paywave replay verify --partition 2026-11-22T10/3
    """
    settings = load_settings()
    scope = _scope(settings, **options)
    if contract is not None:
        found = _compare_contracts(settings, scope, contract, out)
        out.result(found.as_json(), lambda console: _print_contract(console, found))
        return
    verification = _verify(settings, scope, restart, out)
    out.result(verification.as_json(), lambda console: _print_verification(console, verification))
    if not verification.is_equal:
        raise SystemExit(1)


@replay.command()
@with_scope
@click.option("--dry-run", is_flag=True, help="Say what differs and would be replaced; change nothing.")
@with_output
def apply(restart: bool, dry_run: bool, out: Output, **options: Any) -> None:
    """Fold again from raw and publish what differs, beside the live job. A second run changes nothing.

    The tables as they were before the first change stay readable: `paywave query --tag before-replay-…`.
    With --all and a curated table that is new or was dropped, the tables are rebuilt from the first record.
    """
    settings = load_settings()
    scope = _scope(settings, **options)
    if dry_run:
        verification = _verify(settings, scope, restart, out)
        out.result(verification.as_json(), lambda console: _print_verification(console, verification))
        return
    catalog = catalog_of(settings)
    ensure_tables(catalog, settings.tables.buckets)
    start_telemetry()
    with recorded(settings, catalog, "replay apply", str(scope)) as access, phases(out) as report:
        spark = spark_of(settings, "replay")
        applied = Applier(catalog, spark, replay_settings(settings), report).run(scope, restart)
        access.result = f"{sum(applied.changed.values()):,} changes"
    out.result(applied.as_json(), lambda console: _print_applied(console, applied))


@click.command()
@click.option("--dry-run", is_flag=True, help="List the conflicts; change nothing.")
@with_output
def repair(dry_run: bool, out: Output) -> None:
    """Find events and business keys that stand in several partitions, and fold these together.

    Such an event breaks the contract, which fixes its account and time. When live records touch it again, it
    is to be repaired again.
    """
    settings = load_settings()
    catalog = catalog_of(settings)
    start_telemetry()
    with recorded(settings, catalog, "repair", parameters={"dry_run": dry_run}) as access:
        conflicts = repair_conflicts(catalog, spark_of(settings, "repair"), settings.tables.buckets, dry_run)
        repaired = 0 if dry_run else sum(c.is_open for c in conflicts)
        access.result = f"{repaired:,} repaired"
    value = {"conflicts": [c.as_json() for c in conflicts], "repaired": repaired}
    out.result(value, lambda console: _print_repaired(console, conflicts, repaired))


def replay_settings(settings: Settings) -> ReplaySettings:
    """Hand a replay what it needs of the settings."""
    return ReplaySettings(settings.tables.buckets, settings.home / "replay")


def _verify(settings: Settings, scope: Scope, restart: bool, out: Output) -> Verification:
    catalog = catalog_of(settings)
    start_telemetry()
    with (
        recorded(settings, catalog, "replay verify", str(scope), announced=False) as access,
        phases(out) as report,
    ):
        verifier = Verifier(catalog, spark_of(settings, "replay"), replay_settings(settings), report)
        found = verifier.run(scope, restart)
        access.result = "equal" if found.is_equal else "they differ"
    return found


def _compare_contracts(settings: Settings, scope: Scope, version: int, out: Output) -> ContractReport:
    catalog = catalog_of(settings)
    start_telemetry()
    asked = {"contract": version}
    with (
        recorded(settings, catalog, "replay verify", str(scope), asked, announced=False),
        phases(out) as report,
    ):
        spark = spark_of(settings, "replay")
        return report_contract(catalog, spark, replay_settings(settings), scope, version, report)


def _scope(
    settings: Settings,
    start: datetime | None,
    end: datetime | None,
    raw_snapshot: int | None,
    partitions: tuple[str, ...],
    is_all: bool,
) -> Scope:
    ways = [start is not None or end is not None, raw_snapshot is not None, bool(partitions), is_all]
    if sum(ways) != 1:
        raise click.UsageError("give one of: --from and/or --to, --raw-snapshot, --partition, --all")
    if start is not None and end is not None and end <= start:
        raise click.UsageError("--to must be later than --from")
    buckets = settings.tables.buckets
    try:
        named = tuple(sorted(read_partition(text, buckets) for text in partitions))
    except WrongScope as error:
        raise click.UsageError(f"{error}: {error.hint}") from None
    return Scope(start, end, named, raw_snapshot)


@contextmanager
def phases(out: Output) -> Iterator[Report]:
    """Show one meter per phase of the work, in the order in which they come."""
    with ExitStack() as open_meters:
        meters: dict[str, Meter] = {}

        def report(phase: str, done: int, total: int) -> None:
            if phase not in meters:
                open_meters.close()
                meters[phase] = open_meters.enter_context(progress(out, phase, total))
            meters[phase](done, f"{done:,} of {total:,}")

        yield report


def _print_verification(console: Console, v: Verification) -> None:
    console.print(f"{v.scope}: {v.records:,} records, {len(v.folded):,} partitions, {v.payments:,} payments")
    for what, count in sorted(v.findings.counts.items()):
        console.print(f"  {what}: {count:,}")
    for difference in v.findings.first:
        console.print(f"    {difference}", markup=False, soft_wrap=True)
    _print_remarks(console, v.range.remarks)
    for conflict in v.conflicts:
        console.print(f"  identity conflict, {conflict}", markup=False, soft_wrap=True)
    if v.is_equal:
        console.print("equal: the curated tables are the fold of raw")
    elif v.findings:
        console.print("they differ; `paywave replay apply` of the same scope puts them right")
    else:
        console.print("equal but for open identity conflicts; `paywave repair` folds them together")


def _print_contract(console: Console, found: ContractReport) -> None:
    console.print(f"{found.scope}: {found.records:,} records, contract version {found.version}")
    _print_remarks(console, found.remarks)
    if not found.changes:
        console.print("it would change nothing")
        return
    table = Table("would be", "rules", "type", "currency", "records", "amount", "first")
    for kind, changed in found.changes.items():
        cells = (kind.change, kind.rules, kind.event_type, kind.currency, f"{changed.records:,}")
        table.add_row(*(c or "" for c in cells), f"{changed.amount or ''}", "\n".join(changed.examples))
    console.print(table)


def _print_applied(console: Console, applied: Applied) -> None:
    console.print(f"{applied.scope}: {applied.records:,} records, {len(applied.touched):,} partitions")
    _print_remarks(console, applied.remarks)
    if applied.is_rebuilt:
        console.print("  rebuilt from the first record")
    for what, count in sorted(applied.changed.items()):
        console.print(f"  {what}: {count:,}")
    for conflict in applied.conflicts:
        if conflict.is_open:
            console.print(f"  repaired, {conflict}", markup=False, soft_wrap=True)
    if applied.is_tagged:
        console.print(f"  as it was before: paywave query --tag {applied.tag} …")
    elif not applied.is_rebuilt:
        console.print("  nothing to change")


def _print_remarks(console: Console, remarks: tuple[str, ...]) -> None:
    for remark in remarks:
        console.print(f"  note: {remark}", markup=False, soft_wrap=True)


def _print_repaired(console: Console, conflicts: tuple[Conflict, ...], repaired: int) -> None:
    for conflict in conflicts:
        console.print(f"{conflict}", markup=False, soft_wrap=True)
    console.print(f"{len(conflicts):,} identity conflicts, {repaired:,} repaired")
