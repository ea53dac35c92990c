"""`paywave events`: generate payment events, and send files of events to Kafka.

Belongs here: options, and how results look. Does not: generating (`streaming/simulate/`), sending
(`streaming/producer.py`).
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import click
from rich.console import Console

from cli.output import Output, with_output
from cli.params import Moment, Span
from cli.progress import Meter, progress
from streaming.errors import StreamingError
from streaming.simulate import PRESETS, Mix, Plan, Simulation, default_start

SHARES = {
    "duplicates": "Redeliveries: the same event_id again with a new ingest_ts, sometimes in other words.",
    "business_duplicates": "The same payment again under another event_id.",
    "late": "Lines ingested 10 minutes to 24 hours after they happened.",
    "out_of_order": "Lines that come up to 10 minutes after their turn.",
    "reversals": "REVERSED records: in place, by a notice, or under another event_id.",
    "corrections": "Revisions of an event with another amount.",
    "unknown_fields": "Events with a field that the contract does not know.",
    "malformed": "Lines that break the contract and end in quarantine.",
}
_OLDEST = timedelta(days=5)  # a longer default window would reach the contract's 7 days for AUTH


def share_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add one option per kind of dirt; None stands for what the preset says."""
    for name, text in reversed(SHARES.items()):
        flag = "--" + name.replace("_", "-")
        command = click.option(flag, type=float, default=None, metavar="SHARE", help=text)(command)
    return command


@click.group()
def events() -> None:
    """Generate payment events, and send files of events to Kafka."""


@events.command()
@click.option("--count", type=click.IntRange(min=0), required=True, help="Lines in total, dirt included.")
@click.option("--seed", type=int, help="The same seed gives the same bytes; chosen and shown if left out.")
@click.option("--expect", type=click.Path(dir_okay=False, path_type=Path), help="Write the outcome here.")
@click.option("--span", type=Span(), default="6h", show_default=True, help="Window of the event times.")
@click.option("--start", type=Moment(), help="Start of the window [default: it ends a day before midnight].")
@click.option("--preset", type=click.Choice(sorted(PRESETS)), default="clean", show_default=True)
@share_options
@with_output
def generate(
    out: Output,
    count: int,
    seed: int | None,
    expect: Path | None,
    span: timedelta,
    start: datetime | None,
    preset: str,
    **shares: float | None,
) -> None:
    """Write payment events to stdout, one JSON per line, in order of arrival.

    Shares (0 to 1, of all lines) say how dirty the stream is; --preset demo is a realistic mix. --expect
    writes the counts and sums that the tables must come to. Stdout holds nothing but the events, whatever
    --output says.
    """
    is_chosen = seed is None
    seed = secrets.randbelow(2**32) if seed is None else seed
    plan = _plan(count, seed, span, start, preset, shares)
    if expect and not expect.absolute().parent.is_dir():
        raise click.UsageError(f"--expect {expect}: no such folder {expect.parent}")
    if is_chosen:
        out.log.print(f"seed {seed}")
    if start is None and span > _OLDEST:
        out.log.print(f"note: events of a span over {_OLDEST.days} days may be too old for the contract")
    simulation = Simulation(plan)
    _write_lines(out, simulation)
    if expect:
        _write_expected(expect, simulation)


def _plan(
    count: int,
    seed: int,
    span: timedelta,
    start: datetime | None,
    preset: str,
    shares: dict[str, float | None],
) -> Plan:
    given = {name: share for name, share in shares.items() if share is not None}
    try:
        mix: Mix = replace(PRESETS[preset], **given)
        return Plan(count, seed, start or default_start(span), span, mix)
    except StreamingError as error:
        raise click.UsageError(f"{error}: {error.hint}") from None
    except OverflowError:
        raise click.UsageError(f"--span {span} reaches outside the calendar") from None


