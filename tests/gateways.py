"""The gateway as a process, and a small signing client.

Belongs here: starting, asking, ending. Does not: what is asserted of the answers.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streaming.gateway.signature import signed_headers
from tests.commands import Running

REGISTRY = """
[partners.bank]
source = "bank"
description = "a bank"
contacts = ["a@bank.example"]
rate = 1_000_000
burst = 1_000_000
card_numbers = "refuse"
keys = [
  { id = "bank-1", secret = { dev = true } },
  { id = "bank-2", secret = { dev = true } },
  { id = "bank-0", secret = { dev = true }, not_after = 2020-01-01T00:00:00Z },
]

[partners.shop]
source = "shop"
description = "a shop"
contacts = ["a@shop.example"]
rate = 1_000_000
burst = 1_000_000
card_numbers = "tokenise"
keys = [{ id = "shop-1", secret = { dev = true } }]

[partners.slow]
source = "slow"
description = "may send one event in a thousand seconds"
contacts = ["a@slow.example"]
rate = 0.001
burst = 2
card_numbers = "refuse"
keys = [{ id = "slow-1", secret = { dev = true } }]

[partners.gone]
source = "gone"
description = "may not send any more"
contacts = ["a@gone.example"]
rate = 1
burst = 1
card_numbers = "refuse"
active = false
keys = [{ id = "gone-1", secret = { dev = true } }]
"""
_STARTED_S = 60


@dataclass(frozen=True)
class Told:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Signs and posts; a connection per thread is kept open."""

    def __init__(self, port: int, secrets: Mapping[str, bytes], tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self._tls = tls
        self.secrets = secrets
        self._local = threading.local()

    def post(
        self, body: bytes, *, key: str = "bank-1", kind: str = "application/json", at: float = 0, **more: str
    ) -> Told:
        """Post signed events; `at` is seconds from now, `more` are further headers."""
        headers = signed_headers(key, self.secrets[key], body, time.time() + at)
        extra = {name.replace("_", "-"): value for name, value in more.items()}
        return self.ask("POST", "/v1/events", body, {**headers, "content-type": kind, **extra})

    def get(self, path: str) -> Told:
        return self.ask("GET", path, None, {})

    def ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Told:
        connection = self._connection()
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Told(answer.status, found, answer.read())
        except BaseException:
            self._local.connection = None
            connection.close()
            raise

    def _connection(self) -> http.client.HTTPConnection:
        if getattr(self._local, "connection", None) is None:
            self._local.connection = (
                http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=self._tls)
                if self._tls
                else http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            )
        connection: http.client.HTTPConnection = self._local.connection
        return connection


class GatewayProcess:
    """`paywave gateway` on a free port, with a registry of partners for tests and keys of its own."""

    def __init__(
        self,
        folder: Path,
        kafka: Mapping[str, str],
        *,
        until: str = "/readyz",
        tls: ssl.SSLContext | None = None,
        **settings: str,
    ) -> None:
        self.folder = folder
        self._tls = tls
        (folder / "registry.toml").write_text(settings.pop("registry", REGISTRY))
        self.port = _free_port()
        self._environment = {
            **os.environ,
            "PAYWAVE_HOME": str(folder),
            "PAYWAVE_KAFKA__BOOTSTRAP_SERVERS": kafka["bootstrap.servers"],
            "PAYWAVE_PARTNERS__REGISTRY": str(folder / "registry.toml"),
            **{f"PAYWAVE_{name.upper()}": value for name, value in settings.items()},
        }
        self.start(until)

    def start(self, until: str = "/readyz") -> None:
        """Start the process, again if it was killed, and wait until it answers 200 at a path."""
        arguments = ("gateway", "--port", str(self.port))
        self.process = Running(*arguments, folder=self.folder, environment=self._environment)
        deadline = time.monotonic() + _STARTED_S
        while not self._answers(until):
            assert self.process.is_alive, self.process.said
            assert time.monotonic() < deadline, self.process.said
            time.sleep(0.05)
        self.client = self.new_client()

    def new_client(self) -> Client:
        keys = (self.folder / "run" / "keys").glob("*.key")
        return Client(self.port, {path.stem: path.read_bytes().strip() for path in keys}, self._tls)

    def memory_bytes(self) -> int:
        return self.process.memory_bytes()

    def end(self) -> None:
        self.process.end()

    def _answers(self, path: str) -> bool:
        try:
            return Client(self.port, {}, self._tls).get(path).status == 200
        except (OSError, http.client.HTTPException):
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
