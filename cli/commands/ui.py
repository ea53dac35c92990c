"""`paywave ui`: Dagster's pages and daemon.

Belongs here: options and looks. Does not: the servers (`assets/servers.py`).
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from assets.instance import environment, write_instance
from assets.servers import Servers
from cli.context import bring_up, stop_on_signals
from cli.logs import start_logs
from cli.output import Output, with_output
from config.settings import load_settings
from local.errors import ServiceFailed
from local.ports import can_bind, free_port


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Serve the pages here, not at conductor.port.")
@with_output
def ui(out: Output, port: int | None) -> None:
    """Serve Dagster's pages and run its schedules, sensors and backfills until interrupted.

    On a laptop the embedded stack is started too. Runs and events are kept in the home folder; one such
    command per home. To be killed loses nothing: what runs are to do is launched again.
    """
    settings = load_settings()
    if settings.is_local:
        settings, _ = bring_up(settings, out.log)
    start_logs(logging.INFO)
    folder = write_instance(settings)
    with _alone(folder):
        servers = Servers(
            settings.conductor.host,
            port or _free(settings.conductor.port),
            free_port(),
            environment(settings, folder),
            settings.home / "logs",
        )
        stop_on_signals(servers.stop)
        servers.start()
        value = {"url": servers.url, "home": str(folder), "pids": servers.pids()}
        out.result(value, lambda console: console.print(f"Dagster at {servers.url}; Ctrl-C ends it"))
        servers.watch()


def _free(wished: int) -> int:
    return wished if can_bind(wished) else free_port()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder: two daemons would launch everything twice."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ServiceFailed(
                f"another `paywave ui` serves {folder}", "use its pages, or end it first"
            ) from None
        yield
