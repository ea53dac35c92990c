"""The gates of one job that runs on: what its window in memory may and may not say."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from lakehouse.gate_log import Choose
from lakehouse.gates import HELD, HOLD_ENDED, GateEvent, GateState, overriding
from lakehouse.offsets import OffsetVector
from quality.policy import SLICE_SURGE
from quality.surge import Tally
from streaming import gates
from streaming.gates import Gates

BANK = Tally(400, 0)


class Log:
    """The gate log in memory."""

    def __init__(self) -> None:
        self.events: list[GateEvent] = []

    def state(self) -> GateState:
        return GateState.of(self.events)

    def append(self, _: object, choose: Choose) -> None:
        self.events += [
            replace(event, seq=len(self.events) + nth)
            for nth, event in enumerate(choose(self.state()), start=1)
        ]


class Job:
    """The gates as the curated job asks them, batch by batch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log, self.at = Log(), 0
        nothing: Any = None
        monkeypatch.setattr(gates, "GateLog", lambda _: self.log)
        monkeypatch.setattr(gates, "read_head", lambda *_: SimpleNamespace(offsets=vector(self.at)))
        self.gates = Gates(nothing, nothing, "curated")

    def batch(self, shop: Tally) -> bool:
        """Bring on a batch; returns whether the shop is held in it."""
        tally = {"shop": shop, "bank": BANK}
        start, end = vector(self.at), vector(self.at + shop.records + BANK.records)
        self.gates.look()
        self.gates.heed_overrides(start)
        self.gates.decide(start, end, tally, list)
        is_held = bool(self.gates.holds_between(start, end))
        self.at = end.topics["t"][0]
        self.gates.passed(start, tally)
        return is_held

    def override(self, until: int) -> None:
        event = overriding(self.log.state(), SLICE_SURGE, "shop", "they mended it", "ann", vector(until))
        self.log.append(None, lambda _: [event])


def vector(offset: int) -> OffsetVector:
    return OffsetVector({"t": {0: offset}})


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    return Job(monkeypatch)


def test_an_override_ends_a_hold_though_the_records_before_it_were_broken(job: Job) -> None:
    assert job.batch(Tally(400, 400)) and job.batch(Tally(300, 300))
    job.override(job.at)
    assert [job.batch(Tally(60, 0)) for _ in range(5)] == [False] * 5
    assert [event.event for event in job.log.events if event.event in (HELD, HOLD_ENDED)] == [
        HELD,
        HOLD_ENDED,
    ]


def test_what_an_override_let_pass_says_nothing_about_later_records(job: Job) -> None:
    assert job.batch(Tally(400, 400))
    job.override(job.at + 700)
    assert not job.batch(Tally(300, 300))
    assert not job.batch(Tally(60, 0))


def test_a_held_partner_of_little_traffic_is_let_go_once_enough_of_it_is_good(job: Job) -> None:
    assert job.batch(Tally(1000, 600))
    held = [job.batch(Tally(1, 0)) for _ in range(250)]
    assert held == [True] * 199 + [False] * 51


def test_a_held_partner_of_little_traffic_stays_held_while_it_is_broken(job: Job) -> None:
    assert job.batch(Tally(1000, 600))
    assert all(job.batch(Tally(1, 1)) for _ in range(250))


def test_a_partner_that_goes_on_as_before_is_held_again_after_what_was_let_pass(job: Job) -> None:
    assert job.batch(Tally(400, 400))
    job.override(job.at)
    assert job.batch(Tally(400, 400))
