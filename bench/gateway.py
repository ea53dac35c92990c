"""`make bench-gateway`: what the gateway takes in from our own load and Locust's, beside a bare server.

Belongs here: what is compared, and the report. Does not: the load (`load.py`), the bare server.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.cpu import tree_seconds
from cli.context import topic_of
from config.settings import Settings, load_settings
from local.stack import down, find, up
from streaming.topics import ensure_topics

MOST_P99_MS = 250.0
_LEAST_SHARE = 0.9  # of the rate: Locust's users come as chance has it
_KEY_ID = "demo-bank-1"
_CONNECTIONS = 16
_LOCUST_WARM_S = 4.0


@dataclass(frozen=True)
class Load:
    """What is sent: events per request, and requests per second (0: as fast as the answers come)."""

    batch: int
    rate: int

    def __str__(self) -> str:
        pace = f"{self.rate}/s" if self.rate else "flat out"
        return f"{'single requests' if self.batch == 1 else f'batches of {self.batch}'}, {pace}"


# What the issue asks for, twice that, and as much as there is.
LOADS = (Load(100, 30), Load(100, 60), Load(100, 0), Load(1, 500), Load(1, 1000), Load(1, 0))
_ASKED = {Load(100, 30), Load(1, 500)}


@dataclass(frozen=True)
class Outcome:
    """What came of one run: counts, milliseconds, and CPU seconds of the server, of Kafka and of the load."""

    requests: int
    failed: int
    p50_ms: float
    p99_ms: float
    server_cpu_s: float
    kafka_cpu_s: float
    load_cpu_s: float
    seconds: float

    def row(self, name: str, load: Load) -> str:
        events = self.requests * load.batch
        return (
            f"| {name} | {load} | {events / self.seconds:,.0f} | {self.p50_ms:.0f} | {self.p99_ms:.0f} "
            f"| {events / self.server_cpu_s:,.0f} | {self.kafka_cpu_s / events * 1e5:.1f} "
            f"| {self.load_cpu_s / events * 1e5:.1f} | {self.failed} |"
        )


def main() -> int:
    """Run all of it; returns 1 where the gateway does less than the issue asks."""
    parser = argparse.ArgumentParser(prog="bench-gateway")
    parser.add_argument("--seconds", type=float, default=15, help="measured, per run")
    seconds = parser.parse_args().seconds
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {_machine()}; {_CONNECTIONS} connections, {seconds:g} s")
    print()
    print("| server, load by | load | events/s | P50 ms | P99 ms | events per CPU-s of the server ", end="")
    print(
        "| Kafka, CPU-s per 100,000 | load tool, the same | failed |\n|---|---|---|---|---|---|---|---|---|"
    )
    short = []
    with _stack() as (settings, broker):
        with _ours(settings) as server:
            for load in LOADS:
                for name, run in (("gateway, ours", _own_load), ("gateway, Locust", _locust)):
                    outcome = _measure(run, load, server, broker, settings, seconds)
                    print(outcome.row(name, load), flush=True)
                    short += _shortfall(outcome, load) if load in _ASKED else []
        with _bare(settings) as server:
            for load in LOADS:
                print(
                    _measure(_own_load, load, server, broker, settings, seconds).row("bare, ours", load),
                    flush=True,
                )
    print("\n".join(short))
    return 1 if short else 0


def _shortfall(outcome: Outcome, load: Load) -> list[str]:
    reached = outcome.requests / outcome.seconds
    is_short = outcome.failed or outcome.p99_ms > MOST_P99_MS or reached < load.rate * _LEAST_SHARE
    return (
        [f"{load}: {reached:.0f}/s, P99 {outcome.p99_ms:.0f} ms, {outcome.failed} failed"] if is_short else []
    )


@dataclass(frozen=True)
class Server:
    """A server under load."""

    pid: int
    port: int


def _measure(
    run: Any, load: Load, server: Server, broker: int, settings: Settings, seconds: float
) -> Outcome:
    before = tree_seconds(server.pid), tree_seconds(broker)
    found = run(load, server.port, settings, seconds)
    spent = tree_seconds(server.pid) - before[0], tree_seconds(broker) - before[1]
    # The load warms up for two seconds that are not counted: scale what was spent to what was.
    share = seconds / (seconds + found.pop("warm_s"))
    return Outcome(
        found["requests"], found["failed"], found["p50_ms"], found["p99_ms"],
        spent[0] * share, spent[1] * share, found["cpu_s"] * share, found["seconds"],
    )  # fmt: skip


def _own_load(load: Load, port: int, settings: Settings, seconds: float) -> dict[str, Any]:
    options = {
        "port": port,
        "batch": load.batch,
        "connections": _CONNECTIONS,
        "rate": load.rate,
        "seconds": seconds,
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "bench.load", *arguments, f"--key={_key(settings)}"]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return {**found, "seconds": seconds, "warm_s": 2.0}


def _locust(load: Load, port: int, settings: Settings, seconds: float) -> dict[str, Any]:
    before = os.times()
    # Paced, users are many, so that the time of an answer hardly lowers their rate.
    users = 64 if load.rate else _CONNECTIONS
    options = {
        "locustfile": "bench/locust_user.py", "host": f"http://127.0.0.1:{port}", "users": users,
        "spawn-rate": users, "run-time": f"{seconds + _LOCUST_WARM_S:.0f}s", "exit-code-on-error": 0,
        "loglevel": "ERROR",
    }  # fmt: skip
    arguments = [f"--{name}={value}" for name, value in options.items()]
    environment = {
        **os.environ, "BENCH_KEY": str(_key(settings)), "BENCH_BATCH": str(load.batch),
        "BENCH_RATE": str(load.rate), "BENCH_USERS": str(users), "BENCH_WARM": str(_LOCUST_WARM_S),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "locust", "--headless", "--json", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    (found,) = (entry for entry in json.loads(done.stdout) if entry["name"] == "measured")
    after, times = os.times(), _spread(found["response_times"])
    return {
        "requests": found["num_requests"],
        "failed": found["num_failures"],
        "seconds": found["last_request_timestamp"] - found["start_time"],
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[int(len(times) * 0.99)],
        "cpu_s": after.children_user + after.children_system - before.children_user - before.children_system,
        "warm_s": _LOCUST_WARM_S,
    }


def _spread(counts: dict[str, int]) -> list[float]:
    return sorted(float(ms) for ms, count in counts.items() for _ in range(count))


@contextmanager
def _stack() -> Iterator[tuple[Settings, int]]:
    """A stack of its own; yields its settings and the broker's process."""
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as folder:
        home = load_settings(home=folder)
        try:
            up(home)
            settings = load_settings(home=folder)
            ensure_topics(settings.kafka_properties(), topic_of(settings))
            broker = find(settings.home, "kafka-1")
            assert broker
            yield settings, broker.pid
        finally:
            down(home)


