"""A stream of current events at a steady rate, until it is stopped.

Belongs here: that. Does not: what events look like (`streaming/simulate/`), how they are sent
(`streaming/producer.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count

from bench.background import Background
from bench.lake import SOURCE
from config.settings import Settings
from streaming.message import Message, message_of
from streaming.producer import SendReport, send
from streaming.simulate import PRESETS, Plan, Simulation

_HOUR = timedelta(hours=1)
_SECONDS_AT_ONCE = 60


class Sender(Background):
    """Sends events of the last hour in a thread of its own; a context manager."""

    def __init__(self, settings: Settings, rate: int, seed: int) -> None:
        super().__init__()
        self._settings = settings
        self._rate = rate
        self._seed = seed
        self.acknowledged = 0
        self._report: SendReport | None = None
        self._error: Exception | None = None

    def stop(self) -> SendReport:
        """Stop sending, wait for the acknowledgements, and say how it went."""
        self._end()
        if self._report is None:
            raise RuntimeError(f"the sender ended: {self._error}")
        return self._report

    def _run(self) -> None:
        try:
            self._report = send(
                self._messages(),
                self._settings.kafka.topic,
                self._settings.kafka_properties(),
                rate=self._rate,
                on_sent=self._note,
            )
        except Exception as error:
            self._error = error

    def _note(self, acknowledged: int) -> None:
        self.acknowledged = acknowledged

    def _messages(self) -> Iterator[Message]:
        for number in count(self._seed):
            start = datetime.now(UTC) - _HOUR
            plan = Plan(self._rate * _SECONDS_AT_ONCE, number, start, _HOUR, PRESETS["demo"])
            for line in Simulation(plan).lines():
                if self._stopping.is_set():
                    return
                yield message_of(line, SOURCE)
