"""Our own load generator: signed requests over plain sockets, paced or as fast as the answers come.

Belongs here: one run against one server, as a process of its own; prints one JSON object. Does not: starting
servers, comparing (`gateway.py`). Paced, a time counts from when the request was due, not from when it went.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from streaming.gateway.signature import signed_headers
from streaming.simulate import Plan, Simulation

_BODIES = 50
_SEED = 5


class Bodies:
    """Bodies of realistic events; white space tells two uses of one apart, since equal ones are a replay."""

    def __init__(self, batch: int) -> None:
        plan = Plan(_BODIES * batch, _SEED, datetime.now(UTC) - timedelta(hours=1), timedelta(hours=1))
        lines = list(Simulation(plan).lines())
        joined = (lines[n : n + batch] for n in range(0, len(lines), batch))
        self._bodies = [b"[" + b",".join(several) + b"]" if batch > 1 else several[0] for several in joined]
        self._used = 0

    def next(self) -> bytes:
        self._used += 1
        return self._bodies[self._used % _BODIES] + b" " * (self._used // _BODIES)


class Run:
    """One run: so many connections for so many seconds, at a rate or without."""

    def __init__(self, port: int, key: str, secret: bytes, batch: int, rate: float) -> None:
        self._port, self._key, self._secret = port, key, secret
        self._bodies, self._interval = Bodies(batch), 1 / rate if rate else 0.0
        self._due = self._end = self._counted_from = 0.0
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []

    async def run(self, connections: int, warm_s: float, seconds: float) -> None:
        """Warm up, then measure."""
        self._due = time.perf_counter()
        self._counted_from = self._due + warm_s
        self._end = self._counted_from + seconds
        await asyncio.gather(*(self._connection() for _ in range(connections)))

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while (started := await self._turn()) < self._end:
            body = self._bodies.next()
            writer.write(self._head(body) + body)
            status = await _status(reader)
            if started >= self._counted_from:
                self.statuses[status] += 1
                self.seconds.append(time.perf_counter() - started)
        writer.close()

    async def _turn(self) -> float:
        if not self._interval:
            return time.perf_counter()
        due, self._due = self._due, self._due + self._interval
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        return due

    def _head(self, body: bytes) -> bytes:
        headers = signed_headers(self._key, self._secret, body, time.time())
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        length = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        return f"POST /v1/events HTTP/1.1\r\nhost: bench\r\n{length}{lines}\r\n".encode()


async def _status(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head[9:12])


def main() -> None:
    """Run once and print what came of it."""
    parser = argparse.ArgumentParser(prog="bench.load")
    for name, kind in (
        ("port", int),
        ("batch", int),
        ("connections", int),
        ("rate", float),
        ("seconds", float),
    ):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--key", type=Path, required=True, help="file named after the key's id")
    given = parser.parse_args()
    run = Run(given.port, given.key.stem, given.key.read_bytes().strip(), given.batch, given.rate)
    asyncio.run(run.run(given.connections, 2.0, given.seconds))
    times, usage = sorted(run.seconds), resource.getrusage(resource.RUSAGE_SELF)
    result = {
        "requests": len(times),
        "failed": len(times) - run.statuses[202],
        "p50_ms": times[len(times) // 2] * 1000,
        "p99_ms": times[int(len(times) * 0.99)] * 1000,
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
