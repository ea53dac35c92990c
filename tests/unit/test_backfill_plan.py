"""Plans of backfills: hours, digest, approval, estimate, and the file that people review."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.backfill.errors import EditedPlan, NotApproved, WrongPlan
from streaming.backfill.estimate import Rates, chunks, estimate, measured_factor
from streaming.backfill.hours import hours_between, in_order, read_hour, write_hour
from streaming.backfill.plan import (
    Approval,
    MeasuredAt,
    Plan,
    PlannedHour,
    approve,
    approved_by,
    check_name,
    chosen,
    name_for,
    parse,
    render,
)

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
NOON = read_hour("2026-11-22T12")
_count = st.integers(0, 10**9)
_text = st.text(min_size=1).filter(str.strip)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    numbers = draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=8, unique=True))
    hours = tuple(
        PlannedHour(write_hour(n), *(draw(_count) for _ in range(6)), draw(st.booleans()))
        for n in sorted(numbers)
    )
    return Plan(
        name=draw(st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,20}\Z")),
        reason=draw(_text),
        requested_by=draw(_text),
        created=NOW,
        measured_at=MeasuredAt('{"t":{"0":5}}', {"curated.payments": str(draw(_count))}),
        buckets=draw(st.integers(1, 64)),
        chunk_hours=draw(st.integers(1, 48)),
        chunk_rows=draw(st.integers(1, 10**9)),
        estimate=estimate([hours], Rates(cores=draw(st.integers(1, 64)))),
        hours=hours,
        approver=draw(st.none() | _text),
    )


def plan_of(*hours: str, **changes: Any) -> Plan:
    found = tuple(PlannedHour(hour, 4, 10, 9, 8, 1000, 50) for hour in hours or ("2026-11-22T12",))
    cost = estimate([found], Rates())
    measured_at = MeasuredAt("{}", {})
    made = Plan("fix-fees", "fees", "ann", NOW, measured_at, 4, 24, 1000, cost, found)
    return replace(made, **changes)


# -- hours ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6))
def test_an_hour_is_read_as_it_was_written(hour: int) -> None:
    assert read_hour(write_hour(hour)) == hour


@pytest.mark.parametrize(
    "text", ["", "2026-11-22", "2026-11-22T24", "2026-11-22T14:00", "2026-13-01T00", "now"]
)
def test_what_is_no_hour_is_refused(text: str) -> None:
    with pytest.raises(WrongPlan):
        read_hour(text)


@given(st.integers(0, 10**6), st.integers(1, 100), st.integers(-12, 12))
def test_a_range_has_each_hour_once_in_order(first: int, count: int, offset: int) -> None:
    zone = timezone(timedelta(hours=offset))
    start = datetime(1970, 1, 1, tzinfo=UTC) + first * timedelta(hours=1)
    found = hours_between(start.astimezone(zone), (start + count * timedelta(hours=1)).astimezone(zone))
    assert [read_hour(hour) for hour in found] == list(range(first, first + count))


def test_parts_of_hours_and_ranges_of_nothing_are_refused() -> None:
    noon, half = NOW.replace(minute=0), NOW.replace(minute=30)
    with pytest.raises(WrongPlan, match="within an hour") as refused:
        hours_between(noon, half)
    assert "2026-11-26T12:00:00Z or 2026-11-26T13:00:00Z" in refused.value.hint
    with pytest.raises(WrongPlan, match="within an hour"):
        hours_between(NOW.astimezone(timezone(timedelta(hours=5, minutes=30))).replace(minute=0), noon)
    with pytest.raises(WrongPlan, match="not later"):
        hours_between(noon, noon)
    with pytest.raises(WrongPlan, match="no hours"):
        in_order([])
    assert in_order(["2026-11-22T14", "2026-11-22T12", "2026-11-22T14"]) == ["2026-11-22T12", "2026-11-22T14"]


# -- the file ------------------------------------------------------------------------------------------------


@given(plans())
def test_a_plan_is_read_as_it_was_written(plan: Plan) -> None:
    text = render(plan)
    assert parse(text) == plan
    assert json.loads(text)["digest"] == plan.digest
    assert text.count('"hour":') == len([line for line in text.splitlines() if '"hour":' in line])


@given(plans(), st.data())
def test_whatever_is_edited_is_found_but_for_the_approver(plan: Plan, data: st.DataObject) -> None:
    value = json.loads(render(plan))
    assert parse(json.dumps({**value, "approver": "bob"})) == replace(plan, approver="bob")
    name = data.draw(st.sampled_from(sorted(value.keys() - {"approver", "format"})))
    edited = {**value, name: f"{value[name]} "}
    with pytest.raises((EditedPlan, WrongPlan)):
        parse(json.dumps(edited))


def test_an_hour_more_or_a_lower_price_is_an_edit() -> None:
    value = json.loads(render(plan_of("2026-11-22T12")))
    value["hours"].append({**value["hours"][0], "hour": "2026-11-22T13"})
    with pytest.raises(EditedPlan, match="was edited"):
        parse(json.dumps(value))
    value = json.loads(render(plan_of()))
    value["estimate"]["dollars"] = 0.0
    with pytest.raises(EditedPlan):
        parse(json.dumps(value))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"digest": 1}', render(plan_of())[:-9]])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(WrongPlan):
        parse(text)


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a/b", "..", "a" * 64, "a\n"])
def test_names_that_no_folder_or_table_can_bear_are_refused(name: str) -> None:
    with pytest.raises(WrongPlan):
        check_name(name)


def test_the_same_hours_and_reason_have_the_same_name() -> None:
    hours = ["2026-11-22T13", "2026-11-22T12"]
    name = name_for(hours, "fees")
    assert name == name_for(sorted(hours), "fees") == check_name(name)
    assert name.startswith("2026-11-22t12-")
    assert len({name, name_for(hours, "other"), name_for(hours[:1], "fees")}) == 3


def test_only_hours_of_the_plan_are_chosen() -> None:
    plan = plan_of("2026-11-22T12", "2026-11-22T13")
    assert chosen(plan, ["2026-11-22T13"]) == {"2026-11-22T13"}
    with pytest.raises(WrongPlan, match="no hour 2026-11-22T14"):
        chosen(plan, ["2026-11-22T13", "2026-11-22T14"])


# -- approval ------------------------------------------------------------------------------------------------


def approval(
    plan: Plan, approver: str | None = None, known: Approval | None = None, local: bool = False
) -> Approval:
    return approve(plan, approver, known, NOW, local)


def test_somebody_else_must_have_approved_just_this_plan() -> None:
    plan = plan_of()
    with pytest.raises(NotApproved, match="nobody"):
        approval(plan)
    with pytest.raises(NotApproved, match="nobody"):
        approval(plan, "  ")
    with pytest.raises(NotApproved, match="cannot be the one"):
        approval(plan, "ANN ")
    assert approval(plan, "ann", local=True).by == "ann"
    given_now = approval(plan, "bob")
    assert given_now == Approval("bob", plan.digest, NOW)
    assert approval(approved_by(plan, "bob")).by == "bob"
    assert approval(plan, known=given_now) is given_now
    with pytest.raises(NotApproved, match="approved by bob"):
        approval(plan, "carol", given_now)
    with pytest.raises(EditedPlan):
        approval(replace(plan, reason="another"), "bob", given_now)


# -- estimate ------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(_count, _count), max_size=40), st.integers(1, 9), st.integers(1, 10**9))
def test_chunks_hold_every_hour_once_and_no_more_than_asked(
    sizes: list[tuple[int, int]], most_hours: int, most_rows: int
) -> None:
    hours = [PlannedHour(write_hour(NOON + n), 4, v, p) for n, (v, p) in enumerate(sizes)]
    found = list(chunks(hours, most_hours, most_rows))
    assert [hour for chunk in found for hour in chunk] == hours
    for chunk in found:
        assert len(chunk) <= most_hours
        assert len(chunk) == 1 or sum(hour.rows for hour in chunk) <= most_rows


@given(st.lists(st.tuples(_count, _count), min_size=1, max_size=20), st.floats(0.1, 10))
def test_more_work_is_never_estimated_to_take_less(sizes: list[tuple[int, int]], factor: float) -> None:
    hours = [PlannedHour(write_hour(NOON + n), 4, v, raw_read=raw) for n, (v, raw) in enumerate(sizes)]
    rates = Rates()
    whole, part = (estimate([h], rates, factor).minutes for h in (hours, hours[1:]))
    assert whole >= part
    assert estimate([hours], rates, factor).by_rates == pytest.approx(estimate([hours], rates).minutes)
    assert estimate([hours], replace(rates, cores=4)).minutes <= estimate([hours], rates).minutes


def test_the_price_is_that_of_the_cores_for_the_time() -> None:
    rates = Rates(2, 100.0, 10.0, 1000, unit_seconds=1, chunk_seconds=5, start_seconds=10, price=0.6)
    hour = PlannedHour("2026-11-22T12", 4, 1200, 800, raw_read=20_000)
    # start 10, chunk 5, two units of each table 4, raw 20,000 / 200, rows 2,000 / 20
    found = estimate([[hour]], rates)
    assert found.minutes == pytest.approx(219 / 60)
    assert found.dollars == pytest.approx(219 / 3600 * 2 * 0.6)


def test_rates_follow_what_was_measured_within_bounds() -> None:
    assert measured_factor(10, 25) == 2.5
    assert measured_factor(10, 1000) == 10.0
    assert measured_factor(10, 0.001) == 0.1
    assert measured_factor(0, 5) == measured_factor(5, 0) == 1.0
