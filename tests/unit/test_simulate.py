"""The generator: exact counts, the same bytes for a plan, and an outcome that the reference fold confirms."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.fold import Coordinates, fold_events, fold_payments, fold_versions, record
from quality.contract import HISTORY, REVERSED
from quality.judge import judge
from streaming.errors import StreamingError
from streaming.simulate import PRESETS, Mix, Plan, Simulation, default_start
from streaming.simulate.journeys import Journeys
from streaming.simulate.malformed import KINDS, Malformed
from streaming.simulate.world import World

START = datetime(2026, 11, 18, 6, tzinfo=UTC)
SENT = datetime(2026, 11, 20, 9, tzinfo=UTC)
DIRTY = Mix(0.15, 0.1, 0.2, 0.2, 0.1, 0.1, 0.1, 0.05)


def run(
    count: int, seed: int, mix: Mix, span: timedelta = timedelta(hours=6)
) -> tuple[list[bytes], dict[str, Any]]:
    simulation = Simulation(Plan(count, seed, START, span, mix))
    lines = list(simulation.lines())
    return lines, simulation.outcome.as_dict()


def outcome_by_reference(lines: list[bytes]) -> dict[str, Any]:
    """What quality and the reference fold make of the lines, in the words of `--expect`."""
    verdicts = [judge(line, SENT, HISTORY[-1]) for line in lines]
    for older in HISTORY[:-1]:
        assert verdicts == [judge(line, SENT, older) for line in lines], "every contract says the same"
    copies = [record(v, Coordinates("t", 0, i)) for i, v in enumerate(verdicts) if not isinstance(v, list)]
    versions = fold_versions(copies)
    events = fold_events(versions)
    payments = fold_payments(events)
    return {
        "records": len(lines),
        "redelivered": len(copies) - len(versions),
        "versions": len(versions),
        "superseded": len(versions) - len(events),
        "events": len(events),
        "duplicates": len(events) - len(payments),
        "payments": len(payments),
        "quarantined": len(lines) - len(copies),
        "reversed_payments": sum(p.status == REVERSED for p in payments),
        **amounts_of(payments),
    }


def amounts_of(payments: list[Any]) -> dict[str, Any]:
    sums: dict[str, dict[str, Decimal]] = {}
    for event in (p.row.event for p in payments if p.status != REVERSED):
        of_currency = sums.setdefault(event.currency, {})
        of_currency[event.event_type] = of_currency.get(event.event_type, Decimal(0)) + event.amount
    total = sum((s for of in sums.values() for s in of.values()), Decimal("0.0000"))
    return {
        "amount": str(total),
        "amounts": {c: {t: str(s) for t, s in sorted(of.items())} for c, of in sorted(sums.items())},
    }


shares = st.floats(0, 0.09)  # at their greatest, all of them together leave room for clean events
mixes = st.builds(
    Mix,
    duplicates=st.floats(0, 0.3),
    business_duplicates=shares,
    late=st.floats(0, 1),
    out_of_order=st.floats(0, 1),
    reversals=shares,
    corrections=shares,
    unknown_fields=st.floats(0, 1),
    malformed=shares,
)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 300),
    seed=st.integers(0, 2**64),
    mix=mixes,
    minutes=st.integers(1, 600),
    shuffle=st.randoms(use_true_random=False),
)
def test_outcome_by_construction_equals_the_reference_fold(
    count: int, seed: int, mix: Mix, minutes: int, shuffle: Random
) -> None:
    lines, expected = run(count, seed, mix, timedelta(minutes=minutes))
    assert len(lines) == count
    shuffle.shuffle(lines)
    assert outcome_by_reference(lines) == expected


def test_a_large_dirty_stream_is_exact_and_its_counts_add_up() -> None:
    lines, expected = run(6000, 7, DIRTY)
    assert outcome_by_reference(lines) == expected
    assert expected["records"] == expected["redelivered"] + expected["versions"] + expected["quarantined"]
    assert expected["versions"] == expected["events"] + expected["superseded"]
    assert expected["events"] == expected["payments"] + expected["duplicates"]


def test_shares_are_shares_of_all_lines() -> None:
    _, expected = run(20_000, 3, Mix(duplicates=0.2, corrections=0.1, malformed=0.05))
    assert expected["redelivered"] == pytest.approx(4000, rel=0.1)
    assert expected["quarantined"] == pytest.approx(1000, rel=0.15)
    assert expected["superseded"] == pytest.approx(2000, rel=0.25)  # a fifth of corrections come twice


@pytest.mark.parametrize("mix", [Mix(malformed=1), Mix(duplicates=1), Mix(business_duplicates=0.5)])
def test_extreme_shares_still_give_exactly_so_many_lines(mix: Mix) -> None:
    lines, expected = run(200, 1, mix)
    assert len(lines) == 200 == expected["records"]


def test_the_same_plan_gives_the_same_bytes_and_another_seed_does_not() -> None:
    assert run(500, 11, DIRTY) == run(500, 11, DIRTY)
    assert run(500, 11, DIRTY)[0] != run(500, 12, DIRTY)[0]


def test_streams_of_other_days_differ_in_their_times_alone_where_the_same_is_drawn() -> None:
    def told(days: int) -> list[bytes]:
        plan = Plan(500, 11, START + timedelta(days=days), timedelta(hours=1), DIRTY)
        return [re.sub(rb"2026-11-\d\d", b"", line) for line in Simulation(plan, Random(11)).lines()]

    assert told(0) == told(9)


def test_plans_that_differ_in_anything_share_no_event_id() -> None:
    """Else the same seed on another day would give known events other times: identity conflicts."""
    plans = [
        Plan(100, 1, START),
        Plan(101, 1, START),
        Plan(100, 1, START + timedelta(days=1)),
        Plan(100, 1, START, timedelta(hours=5)),
        Plan(100, 1, START, mix=Mix(late=0.1)),
        Plan(100, 2, START),
    ]
    ids = [json.loads(line)["event_id"] for plan in plans for line in Simulation(plan).lines()]
    assert len(set(ids)) == len(ids)


def test_clean_events_are_about_1200_bytes_of_plain_json_in_order_of_ingestion() -> None:
    lines, _ = run(2000, 5, Mix())
    assert 1100 < sum(map(len, lines)) / len(lines) < 1300
    ingested = [json.loads(line)["ingest_ts"] for line in lines]
    assert ingested == sorted(ingested)


def test_times_stay_in_the_window_and_in_the_late_tail() -> None:
    lines, _ = run(3000, 5, Mix(late=0.5, duplicates=0.2, reversals=0.1))
    events = [json.loads(line) for line in lines]
    times = [datetime.fromisoformat(e["event_ts"]) for e in events]
    ingested = [datetime.fromisoformat(e["ingest_ts"]) for e in events]
    assert min(times) >= START
    assert max(times) < START + timedelta(hours=6)
    assert max(ingested) <= START + timedelta(hours=30)
    assert all(i > t for t, i in zip(times, ingested, strict=True))
    late = sum(i - t >= timedelta(minutes=10) for t, i in zip(times, ingested, strict=True))
    assert late / len(lines) > 0.4


def test_the_default_window_lies_in_the_past_but_under_seven_days() -> None:
    now = datetime(2026, 11, 20, 0, 0, 1, tzinfo=UTC)
    start = default_start(timedelta(hours=6), now)
    assert start == datetime(2026, 11, 18, 18, tzinfo=UTC)
    assert start + timedelta(hours=30) <= now


def test_payments_run_from_auth_to_chargeback_under_one_reference() -> None:
    lines, _ = run(6000, 2, Mix())
    journeys: dict[str, list[str]] = {}
    for event in map(json.loads, lines):
        if "transaction_ref" in event:
            journeys.setdefault(event["transaction_ref"], []).append(event["event_type"])
    forms = {tuple(types) for types in journeys.values()}
    assert {("AUTH",), ("AUTH", "CAPTURE"), ("AUTH", "CAPTURE", "REFUND")} <= forms
    assert ("AUTH", "CAPTURE", "CHARGEBACK") in forms
    assert all(types[0] == "AUTH" for types in forms)


def test_no_identifier_can_be_taken_for_a_card_number() -> None:
    lines, _ = run(2000, 5, Mix())
    for event in map(json.loads, lines):
        assert not any(c.isdigit() for c in event["card_id"])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("seed", range(8))
def test_every_malformed_kind_breaks_its_rules_and_stays_one_line(kind: Malformed, seed: int) -> None:
    rng = Random(seed)
    start_us = int(START.timestamp() * 1e6)
    draft = Journeys(rng, World(rng, 100), start_us + 10**10, late=0).next(start_us)[0]
    draft.line()
    line = kind.write(rng, dict(draft.fields))
    for contract in HISTORY:
        verdict = judge(line, SENT, contract)
        assert isinstance(verdict, list), f"{kind.name} was accepted: {line!r}"
        assert {v.rule for v in verdict} == kind.rules
    assert b"\n" not in line


@pytest.mark.parametrize(
    "shares", [{"late": -0.1}, {"duplicates": 1.1}, {"corrections": 0.6}, {"late": float("nan")}]
)
def test_impossible_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(StreamingError):
        Mix(**shares)


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(StreamingError):
        Plan(-1, 0, START)
    with pytest.raises(StreamingError):
        Plan(1, 0, START.replace(tzinfo=None))
    with pytest.raises(StreamingError):
        Plan(1, 0, START, timedelta(seconds=1))
    assert PRESETS["demo"].malformed > 0
