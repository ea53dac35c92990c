"""`paywave trail`: who read, exported, replayed, overrode or dropped what; and whether the trail is whole.

Belongs here: options and how it looks. Does not: recording (`cli/trail.py`), the chain
(`lakehouse/chain.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.context import catalog_of
from cli.output import Output, with_output
from cli.trail import last_seen
from config.settings import load_settings
from lakehouse.access_log import AccessLog, Entry
from lakehouse.chain import Break, Tail


@click.group()
def trail() -> None:
    """The access trail: who did what, and when, in a chain that shows what was tampered with."""


@trail.command(name="list")
@click.option("--actor", help="Of this user, or user@machine.")
@click.option("--action", help="Of this kind, e.g. query; `replay` finds replay apply and verify.")
@click.option("--access", "access_id", help="The rows of one access, by its id.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="The latest so many."
)
@with_output
def list_command(
    actor: str | None, action: str | None, access_id: str | None, limit: int, out: Output
) -> None:
    """Show who did what, the latest last."""
    matching = (
        entry
        for entry in AccessLog(catalog_of(load_settings())).entries()
        if (actor is None or entry.actor == actor or entry.actor.startswith(f"{actor}@"))
        and (action is None or entry.action == action or entry.action.startswith(f"{action} "))
        and (access_id is None or entry.access_id == access_id)
    )
    found = deque(matching, maxlen=limit)
    out.result({"entries": [e.as_json() for e in found]}, lambda console: _show_entries(console, found))


@trail.command()
@click.option(
    "--known",
    metavar="SEQUENCE:HASH",
    multiple=True,
    help="A last row as an earlier verify told it, kept elsewhere; may be given again.",
)
@with_output
def verify(known: tuple[str, ...], out: Output) -> None:
    """Compute the chain anew; name the first row that was altered, removed or put elsewhere. Exits 1 then.

    Rows are also held to what the table's snapshots say, and to what this home saw last. Keep what it prints
    where the catalog's administrators cannot write, and give it with --known: that also shows a trail that
    was written anew as a whole.
    """
    settings = load_settings()
    tails = [*last_seen(settings), *map(_tail, known)]
    rows, last, broken = AccessLog(catalog_of(settings)).verify(tails)
    value = {
        "rows": rows,
        "whole": broken is None,
        "broken": broken and {"sequence": broken.seq, "what": broken.what, "said": broken.said},
        "known": str(last),
    }
    out.result(value, lambda console: _show_verified(console, rows, broken, last))
    if broken is not None:
        raise SystemExit(1)


def _tail(text: str) -> Tail:
    try:
        return Tail.parse(text)
    except ValueError as error:
        raise click.UsageError(f"--known: {error}, as `paywave trail verify` tells it") from None


def _show_entries(console: Console, entries: Iterable[Entry]) -> None:
    table = Table("no.", "at", "who", "what", "on", "how", "result", box=None)
    for e in entries:
        told = map(escape, (e.actor, e.action, e.target, e.parameters, e.result))
        table.add_row(str(e.seq), f"{e.at:%Y-%m-%d %H:%M:%S}", *told)
    console.print(table)


def _show_verified(console: Console, rows: int, broken: Break | None, last: Tail) -> None:
    if broken is None:
        console.print(f"{rows:,} rows, the chain is whole; to hold a later verify to it:")
        console.print(f"  --known {last}", markup=False, soft_wrap=True)
    else:
        console.print(f"{broken.what} at row {broken.seq}: {broken.said}", markup=False, soft_wrap=True)
        console.print("all rows before it are as they were written")
