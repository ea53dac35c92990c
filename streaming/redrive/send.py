"""`quarantine redrive`: records of quarantine that pass the contract by now, sent to Kafka once more.

Belongs here: going over them, sending, adding up. Does not: deciding about one (`again.py`), writing to
quarantine, which the curated job does (`state.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import structlog
from opentelemetry import trace

from lakehouse.quarantine import QuarantineReader
from lakehouse.quarantined import Quarantined, Selection
from streaming.message import Message
from streaming.producer import SendReport, send
from streaming.redrive.again import PASSES, Decision, Terms, decide
from streaming.redrive.state import OPEN

PAGE = 5000  # each page costs a query over quarantine
OnProgress = Callable[[int, int], None]
"""Told how many records have been looked at, and how many Kafka has acknowledged."""
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


class Kind(NamedTuple):
    """Records of one partner that fare alike; `reasons` are the rules for which they were quarantined, and
    `rules` those that they still break."""

    outcome: str
    source: str
    reasons: tuple[str, ...]
    rules: tuple[str, ...]


@dataclass
class Tally:
    """What became of the records that were looked at, and what Kafka says of those that were sent."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    sending: SendReport | None = None

    def add(self, decision: Decision) -> None:
        """Count one record."""
        record = decision.record
        reasons = tuple(sorted({v.rule for v in record.violations}))
        self.kinds[Kind(decision.outcome, record.source, reasons, decision.rules)] += 1

    @property
    def looked_at(self) -> int:
        return self.kinds.total()

    @property
    def passing(self) -> int:
        """How many pass: were sent, or would be."""
        return sum(count for kind, count in self.kinds.items() if kind.outcome == PASSES)


class Redrive:
    """Goes over the open records of a selection, in the order in which Kafka took them."""

    def __init__(self, reader: QuarantineReader, selection: Selection, terms: Terms, most: int) -> None:
        """`most`: how many may be sent; those that are not sent do not count."""
        self._reader = reader
        self._selection = replace(selection, state=OPEN)
        self._terms = terms
        self._most = most

    def count(self) -> int:
        """Count the records that are to be looked at."""
        return self._reader.count(self._selection)

    def try_out(self, on_progress: OnProgress) -> Tally:
        """Say what would become of the records, and send nothing."""
        tally = Tally()
        for _ in self._passing(tally):
            on_progress(tally.looked_at, 0)
        return tally

    def run(self, kafka: Mapping[str, str], topic: str, on_progress: OnProgress) -> Tally:
        """Send those that pass, and wait for every acknowledgement.

        Killed on the way, or run twice, it brings nothing twice: what Kafka holds is not sent again, and what
        is sent by two at once is a redelivery.

        Raises:
            SendError: Kafka was lost on the way; it says how many records were acknowledged.
        """
        tally = Tally()
        with _tracer.start_as_current_span("redrive", attributes={"most": self._most}):
            tally.sending = send(
                self._passing(tally),
                topic,
                kafka,
                on_sent=lambda sent: on_progress(tally.looked_at, sent),
            )
        _log.info("redriven", sent=tally.sending.acknowledged, looked_at=tally.looked_at)
        return tally

    def _passing(self, tally: Tally) -> Iterator[Message]:
        for decision in self._decisions():
            if decision.messages and tally.passing >= self._most:
                return
            tally.add(decision)
            yield from decision.messages

    def _decisions(self) -> Iterator[Decision]:
        for page in self._pages():
            raw = self._reader.raw(page)
            for record in page:
                yield decide(record, raw.get(record.where), self._terms)

    def _pages(self) -> Iterator[list[Quarantined]]:
        """Page by page; rows that the curated job brings on meanwhile are not met again."""
        page = self._reader.records(self._selection, PAGE)
        while page:
            yield page
            page = self._reader.records(self._selection, PAGE, after=page[-1])
