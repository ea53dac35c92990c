"""`paywave retention`: what goes of each store and why it may, dropping old days, legal holds.

Belongs here: options and how it looks. Does not: dropping (`lakehouse/maintenance/retention.py`,
`curated_retention.py`), what a hold covers (`lakehouse/holds.py`), what the plan says (`cli/stores.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pyiceberg.catalog.rest import RestCatalog
from rich.console import Console

from cli.context import catalog_of, spark_of
from cli.output import Output, with_output
from cli.params import Day, Moment
from cli.stores import stores_of
from cli.telemetry import start_telemetry
from cli.trail import recorded, who_runs
from config.settings import Settings, load_settings
from lakehouse.definitions import RAW
from lakehouse.hold_log import HoldLog
from lakehouse.holds import Hold, Scope
from lakehouse.maintenance.due import KEPT_MONTHS
from lakehouse.retention_plan import Store, cut_of

if TYPE_CHECKING:
    from lakehouse.maintenance.curated_retention import CuratedDropped, CuratedDue, CuratedRetention
    from lakehouse.maintenance.retention import Dropped, Due, Retention


T = TypeVar("T")


@click.group()
def retention() -> None:
    """What goes of each store, when, and why it may; and what a legal hold keeps."""


def _with_months(function: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--keep-months",
        type=click.IntRange(min=KEPT_MONTHS),
        help="Keep the store for so many months: more than the settings say (raw: 30 or more), never less.",
    )(function)


def _with_reason(function: Callable[..., None]) -> Callable[..., None]:
    reason = click.option("--reason", help="Why; kept in the ledger.")
    approver = click.option("--approver", help="Who approved it; kept in the ledger.")
    return reason(approver(function))


@retention.command()
@click.option("--before", type=Day(), help="Look at the days of raw before this one, YYYY-MM-DD.")
@_with_months
@with_output
def plan(before: date | None, keep_months: int | None, out: Output) -> None:
    """Show what is old enough to go of Kafka, raw, the curated tables and the exports, and what keeps it.

    Changes nothing. Nothing goes by itself but Kafka's old records.
    """
    settings, catalog = _begin()
    months = keep_months or settings.retention.raw_months
    due = _tell_usage(lambda: _keeper(settings, catalog, months).look(before)).as_json()
    curated = None
    if settings.retention.curated_months is not None:
        curated = _curated_keeper(settings, catalog, settings.retention.curated_months).look().as_json()
    holds = HoldLog(catalog).standing()
    stores = list(stores_of(settings, catalog, due, months, curated))
    value = {
        "stores": [store.as_json() for store in stores],
        "holds": [hold.as_json() for hold in holds],
        "raw": due,
        "raw_before": cut_of(before, due),
        "curated": curated,
    }

    def show(console: Console) -> None:
        for store in stores:
            _print_store(console, store)
        _print_holds(console, holds)
        if due["days"]:
            console.print(f"the most that raw can go today: before {value['raw_before']}")

    out.result(value, show)


@retention.command()
@click.option(
    "--before",
    type=Day(),
    required=True,
    help="Drop the days (UTC) before this one: of raw by Kafka time, of the curated tables by event time.",
)
@click.option(
    "--store",
    type=click.Choice(["raw", "curated"]),
    default="raw",
    show_default=True,
    help="What to drop from.",
)
@_with_reason
@_with_months
@click.option("--dry-run", is_flag=True, help="Say what would go, and be lost to whom; change nothing.")
@with_output
def apply(
    before: date,
    reason: str | None,
    approver: str | None,
    keep_months: int | None,
    store: str,
    dry_run: bool,
    out: Output,
) -> None:
    """Drop whole old days from raw, or from the curated tables: the stores that need a person for it.

    Nothing goes that a job has still to read, or that a legal hold covers, and of the curated tables nothing
    that raw still has. The files are freed when the snapshots and tags expire that need them. It cannot be
    undone after that: nothing can be judged or folded anew from what was dropped.

    \b
    paywave retention apply --before 2024-05-01 --dry-run
    paywave retention apply --before 2024-05-01 --reason "30 months are over" --approver "J. Doe"
    paywave retention apply --store curated --before 2019-11-01 --reason "7 years are over" --approver Doe
    """
    why = None if dry_run else _named(f"{store} is dropped", reason, approver)
    settings, catalog = _begin()
    keeper: Any  # the two answer alike, each in its own figures
    show_due: Callable[[Console, Any], None]
    show_done: Callable[[Console, Any], None]
    if store == "curated":
        what, keeper = store, _curated_keeper(settings, catalog, _curated_months(settings, keep_months))
        show_due, show_done = _print_curated_due, _print_curated_dropped
    else:
        what, keeper = RAW, _keeper(settings, catalog, keep_months or settings.retention.raw_months)
        show_due, show_done = _print_raw_due, _print_dropped
    if why is None:
        due = _tell_usage(lambda: keeper.look(before))
        out.result({"dry_run": True, **due.as_json()}, lambda console: show_due(console, due))
        return
    asked = {"before": before, "reason": why[0], "approver": why[1]}
    with recorded(settings, catalog, "retention apply", what, asked) as access:
        done = _tell_usage(lambda: keeper.drop(before, *why, who_runs()))
        access.result = str(done)
    out.result({"dry_run": False, **done.as_json()}, lambda console: show_done(console, done))


def _curated_months(settings: Settings, keep_months: int | None) -> int:
    """Tell how many months the curated tables are kept: as the settings say, or longer."""
    set_to = settings.retention.curated_months
    if set_to is None:
        raise click.UsageError(
            "the curated tables are kept for good, as PAYWAVE_RETENTION__CURATED_MONTHS is not set"
        )
    if keep_months is not None and keep_months < set_to:
        raise click.UsageError(f"--keep-months {keep_months}: the settings say {set_to}, ask for no less")
    return keep_months or set_to


@retention.command()
@click.argument("name")
@click.option("--account", help="Hold the records of this account only.")
@click.option("--from", "starts", type=Moment(), help="Hold what came, or happened, at this time or later.")
@click.option("--to", "ends", type=Moment(), help="Hold what came, or happened, before this time.")
@_with_reason
@click.option("--dry-run", is_flag=True, help="Say what would be held; change nothing.")
@with_output
def hold(
    name: str,
    account: str | None,
    starts: datetime | None,
    ends: datetime | None,
    reason: str | None,
    approver: str | None,
    dry_run: bool,
    out: Output,
) -> None:
    """Place a legal hold NAME: raw drops nothing that it covers, and what tables hold now is pinned.

    It stands until it is released, whatever ages. Raw goes from the front: all days after the first held one
    stay too. The pins (tags legal-hold-NAME) keep files that compaction replaces, so they take room.

    \b
    paywave retention hold case-4711 --account acct-1 --reason "court order 4711" --approver "J. Doe"
    paywave retention hold q1 --from 2026-01-01T00:00:00Z --to 2026-04-01T00:00:00Z --reason … --approver …
    """
    why = _named("a hold is placed", reason, approver)
    scope = Scope(account, starts, ends)
    if scope == Scope():
        raise click.UsageError("say what to hold: --account, or a time by --from and --to, or both")
    settings, catalog = _begin()
    log = HoldLog(catalog)
    if dry_run:
        log.check(name, scope)
        placed = Hold(name, scope, *why, who_runs(), datetime.now(UTC))
    else:
        with recorded(settings, catalog, "retention hold", name, _order(why, scope)):
            placed = log.place(name, scope, *why, who_runs())
    pins = {table: str(snapshot) for table, snapshot in log.pins(placed).items()}
    value = {"dry_run": dry_run, "hold": placed.as_json(), "pinned": pins}
    done = "would be placed" if dry_run else "placed"
    out.result(value, lambda console: _say(console, f"hold {name} {done}: {scope}; pinned: {_listed(pins)}"))


@retention.command()
@click.argument("name")
@_with_reason
@click.option("--dry-run", is_flag=True, help="Say what would be let go; change nothing.")
@with_output
def release(name: str, reason: str | None, approver: str | None, dry_run: bool, out: Output) -> None:
    """Release the legal hold NAME for ever: its pins go, and what it covered may go once it is old enough."""
    why = _named("a hold is released", reason, approver)
    settings, catalog = _begin()
    log = HoldLog(catalog)
    held = log.find(name)
    pins = {table: str(snapshot) for table, snapshot in log.pins(held).items()}
    if not dry_run:
        with recorded(settings, catalog, "retention release", name, _order(why, held.scope)):
            log.release(name, *why, who_runs())
    value = {"dry_run": dry_run, "hold": held.as_json(), "unpinned": pins}
    done = "would be released" if dry_run else "released"
    out.result(
        value, lambda console: _say(console, f"hold {name} {done}: {held.scope}; unpinned: {_listed(pins)}")
    )


@retention.command()
@click.option("--all", "all_rows", is_flag=True, help="Show every placing and release there ever was.")
@with_output
def holds(all_rows: bool, out: Output) -> None:
    """Show the legal holds that stand: what each covers, why, by whose leave, and what it pins."""
    log = HoldLog(catalog_of(load_settings()))
    standing, history = log.standing(), log.history() if all_rows else []
    pins = {hold.name: {t: str(s) for t, s in log.pins(hold).items()} for hold in standing}
    value = {
        "holds": [{**hold.as_json(), "pinned": pins[hold.name]} for hold in standing],
        **({"history": history} if all_rows else {}),
    }

    def show(console: Console) -> None:
        _print_holds(console, standing)
        for row in history:
            who = f"approved by {row['approver']}, run by {row['actor']}"
            _say(console, f"{row['at']:%Y-%m-%d %H:%M} {row['event']} {row['name']}: {row['reason']}, {who}")

    out.result(value, show)


def _order(why: tuple[str, str], scope: Scope) -> dict[str, str]:
    """What a hold is placed or released for, as the access trail keeps it."""
    return {"scope": str(scope), "reason": why[0], "approver": why[1]}


def _begin() -> tuple[Settings, RestCatalog]:
    settings = load_settings()
    catalog = catalog_of(settings)
    start_telemetry()
    return settings, catalog


def _named(what: str, reason: str | None, approver: str | None) -> tuple[str, str]:
    """Insist on words: why, and who approved it."""
    if not (reason and reason.strip() and approver and approver.strip()):
        raise click.UsageError(f"{what} only with --reason and --approver")
    return reason.strip(), approver.strip()


def _keeper(settings: Settings, catalog: RestCatalog, months: int) -> Retention:
    from lakehouse.maintenance.retention import Retention, RetentionSettings

    return Retention(
        catalog,
        lambda: spark_of(settings, "retention"),
        settings.catalog_properties(),
        RetentionSettings(months),
    )


def _curated_keeper(settings: Settings, catalog: RestCatalog, months: int) -> CuratedRetention:
    from lakehouse.maintenance.curated_retention import CuratedRetention

    return CuratedRetention(
        catalog, lambda: spark_of(settings, "retention"), settings.catalog_properties(), months
    )


def _tell_usage(work: Callable[[], T]) -> T:
    """Turn a day that is too young into wrong usage."""
    from lakehouse.errors import TooYoung

    try:
        return work()
    except TooYoung as error:
        raise click.UsageError(f"{error}: {error.hint}") from None


def _print_store(console: Console, store: Store) -> None:
    console.print(store.name, style="bold", markup=False)
    for label, said in (
        ("kept", store.rule),
        ("goes", store.goes),
        ("may, as", store.why),
        *(("blocked", said) for said in store.blocked),
        ("by", store.how),
    ):
        _say(console, f"  {label}: {said}")


def _print_holds(console: Console, holds: tuple[Hold, ...]) -> None:
    if not holds:
        console.print("no legal hold stands")
    for one in holds:
        said = f"hold {one.name}: {one.scope}, since {one.at:%Y-%m-%d}: {one.reason}"
        _say(console, f"{said}, approved by {one.approver}, placed by {one.actor}")


def _print_raw_due(console: Console, due: Due) -> None:
    _print_due(console, due, "would go")


def _print_dropped(console: Console, done: Dropped) -> None:
    if done.snapshot_id is None:
        console.print(f"{RAW}: nothing before {done.due.before} is left to drop")
        return
    _print_due(console, done.due, "dropped")
    console.print(f"recorded in raw.retention_log, snapshot {done.snapshot_id}")


def _print_due(console: Console, due: Due, done: str) -> None:
    sums = f"{len(due.days):,} days, {due.records:,} records, {due.files:,} files, {due.bytes:,} bytes"
    _say(console, f"{RAW}, before {due.before}: {sums} {done}")
    for day in due.days:
        console.print(f"  {day.day}: {day.records:,} records, {day.files:,} files, {day.bytes:,} bytes")
    for said in _said_of(due):
        _say(console, f"  {said}")


def _print_curated_due(console: Console, due: CuratedDue) -> None:
    _print_curated(console, due, "would go")


def _print_curated_dropped(console: Console, done: CuratedDropped) -> None:
    _print_curated(console, done.due, "dropped")


def _print_curated(console: Console, due: CuratedDue, done: str) -> None:
    if not due.rows:
        console.print(f"curated tables: nothing before {due.before} is there to drop")
        return
    for name, days in due.tables.items():
        rows, files, size = (
            sum(of) for of in zip(*((d.records, d.files, d.bytes) for d in days), strict=True)
        )
        first_last = f"{days[0].day} to {days[-1].day}"
        said = f"{len(days):,} days, {first_last}: {rows:,} rows, {files:,} files, {size:,} bytes"
        _say(console, f"{name}, before {due.before}: {said} {done}")
        for tag, kept in due.held.get(name, {}).items():
            _say(console, f"  the tag {tag} keeps {kept:,} of these files until it goes")
    if due.parted:
        _say(
            console,
            f"  {due.parted:,} transactions go on in the month after it: only their later payments stay, and "
            "curated.transactions sums up these alone",
        )
    for said in due.blocked:
        _say(console, f"  not now: {said}")


def _said_of(due: Due) -> Iterator[str]:
    """Say what is lost to whom, what keeps the files, and what stands against it."""
    if due.loss.versions:
        yield f"{due.loss.versions:,} versions cannot be proven from raw again; they stay as they stand"
    for partner, count in due.loss.open_records.items():
        yield f"{count:,} open records of {partner or 'no partner'} in quarantine can never be redriven then"
    for partner, count in due.loss.files.items():
        yield f"{count:,} files of {partner} cannot be held against their totals again"
    for tag, files in due.held.items():
        yield f"the tag {tag} keeps {files:,} of these files until it goes"
    if due.days:
        yield "all files stay until the snapshots that have them expire (`paywave maintain expire`)"
    if due.missing:
        yield f"{due.missing:,} offsets of these days are not in raw: `paywave reconcile` names them, now"
    for held in due.holds:
        yield f"not now: {held}"
    for reader, stands in due.behind.items():
        yield f"not now: {reader} {stands}"
    if due.strays:
        yield f"not at this day: {due.strays:,} later records lie before older ones in their partition"


def _say(console: Console, said: str) -> None:
    console.print(said, markup=False, soft_wrap=True)


def _listed(pins: dict[str, str]) -> str:
    return ", ".join(pins) or "nothing"
