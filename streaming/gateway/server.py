"""Serves the gateway: Granian, with one worker.

Belongs here: the server's settings and its end. Does not: the application (`app.py`). One worker, because
rates, replay protection and rising ingest times are a process's own: more capacity is more gateways.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.mp import MPServer

from streaming.errors import StreamingError

_CONNECTIONS = 4096
_BACKLOG = 1024
_WATCH_S = 0.5


@dataclass(frozen=True)
class Listener:
    """Where the gateway listens. A connection is closed that brings no complete head for `idle_timeout_s`.

    With `client_ca`, callers must show a certificate of that authority."""

    host: str
    port: int
    idle_timeout_s: float
    drain_s: float
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None


def serve(make_app: Callable[[], Any], listener: Listener) -> None:
    """Serve until SIGTERM or SIGINT; then take no more, answer what was taken, and return.

    Args:
        make_app: makes the ASGI application in the worker's process; it must be picklable.
        listener: where to listen.

    Raises:
        StreamingError: certificate and key do not come together.
    """
    if (listener.certificate is None) != (listener.key is None) or (
        listener.client_ca is not None and listener.certificate is None
    ):
        raise StreamingError(
            "TLS needs gateway.tls_certificate and gateway.tls_key together", "set both, or neither"
        )
    _server(listener).serve(target_loader=partial(_guarded, make_app, os.getpid()), wrap_loader=False)


def _server(listener: Listener) -> MPServer:
    # HTTP/1 only: one request at a time per connection keeps what a sender can hold small.
    return MPServer(
        "streaming.gateway.server",
        address=listener.host,
        port=listener.port,
        interface=Interfaces.ASGI,
        workers=1,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(listener.idle_timeout_s * 1000), max_buffer_size=64 * 1024
        ),
        websockets=False,
        backlog=_BACKLOG,
        backpressure=_CONNECTIONS,
        log_enabled=False,
        workers_kill_timeout=int(listener.drain_s) + 5,
        ssl_cert=listener.certificate,
        ssl_key=listener.key,
        ssl_ca=listener.client_ca,
        ssl_client_verify=listener.client_ca is not None,
    )


def _guarded(make_app: Callable[[], Any], supervisor: int) -> Any:
    """Make the application, and end with it if the process that watches over this one is killed."""
    app = make_app()

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            watch = asyncio.create_task(_end_with(supervisor))
            try:
                await app(scope, receive, send)
            finally:
                watch.cancel()
        else:
            await app(scope, receive, send)

    return guarded


async def _end_with(supervisor: int) -> None:
    while os.getppid() == supervisor:
        await asyncio.sleep(_WATCH_S)
    os.kill(os.getpid(), signal.SIGTERM)
