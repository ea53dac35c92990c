"""What commands that read tables share: which moment is meant, and how rows look.

Belongs here: those options, rows as JSON and as a table. Does not: reading (`lakehouse/`,
`snowflake_external/`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import click
from rich.console import Console
from rich.table import Table

from lakehouse.moments import Moment
from lakehouse.offsets import OffsetVector

_SHOWN_ROWS = 1000


class Read(Protocol):
    """What was read, by whomever; `offsets` where the moment asks for them."""

    @property
    def columns(self) -> list[str]: ...
    @property
    def rows(self) -> list[tuple[Any, ...]]: ...
    @property
    def snapshots(self) -> dict[str, int]: ...
    @property
    def offsets(self) -> OffsetVector | None: ...


def with_moment(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which moment is meant, and hand the command a `Moment` as `moment`."""

    @click.option(
        "--as-of", "as_of", metavar="TIME", help="As readers saw it then: ISO 8601, UTC if no offset."
    )
    @click.option("--snapshot", "snapshots", metavar="TABLE=ID", multiple=True, help="A table at a snapshot.")
    @click.option("--tag", metavar="NAME", help="Every table at its tag of this name.")
    @click.option("--consistent", is_flag=True, help="All tables at the greatest offset vector they share.")
    @functools.wraps(function)
    def wrapper(
        *args: Any,
        as_of: str | None,
        snapshots: tuple[str, ...],
        tag: str | None,
        consistent: bool,
        **kwargs: Any,
    ) -> None:
        function(*args, moment=_moment(as_of, snapshots, tag, consistent), **kwargs)

    return wrapper


def asked(sql: str, moment: Moment) -> dict[str, Any]:
    """What was asked, as the access trail keeps it."""
    return {
        "sql": sql,
        "as_of": moment.as_of,
        "snapshots": moment.snapshots,
        "tag": moment.tag,
        "consistent": moment.consistent,
    }


def told(result: Read) -> str:
    """How much was read, as the access trail keeps it."""
    return f"{len(result.rows):,} rows"


def as_json(result: Read) -> dict[str, Any]:
    """What was read as JSON has it: values that it lacks as text, and so are the ids of snapshots."""
    value = {
        "columns": result.columns,
        "rows": [[_plain(v) for v in row] for row in result.rows],
        "snapshots": {name: str(snapshot_id) for name, snapshot_id in result.snapshots.items()},
    }
    if result.offsets is not None:
        value["offsets"] = result.offsets.topics
    return value


def print_rows(console: Console, result: Read) -> None:
    """Print rows as a table, the first thousand of them."""
    table = Table(*result.columns)
    for row in result.rows[:_SHOWN_ROWS]:
        table.add_row(*("" if v is None else str(_plain(v)) for v in row))
    console.print(table)
    if len(result.rows) > _SHOWN_ROWS:
        console.print(f"{len(result.rows) - _SHOWN_ROWS} rows more; add a LIMIT, or --output json for all")


def _moment(as_of: str | None, snapshots: tuple[str, ...], tag: str | None, consistent: bool) -> Moment:
    if sum(map(bool, (as_of, snapshots, tag, consistent))) > 1:
        raise click.UsageError("give one of --as-of, --snapshot, --tag and --consistent")
    return Moment(_time(as_of) if as_of else None, dict(map(_snapshot, snapshots)), tag, consistent)


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--as-of {text}: ISO 8601 is wanted, e.g. 2026-11-20T12:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _snapshot(text: str) -> tuple[str, int]:
    table, _, number = text.partition("=")
    if not number.isdigit():
        raise click.UsageError(f"--snapshot {text}: TABLE=ID is wanted, e.g. curated.payments=123")
    return table, int(number)


def _plain(value: Any) -> Any:
    """Turn a value into what JSON has; decimals and times as text, so that nothing is rounded."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    return value if isinstance(value, str | int | float | bool | None) else str(value)
