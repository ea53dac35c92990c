"""`paywave complete | changes`: how far the tables are, and what came late. Belongs here: options, looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cli.context import catalog_of
from cli.output import Output, with_output
from cli.params import Moment, Span
from cli.trail import recorded
from config.settings import Settings, load_settings
from lakehouse.arrivals_sql import CLOSED_AFTER, HOUR
from lakehouse.changes import Change, Changes, LateVersion, State, changes_of_hour
from lakehouse.complete import Complete
from lakehouse.complete import complete as read_complete
from lakehouse.definitions import PAYMENTS
from lakehouse.offsets import OffsetVector
from streaming.completeness import complete_to
from streaming.errors import StreamingError
from streaming.topic_state import BRIEF_SECONDS, inspect_topic

_SHOWN = 100
_closed_after = click.option(
    "--closed-after",
    type=Span(),
    default=CLOSED_AFTER,
    show_default="24h",
    help="How long after its end an event hour is closed, in Kafka time.",
)


@click.command()
@_closed_after
@with_output
def complete(closed_after: timedelta, out: Output) -> None:
    """Say up to which Kafka time and event hour payments are complete, and where each table stands.

    Kafka is asked whether nothing newer is waiting; without it, what the tables say of themselves is shown.
    """
    settings = load_settings()
    found = read_complete(catalog_of(settings), settings.catalog_properties())
    live, asked = _ask_kafka(settings, found.tables[PAYMENTS].offsets)
    found = found.at_least(live)
    value = {
        "complete_to": _text(found.complete_to),
        "closed_to": _text(found.closed_to(closed_after)),
        "watermark": _text(found.watermark),
        "p99_delay_seconds": found.p99_delay.total_seconds() if found.p99_delay is not None else None,
        "kafka_asked": asked,
        "consistent_offsets": found.consistent.topics,
        "tables": {name: _standing(found, name) for name in found.tables},
    }
    out.result(value, lambda console: _show_complete(console, value, closed_after))


@click.command()
@click.option("--hour", type=Moment(), required=True, help="Start of the event hour, ISO 8601 with offset.")
@_closed_after
@click.option("--since", type=Moment(), help="What changed after this Kafka time, instead of the close.")
@with_output
def changes(hour: datetime, closed_after: timedelta, since: datetime | None, out: Output) -> None:
    """List what changed in an event hour after it was closed, and because of which records.

    \b
    paywave changes --hour 2026-11-20T13:00Z
    paywave changes --hour 2026-11-20T13:00Z --since 2026-11-21T08:00Z --output json
    """
    if hour.replace(minute=0, second=0, microsecond=0) != hour:
        raise click.UsageError(f"--hour {hour.isoformat()}: the start of an hour is wanted")
    settings = load_settings()
    hour = hour.astimezone(UTC)
    closes_at = hour + HOUR + closed_after
    moment = (since or closes_at).astimezone(UTC)
    catalog, asked = catalog_of(settings), {"since": moment}
    with recorded(settings, catalog, "changes", hour.isoformat(), asked, announced=False):
        found = changes_of_hour(catalog, settings.catalog_properties(), hour, moment)
    live, _ = _ask_kafka(settings, found.offsets)
    known = max((t for t in (found.complete_to, live) if t is not None), default=None)
    is_closed = known is not None and known >= closes_at
    value = {
        "hour": _text(hour),
        "closes_at": _text(closes_at),
        "closed": is_closed,
        "since": _text(moment),
        "complete_to": _text(known),
        "snapshot": str(found.snapshot_id),
        "late_versions": [_late(v) for v in found.late],
        "changes": [_change(c) for c in found.changes],
        "sums": [{**s._asdict(), "before": str(s.before), "after": str(s.after)} for s in found.sums],
    }
    out.result(value, lambda console: _show_changes(console, found, is_closed, closes_at))


def _ask_kafka(settings: Settings, offsets: OffsetVector) -> tuple[datetime | None, bool]:
    """Ask whether anything newer than these offsets waits in Kafka: the tables cannot tell by themselves.

    Returns the Kafka time up to which they hold all (None: not known), and whether Kafka answered.
    """
    kafka, reached = settings.kafka_properties(), offsets.topics
    try:
        state = inspect_topic(kafka, settings.kafka.topic, BRIEF_SECONDS)
        live = complete_to(kafka, state, reached[state.topic_id]) if state.topic_id in reached else None
    except StreamingError:
        return None, False
    return live, True


def _standing(found: Complete, name: str) -> dict[str, Any]:
    table = found.tables[name]
    return {
        "snapshot": str(table.snapshot_id),
        "records": table.records,
        "behind_raw": table.behind,
        "complete_to": _text(table.complete_to),
        "offsets": table.offsets.topics,
    }


def _change(change: Change) -> dict[str, Any]:
    kind = "added" if change.before is None else "removed" if change.after is None else "changed"
    return {
        "change": kind,
        **change._asdict(),
        "event_ts": _text(change.event_ts),
        "before": _state(change.before),
        "after": _state(change.after),
        "because_of": [_late(v) for v in change.because_of],
    }


def _state(state: State | None) -> dict[str, Any] | None:
    return None if state is None else {**state._asdict(), "amount": str(state.amount)}


def _late(version: LateVersion) -> dict[str, Any]:
    told = {**version._asdict(), **version.coordinates._asdict(), "kafka_ts": _text(version.kafka_ts)}
    del told["coordinates"]
    return told


def _show_complete(console: Console, value: dict[str, Any], closed_after: timedelta) -> None:
    remark = "" if value["kafka_asked"] else " (Kafka does not answer; as the tables say)"
    said = {
        "payments are complete up to Kafka time": (value["complete_to"], remark),
        "event hours are closed before": (value["closed_to"], f" ({closed_after} after their end)"),
        "99 % has come of events before": (value["watermark"], ""),
    }
    for what, (moment, note) in said.items():
        console.print(f"{what:<40}{moment or 'not known yet'}{note}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for column in ("table", "records", "behind raw", "complete to, by its stamp"):
        table.add_column(
            column, justify="right" if column in ("records", "behind raw") else "left", no_wrap=True
        )
    for name, t in value["tables"].items():
        table.add_row(name, f"{t['records']:,}", f"{t['behind_raw']:,}", t["complete_to"] or "-")
    console.print(table)


def _show_changes(console: Console, found: Changes, is_closed: bool, closes_at: datetime) -> None:
    if not is_closed:
        console.print(f"not closed yet: it closes at Kafka time {_text(closes_at)}")
    console.print(
        f"{len(found.late)} late versions (Kafka time after {_text(found.since)}), "
        f"{len(found.changes)} payments changed"
    )
    table = Table(box=None, pad_edge=False)
    for column in ("change", "account", "payment", "before", "after", "because of"):
        table.add_column(column, overflow="fold")
    for change in found.changes[:_SHOWN]:
        records = ", ".join(
            f"{v.topic}-{v.coordinates.partition}@{v.coordinates.offset}" for v in change.because_of
        )
        told = _change(change)["change"], change.account_id, change.business_key[:12]
        table.add_row(*told, _brief(change.before), _brief(change.after), records)
    if found.changes:
        console.print(table)
    if len(found.changes) > _SHOWN:
        console.print(f"{len(found.changes) - _SHOWN} more; --output json has all")
    for s in found.sums:
        console.print(f"{s.event_type} {s.currency}: {s.before} before, {s.after} after")


def _brief(state: State | None) -> str:
    return "-" if state is None else f"{state.event_type} {state.amount} {state.currency} {state.status}"


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
