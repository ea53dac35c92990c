"""`paywave subject`: what is sealed of one account: counting, erasing and showing it, each recorded.

Belongs here: options and how it looks. Does not: the work (`lakehouse/erasure.py`), keys
(`lakehouse/keyring.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cli.context import catalog_of
from cli.keys import keyring_of
from cli.output import Output, with_output
from cli.telemetry import start_telemetry
from cli.trail import recorded, who_runs
from config.settings import Settings, load_settings
from lakehouse.access_log import AccessLog
from lakehouse.erasure import ERASE, Eraser, Erasure, Revealed, erased_keys
from lakehouse.hold_log import HoldLog
from lakehouse.holds import held_account
from lakehouse.keyring import Order


@click.group()
def subject() -> None:
    """Personal fields of one account: they are sealed with its key, and erased with it."""


@subject.command()
@click.argument("account")
@click.option("--reason", help="Why; kept in the access trail and in the keyring.")
@click.option("--approver", help="Who approved it; kept there too.")
@click.option("--dry-run", is_flag=True, help="Count what would become unreadable; change nothing.")
@with_output
def erase(account: str, reason: str | None, approver: str | None, dry_run: bool, out: Output) -> None:
    """Destroy an account's key: its personal fields are noise then, in raw, curated, exports and Kafka alike.

    It cannot be undone. Nothing else changes: no file, no hash, no count. What comes of the account later is
    sealed with a new key. A legal hold on the account refuses it.

    \b
    paywave subject erase acct-1001 --dry-run
    paywave subject erase acct-1001 --reason "request 4711" --approver "J. Doe"
    """
    order = Order((reason or "").strip(), (approver or "").strip(), who_runs())
    if not dry_run and not (order.reason and order.approver):
        raise click.UsageError("erasing takes --reason and --approver; --dry-run needs neither")
    settings = load_settings()
    start_telemetry()
    eraser = _eraser(settings)
    if dry_run:
        with recorded(settings, catalog_of(settings), "subject count", account, announced=False):
            found = eraser.look(account)
    else:
        found = eraser.look(account, counted=False)
        asked = {"reason": order.reason, "approver": order.approver, "keys": found.key_ids}
        with recorded(settings, catalog_of(settings), ERASE, account, asked) as access:
            destroyed = eraser.erase(account, order)
            access.result = f"{len(destroyed):,} keys destroyed"
    value = {"dry_run": dry_run, **found.as_json()}
    out.result(value, lambda console: _show_erasure(console, found, dry_run))


@subject.command()
@click.argument("account")
@click.option("--reason", required=True, help="Why; kept in the access trail.")
@with_output
def reveal(account: str, reason: str, out: Output) -> None:
    """Show an account's personal fields in clear, to whoever may open the keyring. It is recorded first."""
    if not reason.strip():
        raise click.UsageError("--reason must say something")
    settings = load_settings()
    start_telemetry()
    with recorded(
        settings, catalog_of(settings), "subject reveal", account, {"reason": reason}, announced=False
    ) as access:
        found = _eraser(settings).reveal(account)
        access.result = f"{len(found):,} values"
    value = {"account_id": account, "values": [_revealed(one) for one in found]}
    out.result(value, lambda console: _show_revealed(console, found))


@subject.command()
@click.argument("account")
@with_output
def status(account: str, out: Output) -> None:
    """Say which keys an account has and had, when they were destroyed, why and by whose leave."""
    settings = load_settings()
    with recorded(settings, catalog_of(settings), "subject status", account, announced=False):
        keys = keyring_of(settings).open().states(account)
    value = {"account_id": account, "keys": [key.as_json() for key in keys]}

    def show(console: Console) -> None:
        if not keys:
            console.print("nothing of it was ever sealed")
        for key in keys:
            console.print(f"key {key.key_id} of {key.created_at:%Y-%m-%d %H:%M:%S}", markup=False)
            if key.destroyed_at is not None and key.order is not None:
                said = f"{key.order.reason}; approved by {key.order.approver}, run by {key.order.actor}"
                console.print(f"  destroyed {key.destroyed_at:%Y-%m-%d %H:%M:%S}: {said}", markup=False)

    out.result(value, show)


@subject.command()
@with_output
def check(out: Output) -> None:
    """See that what was to be erased is gone, also after a keyring was restored. Exits 1 if not.

    The trail says what was. An erasure that was killed or failed counts too: run it again.
    """
    settings = load_settings()
    erased = erased_keys(AccessLog(catalog_of(settings)).entries(ERASE))
    back = _eraser(settings).returned(erased)
    accounts = sorted({erased[key_id] for key_id in back})
    value = {"erased_keys": len(erased), "returned_accounts": accounts}

    def show(console: Console) -> None:
        console.print(f"{len(erased):,} keys were to be destroyed, {len(back):,} are there")
        for account in accounts:
            console.print(f"  {account}: run `paywave subject erase` for it again", markup=False)

    out.result(value, show)
    if back:
        raise SystemExit(1)


def _eraser(settings: Settings) -> Eraser:
    keyring, catalog = keyring_of(settings).open(), catalog_of(settings)
    holds = HoldLog(catalog)
    return Eraser(
        catalog,
        settings.catalog_properties(),
        keyring,
        lambda account: held_account(holds.in_force(), account),
    )


def _revealed(one: Revealed) -> dict[str, Any]:
    return {**one._asdict(), "event_ts": one.event_ts.isoformat()}


def _show_erasure(console: Console, found: Erasure, dry_run: bool) -> None:
    if found.held:
        console.print(f"under legal hold, it is refused: {found.held}", markup=False, soft_wrap=True)
    if not found.key_ids:
        console.print("nothing of it is sealed with a key that there is: nothing to erase")
        return
    keys = ", ".join(found.key_ids)
    console.print(f"{'would be' if dry_run else 'was'} destroyed: key {keys}", markup=False)
    for table, rows in found.rows.items():
        console.print(f"  {table}: personal fields of {rows:,} rows would become unreadable")


def _show_revealed(console: Console, found: Sequence[Revealed]) -> None:
    table = Table("event", "at", "field", "value", box=None)
    for one in found:
        value = json.dumps(one.value, ensure_ascii=False, default=str)
        shown = value if one.state == "open" else f"({one.state})"
        table.add_row(one.event_id, f"{one.event_ts:%Y-%m-%d %H:%M:%S}", one.path, shown)
    console.print(table)
