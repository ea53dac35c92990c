"""`paywave up | down | status | doctor`. Belongs here: options, looks. Does not: the servers (`local/`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click
from rich import filesize
from rich.console import Console
from rich.table import Table

from cli.output import Output, with_output
from config.settings import Settings, load_settings
from local.doctor import Check, attempt, examine
from local.stack import ServiceStatus
from local.stack import down as stop_stack
from local.stack import status as stack_status


@click.command()
@click.option("--brokers", type=click.Choice(["1", "3"]), help="Kafka brokers; fixed at the first start.")
@with_output
def up(brokers: str | None, out: Output) -> None:
    """Start Kafka, the S3 server and the REST catalog; create topic and tables. Twice is a no-op."""
    from cli.context import bring_up  # loads pyiceberg: not for `down` and `status`

    settings, endpoints = bring_up(load_settings(), out.log, int(brokers) if brokers else None)
    where: dict[str, Any] = asdict(endpoints) if endpoints else {"kafka": settings.kafka.bootstrap_servers}
    out.result({"home": str(settings.home), **where}, lambda console: _show_up(console, settings, where))


@click.command()
@with_output
def down(out: Output) -> None:
    """Stop the embedded stack. All data stays."""
    settings = _local()
    stopped = stop_stack(settings, report=lambda said: out.log.print(said, style="dim"))
    said = f"stopped {', '.join(stopped)}" if stopped else "nothing was running"
    out.result(
        {"stopped": stopped}, lambda console: console.print(f"{said}; the data stays in {settings.home}")
    )


@click.command()
@with_output
def status(out: Output) -> None:
    """Show each server: pid, port, memory, uptime, data size. Exit 1 unless all of them run."""
    services = stack_status(_local())
    ok = bool(services) and all(service.state == "running" for service in services)
    out.result(
        {"running": ok, "services": [{**asdict(service), "log": str(service.log)} for service in services]},
        lambda console: _show_status(console, services),
    )
    sys.exit(0 if ok else 1)


@click.command()
@with_output
def doctor(out: Output) -> None:
    """Check the machine and the stack; exit 1 if anything falls short."""
    checks = list(_all_checks(load_settings()))
    ok = all(check.ok for check in checks)
    out.result(
        {"ok": ok, "checks": [asdict(check) for check in checks]},
        lambda console: _show_checks(console, checks),
    )
    sys.exit(0 if ok else 1)


def _all_checks(settings: Settings) -> Iterator[Check]:
    found = list(examine(settings))
    yield from found
    if not all(check.ok for check in found):
        return  # what follows would only fail for the same reasons
    yield attempt("topic", lambda: _topic(settings))
    yield attempt("object store", lambda: _object_store(settings))
    yield attempt("tables", lambda: _tables(settings))


def _topic(settings: Settings) -> str:
    from cli.context import topic_of
    from streaming.errors import StreamingError
    from streaming.topics import check_topic

    differences = check_topic(settings.kafka_properties(), topic_of(settings), timeout_s=5)
    if differences:
        raise StreamingError(f"{settings.kafka.topic}: {'; '.join(differences)}", hint="run `paywave up`")
    return f"{settings.kafka.topic} is as it should be"


def _object_store(settings: Settings) -> str:
    from pyiceberg.io.pyarrow import PyArrowFileIO

    where = str(settings.need("catalog", "warehouse"))
    # A signed request: it fails with wrong keys even where an unsigned one would be answered.
    PyArrowFileIO(settings.catalog_properties()).new_input(f"{where}/.doctor").exists()
    return f"{where} at {settings.s3.endpoint or settings.s3.region} takes our keys"


def _tables(settings: Settings) -> str:
    from cli.context import catalog_of
    from lakehouse.definitions import TABLES
    from lakehouse.errors import LakehouseError

    catalog = catalog_of(settings)
    missing = [table.name for table in TABLES if not catalog.table_exists(table.name)]
    if missing:
        raise LakehouseError(f"missing: {', '.join(missing)}", hint="run `paywave up`")
    return f"{len(TABLES)} in the catalog at {settings.catalog.uri}"


def _local() -> Settings:
    settings = load_settings()
    if not settings.is_local:
        raise click.UsageError(
            f"the profile {settings.profile} has no embedded stack; set PAYWAVE_PROFILE=local"
        )
    return settings


def _show_up(console: Console, settings: Settings, where: dict[str, Any]) -> None:
    fresh = where.get("started")
    console.print("[green]up[/]" + ("" if fresh else " (it was already)") + f", data in {settings.home}")
    for name in ("kafka", "s3", "catalog"):
        console.print(f"  {name:<8} {where.get(name, '-')}")


def _show_status(console: Console, services: Sequence[ServiceStatus]) -> None:
    if not services:
        console.print("never started here; `paywave up` does")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("server", "state", "pid", "port", "memory", "uptime", "data"):
        table.add_column(column, justify="left" if column in ("server", "state") else "right")
    for service in services:
        colour = "green" if service.state == "running" else "red"
        table.add_row(
            service.name,
            f"[{colour}]{service.state}[/]",
            str(service.pid or "-"),
            str(service.port or "-"),
            _size(service.memory_bytes),
            _span(service.uptime_s),
            _size(service.data_bytes),
        )
    console.print(table)


def _show_checks(console: Console, checks: Sequence[Check]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("check", "", "finding", "what to do next"):
        table.add_column(column)
    for check in checks:
        mark = "[green]ok[/]" if check.ok else "[red]no[/]"
        table.add_row(check.name, mark, check.detail, "" if check.ok else check.hint)
    console.print(table)


def _size(size: int) -> str:
    return filesize.decimal(size) if size else "-"


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours} h " if hours else "") + (f"{minutes} min " if hours or minutes else "") + f"{rest} s"
