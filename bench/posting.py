"""Events that are made at the moment they are sent, through the gateway, at a steady rate.

Belongs here: that. Does not: what events look like (`streaming/simulate/`), how fast a gateway is
(`load.py`).
"""

from __future__ import annotations

import http.client
import json
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Self

from bench.background import Background
from config.settings import Settings
from streaming.gateway.signature import signed_headers
from streaming.simulate import Plan, Simulation

_KEY_ID = "demo-bank-1"
_PER_SECOND = 5  # requests
_SEED = 8
_READY_SECONDS = 60.0


class Requests(Background):
    """Sends from a thread of its own; a context manager. `refused` counts requests that were not taken."""

    def __init__(self, settings: Settings, port: int, rate: int) -> None:
        super().__init__()
        assert settings.dev_keys
        self._secret = (settings.dev_keys / f"{_KEY_ID}.key").read_bytes().strip()
        self._port, self._batch = port, max(1, rate // _PER_SECOND)
        self.refused, self.last = 0, ""

    def _run(self) -> None:
        due, events = time.monotonic(), _events()
        while not self._stopping.is_set():
            body = json.dumps([_now(next(events)) for _ in range(self._batch)]).encode()
            try:
                self._post(body)
            except OSError as error:
                self.refused, self.last = self.refused + 1, str(error)
            due += 1 / _PER_SECOND
            self._stopping.wait(max(0.0, due - time.monotonic()))

    def _post(self, body: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        headers = signed_headers(_KEY_ID, self._secret, body, time.time())
        connection.request("POST", "/v1/events", body, {**headers, "content-type": "application/json"})
        answer = connection.getresponse()
        if answer.status != http.client.ACCEPTED:
            self.refused, self.last = self.refused + 1, answer.read()[:300].decode(errors="replace")
        connection.close()

    def __enter__(self) -> Self:
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == http.client.OK:
                    break
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)
        return super().__enter__()


def _events() -> Iterator[dict[str, object]]:
    """Realistic events without dirt, for ever."""
    for seed in count(_SEED):
        plan = Plan(1000, seed, datetime.now(UTC) - timedelta(hours=1), timedelta(hours=1))
        for line in Simulation(plan).lines():
            yield json.loads(line)


def _now(event: dict[str, object]) -> dict[str, object]:
    """The same event, as one that happens now."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return {**event, "event_id": str(uuid.uuid4()), "event_ts": now, "ingest_ts": now}
