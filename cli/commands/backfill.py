"""`paywave backfill`: plan hours to be folded again, run the plan once it is approved, say how far it is.

Belongs here: their options, progress and how their results look. Does not: the work (`streaming/backfill/`).
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cli.context import catalog_of, spark_of, stop_on_signals
from cli.output import Output, with_output
from cli.params import Moment
from cli.progress import progress
from cli.telemetry import start_telemetry
from cli.trail import recorded
from config.settings import Settings, load_settings
from streaming.backfill.errors import Refused
from streaming.backfill.estimate import Rates
from streaming.backfill.hours import hours_between, in_order
from streaming.backfill.plan import Plan, approve, check_name, is_own
from streaming.backfill.planner import Planner
from streaming.backfill.run import BackfillResult, Runner
from streaming.backfill.settings import BackfillSettings
from streaming.backfill.state import State, Status, next_step
from streaming.backfill.store import Backfill, Store, write_plan

_SHOWN = 24


@click.group()
def backfill() -> None:
    """Fold planned hours of the curated tables again from raw, approved, resumable, beside the live jobs."""


@backfill.command()
@click.option("--from", "start", type=Moment(), help="First event hour, e.g. 2026-11-22T14:00:00Z.")
@click.option("--to", "end", type=Moment(), help="End of the last event hour.")
@click.option(
    "--hour", "hours", multiple=True, metavar="HOUR", help="An hour, e.g. 2026-11-22T14; repeatable."
)
@click.option("--reason", required=True, help="Why, for those who review it.")
@click.option("--requested-by", metavar="NAME", help="Who asks for it; you, unless given.")
@click.option("--approver", metavar="NAME", help="Who has approved it, if somebody has already.")
@click.option("--name", help="a-z, 0-9 and -; made of hours and reason, unless given.")
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the plan; PAYWAVE_HOME/backfills/NAME/plan.json, unless given.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan; write nothing.")
@with_output
def plan(
    start: datetime | None,
    end: datetime | None,
    hours: tuple[str, ...],
    reason: str,
    requested_by: str | None,
    approver: str | None,
    name: str | None,
    path: Path | None,
    dry_run: bool,
    out: Output,
) -> None:
    """Measure event hours and write a plan that can be reviewed: rows, files, bytes, minutes, cost.

    \b
    paywave backfill plan --from 2026-11-22T00:00:00Z --to 2026-11-23T00:00:00Z --reason "fees, ticket 4711"
    """
    settings = load_settings()
    with _usage():
        wanted = _hours(start, end, hours)
        if name is not None:
            check_name(name)
        planner = Planner(catalog_of(settings), backfill_settings(settings))
        who = requested_by or getpass.getuser()
        found = planner.plan(wanted, reason, who, approver, name)
        if not dry_run and path is None:
            path = Store(_folder(settings)).add(found).plan_path
        elif not dry_run and path is not None:
            write_plan(path, found)
    written = None if dry_run else path
    value = {**found.as_json(), "digest": found.digest, "file": written and str(written)}
    out.result(value, lambda console: _print_plan(console, found, written))


@backfill.command()
@click.argument("name", metavar="NAME|FILE", required=False)
@click.option(
    "--hour", "hours", multiple=True, metavar="HOUR", help="Plan this hour and run it at once; repeatable."
)
@click.option("--reason", help="Why, with --hour.")
@click.option("--requested-by", metavar="NAME", help="Who asks for it, with --hour; you, unless given.")
@click.option("--approver", metavar="NAME", help="Who has approved the plan, where its file does not say it.")
@click.option("--max-hours", type=click.IntRange(min=1), help="Do at most so many hours now.")
@click.option("--only", "only", multiple=True, metavar="HOUR", help="This hour only; may be given again.")
@click.option("--only-failed", is_flag=True, help="The hours that failed only.")
@click.option("--again", is_flag=True, help="The hours that are done too.")
@with_output
def run(
    name: str | None,
    hours: tuple[str, ...],
    reason: str | None,
    requested_by: str | None,
    approver: str | None,
    max_hours: int | None,
    only: tuple[str, ...],
    only_failed: bool,
    again: bool,
    out: Output,
) -> None:
    """Run a plan, or go on with it: the hours that are not done, chunk by chunk, beside the live jobs.

    Each unit of partitions is staged, audited and published by itself; rows that are right are not written.
    An hour that fails does not keep the others from being done. SIGTERM ends it after the unit at hand.
    Hours that are named with --hour are planned first; the same hours and reason find the same plan.

    \b
    paywave backfill run 2026-11-22t00-1f2e3d4c5b --approver maria
    paywave backfill run --hour 2026-11-22T14 --reason "ticket 4711" --approver maria
    """
    settings = load_settings()
    with _usage():
        found = _named(settings, name, hours, reason, requested_by, approver)
        planned = found.plan()
        approve(planned, approver, found.state().approval, datetime.now(UTC), settings.is_local)
        _warn(settings, planned, approver or planned.approver, out)
        catalog = catalog_of(settings)
        start_telemetry()
        os.nice(settings.backfill.niceness)  # before Spark's JVM begins, which takes it over
        with progress(out, "hours", len(planned.hours)) as meter:
            runner = Runner(
                catalog,
                lambda: spark_of(settings, "backfill"),
                backfill_settings(settings),
                lambda done, total, note: meter(done * len(planned.hours) / max(1, total), note),
            )
            stop_on_signals(runner.stop)
            asked = {
                "reason": planned.reason,
                "approver": approver or planned.approver,
                "hours": len(planned.hours),
                "only": only,
                "only_failed": only_failed,
                "again": again,
            }
            with recorded(settings, catalog, "backfill run", planned.name, asked) as access:
                result = runner.run(
                    planned.name,
                    only or hours or None,  # of named hours each is told, also where it was done before
                    only_failed=only_failed,
                    again=again,
                    most_hours=max_hours,
                    approver=approver,
                )
                access.result = f"{len(result.hours):,} hours, {len(result.failed):,} failed"
    out.result(result.as_json(), lambda console: _print_result(console, result, found))
    if result.failed or result.is_stopped:
        raise SystemExit(1)


@backfill.command()
@click.argument("name", required=False)
@with_output
def status(name: str | None, out: Output) -> None:
    """Say how far a backfill is, or all of them, and what to do next."""
    store = Store(_folder(load_settings()))
    if name is None:
        all_of_them = [_status(store.find(each)) for each in store.names()]
        out.result({"backfills": all_of_them}, lambda console: _print_list(console, all_of_them))
        return
    with _usage():
        found = store.find(name)
        value = {**_status(found), "hours": _hours_of(found)}
    out.result(value, lambda console: _print_status(console, value))


def backfill_settings(settings: Settings) -> BackfillSettings:
    """Hand backfills what they need of the settings."""
    own = settings.backfill
    rates = Rates(
        own.cores,
        own.raw_records_per_core_s,
        own.rows_per_core_s,
        own.unit_rows,
        price=own.price_per_core_hour,
    )
    return BackfillSettings(
        settings.tables.buckets,
        _folder(settings),
        own.chunk_hours,
        own.chunk_rows,
        rates,
        freshness=own.freshness_s,
        allows_requester=settings.is_local,
    )


@contextmanager
def _usage() -> Iterator[None]:
    """Take what is refused for wrong usage: nothing was done."""
    try:
        yield
    except Refused as error:
        raise click.UsageError(f"{error}: {error.hint}") from None


def _folder(settings: Settings) -> Path:
    return settings.home / "backfills"


def _hours(start: datetime | None, end: datetime | None, hours: Sequence[str]) -> list[str]:
    if hours and start is None and end is None:
        return in_order(hours)
    if start is None or end is None or hours:
        raise click.UsageError("give --from and --to, or --hour")
    return hours_between(start, end)


def _named(
    settings: Settings,
    name: str | None,
    hours: tuple[str, ...],
    reason: str | None,
    requested_by: str | None,
    approver: str | None,
) -> Backfill:
    """Find the plan that is meant: by its name or file, or by its hours and reason, made now if need be."""
    if (name is None) == (not hours):
        raise click.UsageError("give the name or file of a plan, or --hour")
    if name is not None:
        return _found(settings, name)
    if reason is None or approver is None:
        raise click.UsageError("--hour needs --reason and --approver")
    planner = Planner(catalog_of(settings), backfill_settings(settings))
    adopted = planner.adopt(hours, reason, requested_by or getpass.getuser(), approver)
    return Store(_folder(settings)).find(adopted.name)


def _found(settings: Settings, name: str) -> Backfill:
    """Find a backfill by its name, or take in the file of its plan."""
    store = Store(_folder(settings))
    is_file = "/" in name or name.endswith(".json")
    return store.take(Path(name)) if is_file else store.find(name)


def _warn(settings: Settings, planned: Plan, approver: str | None, out: Output) -> None:
    if approver and is_own(planned, approver) and settings.is_local:
        out.log.print(f"{approver} asked for it and approves it: only the profile `local` takes that")
    if open_hours := sum(hour.is_open for hour in planned.hours):
        out.log.print(f"{open_hours:,} hours were still open when it was planned: the live job adds to them")


# -- status --------------------------------------------------------------------------------------------------


def _status(found: Backfill) -> dict[str, Any]:
    try:
        planned, state, is_running = found.plan(), found.state(), found.is_running()
    except Refused as error:
        return {"name": found.folder.name, "error": str(error), "next": error.hint}
    if not is_running:
        state.interrupt()
    approver = state.approval.by if state.approval else planned.approver
    return {
        "name": planned.name,
        "reason": planned.reason,
        "requested_by": planned.requested_by,
        "approver": approver,
        "running": is_running,
        "done": state.is_done(planned),
        "counts": {"hours": len(planned.hours)} | state.counts(planned),
        "changed": dict(state.changed()),
        "minutes": round(state.seconds / 60, 2),
        "estimated_minutes": round(planned.estimate.minutes, 2),
        "estimated_dollars": round(planned.estimate.dollars, 4),
        "next": next_step(planned, state, is_running),
    }


def _hours_of(found: Backfill) -> list[dict[str, Any]]:
    state = found.state()
    if not found.is_running():
        state.interrupt()
    return [_hour(state, planned.hour) for planned in found.plan().hours]


def _hour(state: State, hour: str) -> dict[str, Any]:
    is_at = state.of(hour)
    return {
        "hour": hour,
        "status": is_at.status.value,
        "attempts": is_at.attempts,
        "changed": dict(is_at.changed),
        "error": is_at.error,
    }


# -- as text -------------------------------------------------------------------------------------------------


def _print_plan(console: Console, found: Plan, written: Path | None) -> None:
    names = ("partitions", "versions", "payments", "files", "bytes")
    table = Table("hour", *names, "")
    for hour in found.hours[:_SHOWN]:
        cells = (f"{getattr(hour, name):,}" for name in names)
        table.add_row(hour.hour, *cells, "still open" if hour.is_open else "")
    totals = found.totals
    if len(found.hours) > _SHOWN:
        table.add_row(f"… {len(found.hours) - _SHOWN:,} more", *("" for _ in names), "")
    table.add_row(f"{totals['hours']:,} hours", *(f"{totals[name]:,}" for name in names), "")
    console.print(table)
    cost = found.estimate
    price = f"${cost.dollars:,.4f} ({cost.cores} cores at ${cost.price:g} an hour)"
    console.print(f"about {cost.minutes:,.1f} minutes, {price}")
    console.print(f"asked for by {found.requested_by}: {found.reason}", markup=False, soft_wrap=True)
    if written is None:
        console.print("nothing was written")
        return
    console.print(f"written to {written}", markup=False, soft_wrap=True)
    target = found.name if written.parent.name == found.name else written
    approve = "" if found.approver else " --approver NAME"
    console.print(f"have it reviewed, then: paywave backfill run {target}{approve}", soft_wrap=True)


def _print_result(console: Console, result: BackfillResult, found: Backfill) -> None:
    done = sum(hour.status is Status.DONE for hour in result.hours)
    console.print(f"{result.name}: {done:,} of {len(result.hours):,} hours done in {result.seconds:.0f} s")
    _print_changed(console, result.changed)
    for hour in result.failed:
        console.print(f"  {hour.hour} failed: {hour.error}", markup=False, soft_wrap=True)
    if result.tag and result.changed:
        console.print(f"  as it was before: paywave query --tag {result.tag} …")
    console.print(f"next: {next_step(found.plan(), found.state(), is_running=False)}", soft_wrap=True)


def _print_changed(console: Console, changed: Any) -> None:
    for what, count in sorted(changed.items()):
        console.print(f"  {what}: {count:,}")
    if not changed:
        console.print("  nothing was changed")


def _print_list(console: Console, all_of_them: list[dict[str, Any]]) -> None:
    if not all_of_them:
        console.print("no backfills; plan one: paywave backfill plan")
        return
    table = Table("name", "hours", "done", "failed", "pending", "minutes", "estimated", "next")
    for one in all_of_them:
        if "error" in one:
            table.add_row(one["name"], *("" for _ in range(6)), one["error"])
            continue
        counts = one["counts"]
        cells = (counts[key] for key in ("hours", "done", "failed"))
        waiting = counts["pending"] + counts["running"]
        table.add_row(
            one["name"],
            *(f"{cell:,}" for cell in cells),
            f"{waiting:,}",
            f"{one['minutes']:.1f}",
            f"{one['estimated_minutes']:.1f}",
            one["next"],
        )
    console.print(table)


def _print_status(console: Console, one: dict[str, Any]) -> None:
    if "error" in one:
        raise click.UsageError(f"{one['error']}: {one['next']}")
    counts = one["counts"]
    said = ", ".join(f"{counts[status.value]:,} {status.value}" for status in Status if counts[status.value])
    console.print(f"{one['name']}: {one['reason']}", markup=False, soft_wrap=True)
    console.print(f"  asked for by {one['requested_by']}, approved by {one['approver'] or 'nobody yet'}")
    console.print(f"  {counts['hours']:,} hours: {said}")
    console.print(f"  {one['minutes']:.1f} minutes used, {one['estimated_minutes']:.1f} estimated")
    _print_changed(console, one["changed"])
    for hour in one["hours"]:
        if hour["error"]:
            console.print(f"  {hour['hour']} failed: {hour['error']}", markup=False, soft_wrap=True)
    console.print(f"next: {one['next']}", soft_wrap=True)
