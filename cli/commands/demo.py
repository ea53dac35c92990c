"""`paywave demo`: the main job from end to end, on real servers, checked and summed up.

Belongs here: the order of the steps and how the summary looks. Does not: any step.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
from pyiceberg.catalog.rest import RestCatalog
from rich.console import Console
from rich.table import Table

from cli.commands.partners import registry_file
from cli.commands.stream import curated_settings, raw_settings
from cli.context import bring_up, catalog_of, spark_of
from cli.output import Output, with_output
from cli.telemetry import start_telemetry
from config.settings import Settings, load_settings
from lakehouse.conservation import Stock, take_stock
from lakehouse.offsets import OffsetVector
from lakehouse.refs import read_head
from streaming.curated_job import CURATED_TABLES, CuratedJob
from streaming.event_file import open_event_file
from streaming.message import message_of
from streaming.partners.registry import load_registry
from streaming.producer import send
from streaming.raw_job import RawJob
from streaming.simulate import PRESETS, Plan, Simulation
from streaming.topic_state import inspect_topic

_EVENTS = 20_000
_COMPARED = ("redelivered", "versions", "superseded", "events", "duplicates", "payments", "quarantined")
_MEANING = {
    "raw": "records, bytes as received",
    "redelivered": "copies of a version that was there",
    "versions": "distinct contents of events",
    "superseded": "versions that another one of their event replaced",
    "events": "distinct events",
    "duplicates": "events that are a payment another event already was",
    "payments": "what counts, once",
    "quarantined": "records that break the contract, with every reason",
}
_NEXT = (
    'paywave query "SELECT event_type, currency, count(*), sum(amount) FROM curated.payments GROUP BY ALL"',
    'paywave query "SELECT status, count(*), sum(net) FROM curated.transactions_now GROUP BY ALL"',
    'paywave query "SELECT unnest(violations).rule, count(*) FROM quarantine.payment_events GROUP BY 1"',
    "paywave replay verify --all     fold everything again from raw, and compare",
    "paywave demo            run it again: the tables go on from where they are",
    "paywave demo --front-door      through the HTTP gateway and the SFTP dropzone",
    "paywave status          the servers; `paywave down` stops them and keeps the data",
)


@click.command()
@click.option(
    "--input", "file", type=click.Path(), help="JSONL or partner CSV; without it, events are generated."
)
@click.option("--events", type=click.IntRange(min=1), default=_EVENTS, show_default=True, help="How many.")
@click.option("--seed", type=int, help="Seed of the generator [default: a new one each run].")
@click.option(
    "--front-door", is_flag=True, help="Send them over HTTP to the gateway, and a partner's file over SFTP."
)
@with_output
def demo(file: str | None, events: int, seed: int | None, front_door: bool, out: Output) -> None:
    """Bring the stack up, send events, run raw and curated, read back, check, sum up."""
    if file and front_door:
        raise click.UsageError("--front-door makes its own events and file; leave --input away")
    started = time.monotonic()
    start_telemetry()
    settings, _ = bring_up(load_settings(), out.log)
    catalog, properties = catalog_of(settings), settings.catalog_properties()
    before, waiting = take_stock(catalog, properties), _waiting(catalog, settings)
    with ThreadPoolExecutor(1) as pool:
        session = pool.submit(spark_of, settings, "demo")  # takes a while: meanwhile, send
        sent, outcome = _send(settings, out, file, events, seed, front_door)
        with _step(out, "starting Spark"):
            spark = session.result()
    try:
        with _step(out, "raw: Kafka to Iceberg"):
            RawJob(catalog, spark, raw_settings(settings)).run(once=True)
        with _step(out, "curated: versions, payments, quarantine"):
            CuratedJob(catalog, spark, curated_settings(settings)).run(once=True)
        with _step(out, "reading back with DuckDB and pyiceberg"):
            after = take_stock(catalog, properties)
    finally:
        spark.stop()
    # A seed given again is sent again, and records that waited count too: then nothing is known beforehand.
    is_known = waiting == 0 and (seed is None or before.raw == 0)
    expected = outcome if is_known else None
    differences = _differences(before, after, expected) if expected else []
    value = {"sent": sent, **after.as_json(), "seconds": round(time.monotonic() - started, 1)}
    if expected:
        value |= {"expected": expected, "as_expected": not differences}
    out.result(value, lambda console: _print(console, sent, after, value, differences))
    if differences or not after.conserved:
        sys.exit(1)


def _waiting(catalog: RestCatalog, settings: Settings) -> int:
    """Count the records of an earlier, interrupted run: in Kafka and not yet folded."""
    state = inspect_topic(settings.kafka_properties(), settings.kafka.topic)
    latest = OffsetVector({state.topic_id: state.latest})
    return max(read_head(catalog, table).offsets.records_to(latest) for table in CURATED_TABLES)


def _send(
    settings: Settings, out: Output, file: str | None, events: int, seed: int | None, front_door: bool
) -> tuple[int, dict[str, Any] | None]:
    """Send the file, or generated events; returns what Kafka acknowledged, and what must come of it."""
    to = settings.kafka.topic, settings.kafka_properties()
    if file is not None:
        with _step(out, f"sending {file}"), open_event_file(Path(file)) as opened:
            sent = send(opened.messages(), *to).acknowledged
        if opened.refused.count:
            out.log.print(f"         {opened.refused}", markup=False)
        return sent, None
    seed = secrets.randbits(32) if seed is None else seed
    if front_door:
        return _send_through_the_door(settings, out, events, seed)
    simulation = Simulation(Plan.recent(events, seed, PRESETS["demo"]))
    with _step(out, f"sending {events:,} generated events (seed {seed})"):
        messages = (message_of(line, source="demo") for line in simulation.lines())
        return send(messages, *to).acknowledged, simulation.outcome.as_dict()


def _send_through_the_door(
    settings: Settings, out: Output, events: int, seed: int
) -> tuple[int, dict[str, Any]]:
    """Let one partner post events, and another upload a file: cut off at first, then whole, then again."""
    from cli import front_door  # SSH and the gateway take their time to load

    began = _written(settings)
    # What breaks the contract, the gateway refuses; the file brings some of that.
    simulation = Simulation(Plan.recent(events, seed, replace(PRESETS["demo"], malformed=0.0)))
    with _step(out, "starting the gateway"), front_door.running_gateway(settings) as port:
        with _step(out, f"posting {events:,} generated events (seed {seed})"):
            posted = front_door.post(settings, port, simulation.lines())
        with _step(out, "posting what breaks the contract"):
            refused = front_door.post(settings, port, [b"{}", b'{"event_id": 1}', b"no JSON"])
    out.log.print(f"         gateway: {posted['accepted']:,} accepted, {refused['rejected']} refused")
    file = front_door.partner_file()
    with _step(out, f"uploading {file.name} over SFTP: cut off, whole, again"):
        looks = front_door.upload(settings, load_registry(registry_file(settings)), file)
    said = ["; ".join(f"{name} {count}" for name, count in sorted(look.items())) for look in looks]
    out.log.print(f"         dropzone: {' | '.join(said)}", markup=False)
    expected = simulation.outcome.as_dict()
    for name, count in file.expected.items():
        expected[name] = str(Decimal(expected[name]) + count) if name == "amount" else expected[name] + count
    return _written(settings) - began, expected


def _written(settings: Settings) -> int:
    """Count the records that the topic ever took."""
    return sum(inspect_topic(settings.kafka_properties(), settings.kafka.topic).latest.values())


@contextmanager
def _step(out: Output, name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    out.log.print(f"{time.monotonic() - started:6.1f} s  {name}", markup=False)


def _differences(before: Stock, after: Stock, expected: dict[str, Any]) -> list[str]:
    """Compare what this run added with what the generator says it must add."""
    found = []
    for name in _COMPARED:
        added = getattr(after, name) - getattr(before, name)
        if added != expected[name]:
            found.append(f"{name}: {added} added, {expected[name]} expected")
    amount = after.readers["duckdb"].amount - before.readers["duckdb"].amount
    if amount != type(amount)(expected["amount"]):
        found.append(f"amount: {amount} added, {expected['amount']} expected")
    return found


def _print(console: Console, sent: int, stock: Stock, value: dict[str, Any], differences: list[str]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right", style="bold")
    table.add_column()
    table.add_column(style="dim")
    table.add_row(f"{sent:,}", "sent", "events acknowledged by Kafka in this run")
    for name, meaning in _MEANING.items():
        table.add_row(f"{getattr(stock, name):,}", name, meaning)
    console.print()
    console.print(table)
    console.print()
    for name, reading in stock.readers.items():
        console.print(f"{name:>10} reads {reading.payments:,} payments, {reading.amount:,} not reversed")
    console.print()
    console.print(_verdict("the books balance: nothing lost, nothing twice", stock.breaks))
    if "expected" in value:
        console.print(_verdict("every count and sum is what the generator expected", differences))
    console.print(f"\n{value['seconds']} s. Try next:")
    for line in _NEXT:
        console.print(f"  {line}", markup=False, soft_wrap=True)


def _verdict(good: str, faults: tuple[str, ...] | list[str]) -> str:
    if not faults:
        return f"[green]✓[/green] {good}"
    return "[red]✗[/red] " + "\n  ".join(["it does not add up:", *faults])