@contextmanager
def _ours(settings: Settings) -> Iterator[Server]:
    with _started([str(Path(sys.executable).with_name("paywave")), "gateway"], settings, "/readyz") as server:
        yield server


@contextmanager
def _bare(settings: Settings) -> Iterator[Server]:
    with _started([sys.executable, "-m", "bench.bare_server"], settings, "/") as server:
        yield server


@contextmanager
def _started(command: list[str], settings: Settings, path: str) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bare = {"topic": settings.kafka.topic, "bootstrap": settings.kafka.bootstrap_servers, "port": port}
    environment = {
        **os.environ, "PAYWAVE_HOME": str(settings.home), "PAYWAVE_GATEWAY__PORT": str(port),
        "BENCH_BARE": json.dumps(bare),
    }  # fmt: skip
    with (settings.home / "bench.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _await_answer(process, f"http://127.0.0.1:{port}{path}")
        yield Server(process.pid, port)
    finally:
        process.terminate()
        process.wait(30)


def _await_answer(process: subprocess.Popen[bytes], url: str) -> None:
    while process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  # an address of our own
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError("the server ended by itself")


def _key(settings: Settings) -> Path:
    assert settings.dev_keys
    return settings.dev_keys / f"{_KEY_ID}.key"


def _machine() -> str:
    load = f"load average {os.getloadavg()[0]:.1f} before"
    return f"{os.cpu_count()} cores, {load}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
