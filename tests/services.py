"""The jobs as services, as processes that are killed and started again while events arrive.

Belongs here: driving them. Does not: when what is killed, and what must hold then (`faults/`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from lakehouse.refs import read_head
from streaming.message import message_of
from streaming.producer import send
from tests.commands import Running
from tests.pipeline import Pipeline

TRICKLE_SECONDS = 6.0
PATIENCE_SECONDS = 120.0


class Services:
    """Both jobs as services that can be killed and started again; `end` leaves nothing of them behind."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self._pipeline = pipeline
        self._folder = folder
        self.running: dict[str, Running] = {}

    def start(self, *names: str) -> None:
        for name in names:
            self.running[name] = Running(
                "stream",
                name,
                "--output",
                "json",
                folder=self._folder,
                environment=self._pipeline.environment(),
            )

    def kill(self, *names: str) -> None:
        for name in names:
            self.running[name].kill()

    def end(self) -> None:
        for job in self.running.values():
            job.end()

    def wait_until(self, what: Callable[[], bool]) -> None:
        """Wait for something that the jobs must bring about; they must not end meanwhile."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not what():
            for name, job in self.running.items():
                assert job.is_alive, f"{name} ended: {job.said}"
                assert time.monotonic() < deadline, f"{name} came to nothing: {job.said}"
            time.sleep(0.1)


def trickle(pipeline: Pipeline, lines: list[bytes]) -> int:
    """Send half at once and the rest over some seconds; returns what was acknowledged."""
    kafka, half = pipeline.settings.kafka_properties(), len(lines) // 2
    messages = [message_of(line, "bank") for line in lines]
    first = send(messages[:half], pipeline.topic, kafka)
    rest = send(messages[half:], pipeline.topic, kafka, rate=(len(lines) - half) / TRICKLE_SECONDS)
    return first.acknowledged + rest.acknowledged


def consumed(pipeline: Pipeline, table: str) -> int:
    return read_head(pipeline.catalog, table).progress.totals.get("records", 0)
