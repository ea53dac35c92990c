"""`paywave investigate`: the whole story of an event, a transaction or an account.

Belongs here: options, progress and layout. Does not: the story (`lakehouse/investigations/`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import click
from rich import filesize
from rich.console import Console

from cli.context import catalog_of
from cli.output import Output, with_output
from cli.params import Moment
from cli.progress import progress
from cli.quarantined import printable
from cli.telemetry import start_telemetry
from cli.trail import recorded
from config.settings import load_settings
from lakehouse.investigations.find import Span
from lakehouse.investigations.investigate import Answer, Question, investigate
from lakehouse.investigations.lookup import Effort
from lakehouse.investigations.plain import as_json
from lakehouse.investigations.subject import ACCOUNT, EVENT, TRANSACTION, Kind, subject_of
from lakehouse.investigations.telling import lines_of

_OPTIONS = (
    click.option("--as-of", "at", type=Moment(), metavar="TIME", help="As readers saw it then."),
    click.option(
        "--between", nargs=2, type=Moment(), metavar="T1 T2", help="What changed for readers from T1 to T2."
    ),
    click.option("--from", "start", type=Moment(), help="It happened then or later: spares looking before."),
    click.option("--to", "end", type=Moment(), help="It happened then or earlier."),
    click.option(
        "--limit", type=click.IntRange(1), default=50, show_default=True, help="Records told, the last ones."
    ),
)


@click.group("investigate")
def investigate_() -> None:
    """The whole story of one id: every record of it, what became of each, and what readers saw when."""


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@investigate_.command(EVENT)
@click.argument("id_", metavar="UUID")
@_with_options
@with_output
def event(id_: str, out: Output, **options: Any) -> None:
    """One event, and the others of its payment.

    \b
    paywave investigate event 0b0f3c62-51a2-4b0e-9d6e-2f4f0a7f7a11 --as-of 2026-11-20T12:00:00Z
    """
    _answer(EVENT, id_, out, **options)


@investigate_.command(TRANSACTION)
@click.argument("id_", metavar="REFERENCE")
@_with_options
@with_output
def transaction(id_: str, out: Output, **options: Any) -> None:
    """One transaction, by the partner's reference; several accounts may use the same one.

    \b
    paywave investigate transaction T-4711 --between 2026-11-20T00:00:00Z 2026-11-21T00:00:00Z
    """
    _answer(TRANSACTION, id_, out, **options)


@investigate_.command(ACCOUNT)
@click.argument("id_", metavar="ACCOUNT")
@_with_options
@with_output
def account(id_: str, out: Output, **options: Any) -> None:
    """Everything of one account; --from and --to narrow it down."""
    _answer(ACCOUNT, id_, out, **options)


def _answer(
    kind: Kind,
    id_: str,
    out: Output,
    at: datetime | None,
    between: tuple[datetime, datetime] | None,
    start: datetime | None,
    end: datetime | None,
    limit: int,
) -> None:
    at, before = _times(at, between)
    if start is not None and end is not None and start > end:
        raise click.UsageError("--from lies after --to")
    question = Question(subject_of(kind, id_), at, before, Span(start, end))
    settings = load_settings()
    catalog = catalog_of(settings)
    start_telemetry()
    asked = {"as_of": at, "before": before, "from": start, "to": end}
    with (
        recorded(settings, catalog, "investigate", f"{kind} {id_}", asked, announced=False),
        progress(out, "asking files", None) as meter,
    ):
        answer = investigate(
            catalog, question, lambda table, done, of: meter(done, f"{done:,} of {of:,} of {table}")
        )
    value = as_json(answer.story) | {"read": [effort.as_json() for effort in answer.efforts]}
    out.result(value, lambda console: _show(console, answer, limit))


def _times(
    at: datetime | None, between: tuple[datetime, datetime] | None
) -> tuple[datetime | None, datetime | None]:
    now = datetime.now(UTC)
    if between is not None:
        if at is not None:
            raise click.UsageError("give --as-of or --between, not both")
        if between[0] >= between[1]:
            raise click.UsageError("--between: the first time must lie before the second")
        at, before = between[1], between[0]
    else:
        before = None
    if at is not None and at > now:
        raise click.UsageError(f"{at.isoformat()} lies in the future: what readers will see is not known")
    return at, before


def _show(console: Console, answer: Answer, limit: int) -> None:
    for line in [*lines_of(answer.story, limit), "", "What was read for it", *_read(answer.efforts)]:
        console.print(printable(line), markup=False, soft_wrap=True)


def _read(efforts: Iterable[Effort]) -> Iterable[str]:
    for e in efforts:
        denied = len(e.denied - e.read.keys())
        ruled_out = f"; {e.files - len(e.planned):,} ruled out by partition and statistics"
        asked = (
            f", {denied:,} by Bloom filters ({filesize.decimal(e.asked_bytes)} of footers and filters)"
            if e.asked
            else ""
        )
        yield (
            f"  {e.table}: {len(e.read):,} of {e.files:,} files, "
            f"{filesize.decimal(e.read_bytes)} of {filesize.decimal(e.bytes)}{ruled_out}{asked}"
        )
