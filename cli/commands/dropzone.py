"""`paywave dropzone`: partners' files. Belongs here: composing its configuration. Does not: the dropzone."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from cli.commands.partners import registry_file
from cli.context import catalog_of, stop_on_signals
from cli.keys import keyring_of, token_keys_of
from cli.logs import start_logs
from cli.output import Output, with_output
from cli.telemetry import start_telemetry
from config.settings import Settings, load_settings
from lakehouse.file_ledger import FileLedger
from streaming.dropzone.book import Book
from streaming.dropzone.landing import Landing, open_landing
from streaming.dropzone.reader import Settings as ReaderSettings
from streaming.dropzone.watch import Dropzone
from streaming.errors import StreamingError
from streaming.partners.registry import Registry, load_registry
from streaming.topics import require_durable

_SHOWN = ("done", "rejected", "repeated", "waiting", "overdue", "held", "unreadable", "rows", "rejected_rows")


@click.command()
@click.option(
    "--landing", metavar="FOLDER", help="A folder, or s3://bucket/prefix [default: dropzone.landing]."
)
@click.option("--sftp", is_flag=True, help="Serve that folder over SFTP too (embedded stack).")
@click.option("--port", type=click.IntRange(1, 65535), help="SFTP listens here, not at dropzone.sftp_port.")
@click.option(
    "--once", is_flag=True, help="Look once, read what is complete, then end. 1 if a file is overdue."
)
@with_output
def dropzone(out: Output, landing: str | None, sftp: bool, port: int | None, once: bool) -> None:
    """Take in partners' files, each row once; a receipt per file goes back into the partner's folder.

    One folder per partner, named as in the registry. A file is read when a manifest, a checksum or a `.done`
    beside it says that it is complete, and it has not changed for `dropzone.quiet_s`. Ends at the next
    row on SIGTERM.
    """
    settings = load_settings()
    registry, where = load_registry(registry_file(settings)), _where(settings, landing)
    if sftp and where.startswith("s3://"):
        raise click.UsageError("--sftp serves a folder; for S3 it is AWS Transfer Family that does")
    if not settings.is_embedded:
        require_durable(settings.kafka_properties(), settings.kafka.topic)
    start_logs(logging.DEBUG if out.debug else logging.INFO)
    start_telemetry()
    zone = make_dropzone(settings, registry, open_landing(where, settings.catalog_properties()))
    zone.prepare()
    stop_on_signals(zone.stop)
    with ExitStack() as stack:
        at = _serve_sftp(stack, settings, registry, Path(where), port) if sftp else None
        if once:
            sys.exit(_show(out, zone.scan_once()))
        said = {"pid": os.getpid(), "landing": where, "sftp": at}
        out.result(said, lambda console: _say(console, where, at))
        sys.stdout.flush()
        zone.run(settings.dropzone.scan_s)


def make_dropzone(settings: Settings, registry: Registry, landing: Landing) -> Dropzone:
    """Put a dropzone together."""
    ours = settings.dropzone
    keys = token_keys_of(settings, [p for p in registry.partners.values() if p.files])
    reading = ReaderSettings(
        settings.kafka.topic,
        settings.kafka_properties(),
        keys,
        keyring_of(settings).cached_keys(),
        lease_s=ours.lease_s,
        delivery_s=ours.delivery_timeout_s,
        quiet_s=ours.quiet_s,
    )
    return Dropzone(landing, Book(FileLedger(catalog_of(settings))), registry, reading)


def _where(settings: Settings, landing: str | None) -> str:
    given = landing or settings.dropzone.landing
    if given is None and not settings.is_local:
        raise StreamingError("there is no landing folder", "set dropzone.landing, or give --landing")
    return given or str(settings.home / "landing")


def _serve_sftp(
    stack: ExitStack, settings: Settings, registry: Registry, landing: Path, port: int | None
) -> str:
    from streaming.dropzone.sftp import SftpServer, authorized_keys, made_key  # cryptography takes its time

    ours, made = settings.dropzone, settings.dev_keys
    host_key = ours.sftp_host_key or (made_key(made / "sftp-host") if made else None)
    if host_key is None:
        raise StreamingError("SFTP has no host key", "set dropzone.sftp_host_key")
    server = SftpServer(
        landing, authorized_keys(registry, made), host_key, ours.sftp_host, port or ours.sftp_port
    )
    server.start()
    stack.callback(server.stop)
    return f"{ours.sftp_host}:{server.port}"


def _show(out: Output, found: Counter[str]) -> int:
    value = {name: found[name] for name in _SHOWN}
    said = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in value.items() if count)
    out.result(value, lambda console: console.print(f"files: {said or 'nothing new'}", markup=False))
    return 1 if found["overdue"] or found["unreadable"] else 0


def _say(console: Console, where: str, at: str | None) -> None:
    console.print(f"watching {where}" + (f", SFTP at {at}" if at else ""), markup=False, soft_wrap=True)
