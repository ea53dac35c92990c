"""The stream itself: exactly so many lines, in order of arrival, the same bytes for the same plan.

Belongs here: how journeys and dirt become one stream of lines, and the count of what they come to.
Does not: what is in them (`journeys.py`, `dirt.py`, `malformed.py`).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from streaming.errors import StreamingError
from streaming.simulate.dirt import Dirtier, later
from streaming.simulate.draft import MINUTE, SECOND, Draft, letters, to_micros
from streaming.simulate.journeys import LATE_TAIL, Journeys
from streaming.simulate.malformed import broken_line
from streaming.simulate.mix import Mix
from streaming.simulate.outcome import Outcome
from streaming.simulate.rhythm import Rhythm, default_start
from streaming.simulate.wording import reworded
from streaming.simulate.world import World

DEFAULT_SPAN = timedelta(hours=6)
LEAST_SPAN = timedelta(minutes=1)
REWORDED = 0.5  # of redeliveries; the others differ in ingest_ts only


@dataclass(frozen=True)
class Plan:
    """What to generate: `count` lines from `seed`, event times within `span` from `start` (aware).

    Every ingest time lies before `start + span + 24 h`. Raises StreamingError for a plan that cannot be met.
    """

    count: int
    seed: int
    start: datetime
    span: timedelta = DEFAULT_SPAN
    mix: Mix = field(default_factory=Mix)

    def __post_init__(self) -> None:
        if self.count < 0:
            raise StreamingError(f"count is {self.count}", hint="ask for 0 lines or more")
        if self.start.tzinfo is None:
            raise StreamingError("the start has no offset", hint="write it like 2026-11-20T00:00:00Z")
        if self.span < LEAST_SPAN:
            raise StreamingError(f"span is {self.span}", hint="a span of a minute or more is needed")
        try:
            self.start.astimezone(UTC) + self.span + timedelta(hours=25)  # the late tail
        except OverflowError:
            raise StreamingError("the window reaches outside the calendar", hint="move the start") from None

    @classmethod
    def recent(cls, count: int, seed: int, mix: Mix, span: timedelta = DEFAULT_SPAN) -> Plan:
        """Plan for a window that ended a full day before today's midnight (UTC)."""
        return cls(count, seed, default_start(span), span, mix)


class Simulation:
    """One stream. Iterate `lines()` once; `outcome` is complete when it is exhausted.

    Args:
        rng: what to draw from instead, where streams of different days are to differ in their times only.
    """

    def __init__(self, plan: Plan, rng: Random | None = None) -> None:
        self.plan = plan
        self.outcome = Outcome()
        start_us, span_us = to_micros(plan.start), plan.span // timedelta(microseconds=1)
        # The whole plan is the seed: from the number alone, another day or count would give the same event
        # ids other times, and an event's time never changes. Reproducible on purpose, protects nothing.
        whole = f"{plan.seed}/{plan.count}/{start_us}/{span_us}/{plan.mix}"
        self._rng = rng = rng or Random(whole)  # noqa: S311
        self._last_us = start_us + span_us + LATE_TAIL
        self._rhythm = Rhythm(start_us, span_us)
        self._journeys = Journeys(rng, World(rng, plan.count), start_us + span_us, plan.mix.late)
        self._dirtier = Dirtier(rng, plan.mix, start_us + span_us)
        self._pending: list[tuple[int, int, bytes]] = []
        self._written = 0

    def lines(self) -> Iterator[bytes]:
        """Yield exactly `plan.count` lines without line ends, by arrival.

        Only lines that are still on their way are held in memory.
        """
        while self._left:
            position = (self.outcome.records + self._rng.random()) / self.plan.count
            now = self._rhythm.at(position)
            while self._pending and self._pending[0][0] <= now:
                yield heapq.heappop(self._pending)[2]
            self._write_journey(now)
        while self._pending:
            yield heapq.heappop(self._pending)[2]

    @property
    def _left(self) -> int:
        return self.plan.count - self.outcome.records

    def _write_journey(self, now: int) -> None:
        for clean in self._journeys.next(now):
            while self._left and self._rng.random() < self.plan.mix.broken:
                self._write_broken(now)
            if not self._left:
                return
            self._write_event(clean)

    def _write_broken(self, now: int) -> None:
        self.outcome.quarantined += 1
        draft = self._journeys.next(now)[0]
        self._push(draft, broken_line(self._rng, draft))

    def _write_event(self, clean: Draft) -> None:
        if self.plan.mix.unknown_fields and self._rng.random() < self.plan.mix.unknown_fields:
            self._add_unknown(clean)
        effect = self._dirtier.soil(clean, room=self._left - 1)
        self.outcome.add_payment(clean, effect)
        for draft in (clean, *effect.drafts):
            self._push(draft, draft.line())
            self._redeliver(draft)

    def _redeliver(self, draft: Draft) -> None:
        while self.plan.mix.again and self._left and self._rng.random() < self.plan.mix.again:
            self.outcome.redelivered += 1
            copy = draft.variant(later(self._rng, draft.ingest_us, self._last_us))
            line = reworded(self._rng, copy) if self._rng.random() < REWORDED else copy.line()
            self._push(copy, line)

    def _push(self, draft: Draft, line: bytes) -> None:
        arrival = draft.ingest_us
        mix = self.plan.mix
        if mix.out_of_order and self._rng.random() < mix.out_of_order:
            arrival += int(self._rng.uniform(SECOND, 10 * MINUTE))
        self._written += 1  # breaks ties, so that equal arrivals keep the order of writing
        heapq.heappush(self._pending, (arrival, self._written, line))

    def _add_unknown(self, clean: Draft) -> None:
        rng = self._rng
        unknown = (
            ("loyalty_tier", rng.choice(("silver", "gold"))),
            ("schema_version", "4.0-beta"),
            ("terminal_battery", int(rng.random() * 100)),
            ("partner_extension", {"campaign": letters(rng, 8), "flags": ["a", "b"]}),
        )
        name, value = unknown[int(rng.random() * len(unknown))]
        clean.fields[name] = value
