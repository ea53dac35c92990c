"""`paywave quarantine`: what breaks the contract, and its way back.

Belongs here: options and progress. Does not: how results look (`cli/quarantined.py`), the work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from cli.commands.partners import registry_file
from cli.context import catalog_of
from cli.output import Output, with_output
from cli.params import Moment
from cli.progress import progress
from cli.quarantined import (
    raw_as_json,
    record_as_json,
    show_groups,
    show_record,
    show_records,
    show_tally,
    tally_as_json,
    times_as_text,
)
from cli.telemetry import start_telemetry
from cli.trail import recorded
from config.settings import Settings, load_settings
from lakehouse.definitions import QUARANTINE
from lakehouse.gate_log import standing_holds
from lakehouse.quarantine import QuarantineReader
from lakehouse.quarantined import Selection
from lakehouse.redrive_mark import read_coordinates
from lakehouse.refs import read_head
from quality.contract import in_force
from streaming.partners.profile import Profile, find_profile
from streaming.partners.registry import load_registry
from streaming.redrive.again import Terms
from streaming.redrive.pending import on_their_way
from streaming.redrive.send import Redrive
from streaming.redrive.state import OPEN, REDRIVEN
from streaming.topics import require_durable


@click.group()
def quarantine() -> None:
    """Records that break the contract: what there is, one of them whole, and sending them again."""


def with_selection(states: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that say which records are meant; with `states`, in which state."""
    options = [
        click.option("--rule", metavar="NAME", help="Records that break this rule."),
        click.option("--field", metavar="NAME", help="Records that break a rule (--rule) in this field."),
        click.option("--partner", "source", metavar="SOURCE", help="Sent by this partner (ce_source)."),
        click.option("--from", "since", type=Moment(), help="Records from this Kafka time on."),
        click.option("--to", "until", type=Moment(), help="Records before this Kafka time."),
    ]
    if states:
        options.append(click.option("--state", type=click.Choice([OPEN, REDRIVEN]), help="In this state."))

    def add(function: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


@quarantine.command("list")
@with_selection(states=True)
@click.option("--records", is_flag=True, help="List single records, the first that Kafka took first.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Records.")
@with_output
def list_(records: bool, limit: int, out: Output, **selected: Any) -> None:
    """Count records by rule, field, partner and state; or list them.

    \b
    paywave quarantine list --partner card-simulator --state open
    paywave quarantine list --state redriven --records        what became of each
    """
    settings = load_settings()
    selection, reader = Selection(**selected), _reader(settings)
    count = reader.count(selection)
    if records:
        asked = {**selected, "limit": limit}
        with recorded(settings, catalog_of(settings), "quarantine list", parameters=asked, announced=False):
            found = reader.records(selection, limit)
        value = {"count": count, "records": [record_as_json(record) for record in found]}
        out.result(value, lambda console: show_records(console, found, count))
        return
    groups = reader.groups(selection)
    value = {"count": count, "groups": [times_as_text(group._asdict()) for group in groups]}
    out.result(value, lambda console: show_groups(console, groups, count))


@quarantine.command()
@click.argument("coordinate", metavar="TOPIC_ID/PARTITION/OFFSET")
@with_output
def show(coordinate: str, out: Output) -> None:
    """Show one record whole: headers, violations, what became of it, its bytes without card numbers."""
    where = read_coordinates(coordinate)
    if where is None:
        raise click.UsageError(
            f"{coordinate!r} is no coordinate; write it as `quarantine list --records` does"
        )
    settings = load_settings()
    reader = _reader(settings)
    with recorded(settings, catalog_of(settings), "quarantine show", coordinate, announced=False):
        record = reader.record(where)
        raw = reader.raw([record]).get(where)
    value = record_as_json(record) | raw_as_json(raw)
    out.result(value, lambda console: show_record(console, value))


@quarantine.command()
@with_selection(states=False)
@click.option("--max", "most", type=click.IntRange(1), default=1000, show_default=True, help="Send so many.")
@click.option(
    "--attempts",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Leave out what was sent again so often already.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and why the rest would not.")
@with_output
def redrive(most: int, attempts: int, dry_run: bool, out: Output, **selected: Any) -> None:
    """Judge open records by the contract in force now, and send those that pass to Kafka once more.

    Each is a new record with the same key, bytes and headers, judged as of when it first came. The curated
    job marks the quarantined one `redriven`. Run twice, or killed on the way, it brings nothing twice.

    \b
    paywave quarantine redrive --rule age --partner card-simulator --dry-run
    """
    settings = load_settings()
    selection, reader = Selection(**selected), _reader(settings)
    start_telemetry()
    kafka, topic = settings.kafka_properties(), settings.kafka.topic
    if not settings.is_embedded:
        require_durable(kafka, topic)
    catalog = catalog_of(settings)
    consumed = read_head(catalog, QUARANTINE).offsets
    pending, profiles = on_their_way(kafka, topic, consumed), _profiles(settings)
    held = {hold.source or "" for hold in standing_holds(catalog)}
    terms = Terms(in_force(datetime.now(UTC)), attempts, pending, profiles, held)
    job = Redrive(reader, selection, terms, most)
    meant = job.count()
    with progress(out, "redriving", meant) as meter:

        def report(looked_at: int, sent: int) -> None:
            meter(looked_at, f"{looked_at:,} looked at, {sent:,} acknowledged")

        if dry_run:
            tally = job.try_out(report)
        else:
            asked = {**selected, "max": most, "attempts": attempts}
            with recorded(settings, catalog, "quarantine redrive", parameters=asked) as access:
                tally = job.run(kafka, topic, report)
                access.result = f"{tally.sending.acknowledged if tally.sending else 0:,} sent"
    out.result(tally_as_json(tally, meant), lambda console: show_tally(console, tally, meant))
    if tally.sending is not None and tally.sending.failed:
        sys.exit(1)


def _profiles(settings: Settings) -> dict[str, Profile]:
    partners = load_registry(registry_file(settings)).partners.values()
    return {p.source: find_profile(p.profile) for p in partners if p.profile is not None}


def _reader(settings: Settings) -> QuarantineReader:
    return QuarantineReader(catalog_of(settings), settings.catalog_properties())