def _write_lines(out: Output, simulation: Simulation) -> None:
    stdout = sys.stdout.buffer
    count = simulation.plan.count
    try:
        with _quiet_on_terminal(out, count) as meter:
            for number, line in enumerate(simulation.lines(), start=1):
                stdout.write(line + b"\n")
                if number % 1000 == 0:
                    meter(number, f"{number:,} of {count:,} lines")
            stdout.flush()
    except BrokenPipeError:  # the reader has had enough, as `head` does; nothing more can be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        sys.exit(0)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        raise StreamingError(
            f"cannot write the events: {error.strerror}", "make room, or write them elsewhere"
        ) from None


@contextmanager
def _quiet_on_terminal(out: Output, count: int) -> Iterator[Meter]:
    """Show progress unless the events themselves go to the terminal."""
    if sys.stdout.isatty():
        yield lambda _done, note="": None  # noqa: ARG005  # the name is the protocol's
    else:
        with progress(out, "generating", count) as meter:
            yield meter


def _write_expected(path: Path, simulation: Simulation) -> None:
    text = json.dumps(simulation.outcome.as_dict(), indent=2) + "\n"
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise StreamingError(
            f"cannot write the expected outcome to {path}: {error.strerror}",
            "generate again with the same seed and another --expect",
        ) from None


@events.command()
@click.argument("file")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Events per second at most.")
@click.option("--source", help="Who sends them (header ce_source) [default: the profile's, or paywave-cli].")
@click.option("--profile", help="Partner profile of a CSV file, by name or .toml file [default: recognised].")
@click.option("--allow-card-numbers", is_flag=True, help="Send lines that hold a card number in clear too.")
@with_output
def send(
    out: Output,
    file: str,
    rate: float | None,
    source: str | None,
    profile: str | None,
    allow_card_numbers: bool,
) -> None:
    """Send FILE (JSONL, or CSV of a partner; - for standard input) to Kafka.

    The bytes of each line go out unchanged, broken ones too. Sending the same file again changes nothing.
    A line that holds a card number in clear is not sent: it is counted and named by its number; exit 1.
    """
    from cli.telemetry import start_telemetry
    from config.settings import load_settings
    from streaming.event_file import open_event_file, standard_input
    from streaming.producer import send as send_messages
    from streaming.topics import require_durable

    settings = load_settings()
    start_telemetry()
    if not settings.is_embedded:
        require_durable(settings.kafka_properties(), settings.kafka.topic)
    opened = (
        standard_input(_stdin(), profile=profile, source=source, allow_card_numbers=allow_card_numbers)
        if file == "-"
        else open_event_file(
            Path(file), profile=profile, source=source, allow_card_numbers=allow_card_numbers
        )
    )
    with opened as events_file, progress(out, "sending", events_file.size) as meter:
        report = send_messages(
            events_file.messages(),
            settings.kafka.topic,
            settings.kafka_properties(),
            rate=rate,
            on_sent=lambda sent: meter(events_file.bytes_read, f"{sent:,} acknowledged"),
        )
    result = {
        "sent": report.acknowledged,
        "failed": report.failed,
        "refused": events_file.refused.count,
        "refused_lines": events_file.refused.lines,
        "seconds": round(report.seconds, 3),
        "file": file,
        "format": events_file.format,
        "profile": events_file.profile.name if events_file.profile else None,
    }
    out.result(result, lambda console: _show_sent(console, result, report.first_failure))
    if report.failed and out.as_json:
        out.log.print(f"{report.failed:,} refused: {report.first_failure}", markup=False)
    if events_file.refused.count:
        out.log.print(f"{events_file.refused}; `--allow-card-numbers` sends them", markup=False)
    if report.failed or events_file.refused.count:
        sys.exit(1)


def _stdin() -> BinaryIO:
    return sys.stdin.buffer


def _show_sent(console: Console, result: dict[str, Any], failure: str | None) -> None:
    through = f" through profile {result['profile']}" if result["profile"] else ""
    pace = result["sent"] / max(result["seconds"], 0.001)
    console.print(
        f"sent {result['sent']:,} events of {result['file']} ({result['format']}{through}) "
        f"in {result['seconds']:.1f} s, {pace:,.0f}/s",
        markup=False,
        soft_wrap=True,
    )
    if failure:
        console.print(f"{result['failed']:,} refused, the first one: {failure}", markup=False, soft_wrap=True)
