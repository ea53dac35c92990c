"""How far a backfill is: its states, its file, its lock; and what the command refuses before it begins."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli.main import paywave
from lakehouse.definitions import RAW
from lakehouse.offsets import OffsetVector
from streaming.backfill.errors import AlreadyRunning, EditedPlan, UnknownBackfill, WrongPlan
from streaming.backfill.pace import Pace, behind
from streaming.backfill.plan import Approval, render
from streaming.backfill.state import HourState, State, Status, hours_to_do, next_step
from streaming.backfill.store import Store, write_plan
from tests.unit.test_backfill_plan import NOW, plan_of

HOURS = ("2026-11-22T12", "2026-11-22T13", "2026-11-22T14")
PLAN = plan_of(*HOURS)
_changed = st.dictionaries(st.sampled_from(["t: added", "t: deleted"]), st.integers(1, 99))
_hour_states = st.builds(
    HourState, st.sampled_from(Status), st.integers(0, 9), _changed, st.none() | st.text()
)


@given(
    st.dictionaries(st.sampled_from(HOURS), _hour_states),
    st.none() | st.builds(Approval, st.text(), st.text(), st.just(NOW)),
    st.sets(st.sampled_from(HOURS)),
    st.booleans(),
    st.none() | st.just(NOW),
)
def test_a_state_is_read_as_it_was_written(
    hours: Any, approval: Any, chunk: set[str], is_repaired: bool, finished_at: Any
) -> None:
    state = State(
        "abc", hours, tuple(sorted(chunk)), approval, is_repaired, not is_repaired, 1.5, finished_at
    )
    assert State.from_json(json.loads(json.dumps(state.as_json()))) == state


def test_hours_are_begun_finished_and_failed() -> None:
    state = State("abc")
    state.begin(HOURS)
    assert state.counts(PLAN) == {"pending": 0, "running": 3, "done": 0, "failed": 0}
    state.note(HOURS[0], {"t: added": 2})
    state.note(HOURS[0], {"t: added": 1, "t: deleted": 1})
    state.finish(HOURS[0])
    state.fail(HOURS[1], "x" * 9999)
    state.interrupt()
    assert [state.of(hour).status for hour in HOURS] == [Status.DONE, Status.FAILED, Status.PENDING]
    assert state.changed() == Counter({"t: added": 3, "t: deleted": 1})
    assert len(state.of(HOURS[1]).error or "") == 500
    assert hours_to_do(PLAN, state) == [*HOURS[1:]]
    assert hours_to_do(PLAN, state, only_failed=True) == [HOURS[1]]
    assert hours_to_do(PLAN, state, only=[HOURS[0], HOURS[2]]) == [HOURS[2]]
    assert hours_to_do(PLAN, state, again=True, most=2) == [*HOURS[:2]]
    with pytest.raises(WrongPlan):
        hours_to_do(PLAN, state, only=["2026-11-23T00"])

    state.begin(HOURS)
    assert [state.of(hour).attempts for hour in HOURS] == [1, 2, 2], "what is done is not begun again"
    assert state.of(HOURS[1]).error is None
    for hour in HOURS:
        state.finish(hour)
    assert not state.is_done(PLAN), "conflicts were not looked at"
    state.is_repaired = True
    assert state.is_done(PLAN)
    state.forget(HOURS[:1])
    assert hours_to_do(PLAN, state) == [HOURS[0]]


def test_the_next_step_is_told() -> None:
    state = State("abc")
    assert next_step(PLAN, state, is_running=True) == "it is running"
    assert "--approver NAME" in next_step(PLAN, state, is_running=False)
    assert (
        next_step(replace(PLAN, approver="bob"), state, is_running=False) == "`paywave backfill run fix-fees`"
    )
    state.approval = Approval("bob", PLAN.digest, NOW)
    state.finish(HOURS[0])
    assert "goes on" in next_step(PLAN, state, is_running=False)
    state.fail(HOURS[1], "no room")
    assert "see the errors" in next_step(PLAN, state, is_running=False)
    for hour in HOURS:
        state.finish(hour)
    assert next_step(PLAN, state, is_running=False) == "nothing to do"


def test_a_store_keeps_plans_and_lets_one_process_at_each(tmp_path: Path) -> None:
    store = Store(tmp_path / "backfills")
    assert store.names() == []
    with pytest.raises(UnknownBackfill, match="none"):
        try:
            store.find("fix-fees")
        except UnknownBackfill as error:
            raise UnknownBackfill(f"{error} {error.hint}") from None
    one, other = store.add(PLAN), store.add(replace(PLAN, name="other"))
    with pytest.raises(WrongPlan, match="already"):
        store.add(replace(PLAN, reason="another"))
    assert one.plan() == PLAN
    assert store.names() == ["fix-fees", "other"]
    assert not one.is_running()
    with one.locked(), other.locked():
        assert one.is_running()
        with pytest.raises(AlreadyRunning, match="being run by process"), store.find("fix-fees").locked():
            pass
    assert not one.is_running()
    state = State("abc", {HOURS[0]: HourState(Status.DONE)})
    one.save_state(state)
    assert store.find("fix-fees").state() == state
    assert {path.name for path in one.folder.iterdir()} == {"plan.json", "state.json", "lock"}


def test_a_file_is_taken_in_once_and_may_only_get_its_approver_later(tmp_path: Path) -> None:
    store, path = Store(tmp_path / "backfills"), tmp_path / "plan.json"
    write_plan(path, PLAN)
    with pytest.raises(WrongPlan, match="there already"):
        write_plan(path, PLAN)
    assert store.take(path).plan() == PLAN
    path.write_text(render(replace(PLAN, approver="bob")))
    assert store.take(path).plan().approver == "bob"
    path.write_text(render(replace(PLAN, reason="another")))
    with pytest.raises(EditedPlan, match="another plan"):
        store.take(path)
    with pytest.raises(WrongPlan, match="cannot be read"):
        store.take(tmp_path / "none.json")


def test_estimates_follow_the_latest_backfill_that_is_done(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.factor() == 1.0
    for name, minutes, day in (("a", 2, 1), ("b", 3, 2), ("c", 9, None)):
        finished = day and NOW + timedelta(days=day)
        seconds = PLAN.estimate.minutes * minutes * 60
        store.add(replace(PLAN, name=name)).save_state(State("t", seconds=seconds, finished_at=finished))
    assert store.factor() == pytest.approx(3.0, rel=1e-3)


def head(offset: int, complete_to: datetime | None) -> Any:
    return SimpleNamespace(
        offsets=OffsetVector({"t": {0: offset}}), progress=SimpleNamespace(complete_to=complete_to)
    )


def test_payments_are_behind_by_the_kafka_time_that_they_lack() -> None:
    earlier = NOW - timedelta(minutes=3)
    assert behind(head(9, NOW), head(5, earlier)) == timedelta(minutes=3)
    assert behind(head(9, NOW), head(9, earlier)) == timedelta(0), "there is nothing to catch up with"
    assert behind(head(9, NOW), head(5, None)) == behind(head(9, earlier), head(5, NOW)) == timedelta(0)


class Heads:
    """Heads as the catalog would tell them, one look after another; the last one stays."""

    def __init__(self, raw: Any, *payments: Any) -> None:
        self.raw, self.payments, self.looks = raw, list(payments), 0

    def __call__(self, _catalog: Any, name: str) -> Any:
        if name == RAW:
            return self.raw
        self.looks += 1
        return self.payments[min(self.looks, len(self.payments)) - 1]


def waiting(monkeypatch: pytest.MonkeyPatch, heads: Heads, is_stopping: Any = lambda: False) -> Pace:
    monkeypatch.setattr("streaming.backfill.pace.read_head", heads)
    return Pace(cast(Any, None), 60.0, is_stopping, still=0.05, longest=5.0, poll=0.01)


def test_a_run_waits_while_the_live_job_catches_up(monkeypatch: pytest.MonkeyPatch) -> None:
    late = [head(n, NOW - timedelta(minutes=9 - n)) for n in range(1, 9)]
    heads = Heads(head(9, NOW), *late)
    assert waiting(monkeypatch, heads).give_way() > 0
    assert heads.looks == 8, "until payments were a minute behind"


def test_a_run_does_not_wait_for_a_live_job_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = Heads(head(9, NOW), head(1, NOW - timedelta(hours=1)))
    pace = waiting(monkeypatch, heads)
    assert 0.05 <= pace.give_way() < 5
    looks = heads.looks
    assert pace.give_way() < 0.05, "it is not waited for again"
    assert heads.looks == looks + 1
    assert waiting(monkeypatch, heads, lambda: True).give_way() < 0.05, "nor by a run that is to stop"


# -- what the command refuses --------------------------------------------------------------------------------

FROM, TO = "2026-11-22T12:00:00Z", "2026-11-22T14:00:00Z"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "--reason", "r"], "--from and --to"),
        (["plan", "--reason", "r", "--from", FROM], "--from and --to"),
        (["plan", "--from", FROM, "--to", TO], "--reason"),
        (["plan", "--reason", "r", "--from", TO, "--to", FROM], "not later"),
        (["plan", "--reason", "r", "--from", FROM, "--to", "2026-11-22T13:30:00Z"], "within an hour"),
        (["plan", "--reason", "r", "--hour", "noon"], "no event hour"),
        (["plan", "--reason", "r", "--from", FROM, "--to", TO, "--name", "A"], "cannot be the name"),
        (["run", "nothing"], "no backfill 'nothing'"),
        (["run", "./nothing.json"], "cannot be read"),
        (["run", "fix-fees"], "nobody has approved"),
        (["run", "fix-fees", "--max-hours", "0"], "x>=1"),
        (["status", "nothing"], "there are: fix-fees"),
    ],
)
def test_wrong_usage_is_said(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAYWAVE_HOME", str(tmp_path))
    Store(tmp_path / "backfills").add(PLAN)
    done = CliRunner().invoke(paywave, ["backfill", *arguments])
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("│", " ").split())


def test_status_lists_all_or_tells_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYWAVE_HOME", str(tmp_path))
    store = Store(tmp_path / "backfills")
    backfill = store.add(PLAN)
    state = State("abc")
    state.begin(HOURS[:2])
    state.note(HOURS[0], {"curated.payments: added": 7})
    state.finish(HOURS[0])
    backfill.save_state(state)
    store.add(replace(PLAN, name="broken")).plan_path.write_text("{}")

    one = json.loads(
        CliRunner().invoke(paywave, ["backfill", "status", "fix-fees", "--output", "json"]).stdout
    )
    assert one["counts"] == {"hours": 3, "pending": 2, "running": 0, "done": 1, "failed": 0}
    assert one["changed"] == {"curated.payments: added": 7}
    assert [hour["status"] for hour in one["hours"]] == ["done", "pending", "pending"]
    found = json.loads(CliRunner().invoke(paywave, ["backfill", "status", "--output", "json"]).stdout)
    assert [each["name"] for each in found["backfills"]] == ["broken", "fix-fees"]
    text = CliRunner().invoke(paywave, ["backfill", "status", "fix-fees"])
    assert "1 done" in text.stdout
    assert CliRunner().invoke(paywave, ["backfill", "status"]).exit_code == 0
