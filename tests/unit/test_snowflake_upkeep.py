"""What Snowflake needs of the rest: snapshots that expiry keeps for it, an alert that says where to look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pyarrow as pa
import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import SqlCatalog

from assets import snowflake as sensors
from assets.lake import Lake
from assets.notify import Notifier
from assets.snowflake import snowflake_plan, snowflake_plan_daily, snowflake_refresh
from assets.work import Work
from cli.commands.maintain import _read_in_snowflake
from cli.output import Output
from config.settings import Settings
from lakehouse.definitions import PAYMENTS, VERSIONS
from lakehouse.maintenance.expire import Expirer, ExpireSettings
from snowflake_external import session
from snowflake_external.errors import Denied, Unreachable
from snowflake_external.freshness import Freshness, State
from tests.failed_runs import tell_of


@pytest.fixture
def catalog(tmp_path: Path) -> RestCatalog:
    """A catalog on files; payments in it have four snapshots."""
    found = SqlCatalog("c", uri=f"sqlite:///{tmp_path / 'c.db'}", warehouse=f"file://{tmp_path}")
    found.create_namespace("curated")
    rows = pa.table({"name": ["a"]})
    table = found.create_table(PAYMENTS, rows.schema)
    for _ in range(4):
        table.append(rows)
    return cast(RestCatalog, found)


def history(catalog: RestCatalog) -> list[int]:
    return [one.snapshot_id for one in catalog.load_table(PAYMENTS).history()]


def expired(catalog: RestCatalog, readers: set[int]) -> int:
    settings = ExpireSettings(1, timedelta(0))
    (done,) = Expirer(catalog, lambda: None, settings, readers).run([PAYMENTS], dry_run=True)
    return done.snapshots


def test_what_comes_after_the_snapshot_of_a_reader_elsewhere_is_not_expired(catalog: RestCatalog) -> None:
    assert expired(catalog, set()) == 3
    assert expired(catalog, {history(catalog)[1]}) == 1


def test_expiry_does_not_wait_for_snowflake_and_keeps_what_it_may_need(
    catalog: RestCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise session.Error("nobody is there")

    monkeypatch.setattr(session.snowflake.connector, "connect", gone)
    account = {"account": "a", "user": "u", "bearer_token": "t", "catalog_auth": "bearer"}
    base = {"profile": "local", "catalog": {"uri": "http://c", "warehouse": "s3://w"}}
    there = Settings.model_validate({**base, "snowflake": account})
    assert _read_in_snowflake(there, catalog, Output(True)) == {history(catalog)[0]}
    unset = Settings.model_validate({**base, "snowflake": {"account": "a"}})
    assert _read_in_snowflake(unset, catalog, Output(True)) == {history(catalog)[0]}, "no user to log in"
    nothing = Settings.model_validate({**base, "snowflake": {**account, "hold_days": 0}})
    assert _read_in_snowflake(nothing, catalog, Output(True)) == set()
    without = Settings.model_validate(base)
    assert _read_in_snowflake(without, catalog, Output(True)) == set(), "no account is set"


TOLD: list[tuple[str, dict[str, str]]] = []


class Told(Notifier):
    def tell(self, what: str, text: str, **details: str) -> None:
        TOLD.append((text, details))


class Refreshes(Work):
    """Says what a refresh came to, instead of asking for one."""

    wrong: dict[str, str]
    breaks: bool = False

    def run(self, context: Any, command: Sequence[str], may_fall_short: bool = False) -> dict[str, Any]:
        assert (list(command), may_fall_short) == (["snowflake", "refresh"], True)
        if self.breaks:
            raise dg.Failure("no answer")
        return {"refreshed": [{"table": one, "error": self.wrong.get(one)} for one in (PAYMENTS, VERSIONS)]}


class Plans(Work):
    """Says what differs, instead of comparing."""

    changes: list[dict[str, str]]

    def run(self, context: Any, command: Sequence[str], may_fall_short: bool = False) -> dict[str, Any]:
        assert (list(command), may_fall_short) == (["snowflake", "plan"], False)
        return {"changes": self.changes, "empty": not self.changes}


def run(work: Work, asked: dg.JobDefinition = snowflake_refresh) -> bool:
    """Run a job; of a failed run people are told, as the daemon has it done."""
    TOLD.clear()
    told = Told(lake=Lake(home="/nowhere"))
    defs = dg.Definitions(jobs=[asked], resources={"work": work})
    with dg.instance_for_test() as instance:
        job = defs.get_job_def(asked.name)
        result = job.execute_in_process(raise_on_error=False, instance=instance)
        if not result.success:
            tell_of(result, instance, told)
        return result.success


def test_a_refresh_that_fails_is_told_with_the_table_the_reason_and_the_runbook() -> None:
    lake = Lake(home="/nowhere")
    assert run(Refreshes(lake=lake, wrong={}))
    assert not TOLD
    assert not run(Refreshes(lake=lake, wrong={PAYMENTS: "it is STOPPED"}))
    ((text, details),) = TOLD
    assert PAYMENTS in text
    assert VERSIONS not in text
    assert "it is STOPPED" in text
    assert details["runbook"] == "docs/runbooks/snowflake-refresh.md"
    assert not run(Refreshes(lake=lake, wrong={}, breaks=True))
    ((text, details),) = TOLD
    assert "no answer" in text
    assert details["runbook"] == "docs/runbooks/snowflake-refresh.md"


def test_a_plan_that_is_not_empty_is_told_with_what_differs_and_the_runbook() -> None:
    lake = Lake(home="/nowhere")
    assert run(Plans(lake=lake, changes=[]), snowflake_plan)
    assert not TOLD
    changes = [{"action": "alter", "what": "VIEW V"}, {"action": "revoke", "what": "SELECT TO PUBLIC"}]
    assert not run(Plans(lake=lake, changes=changes), snowflake_plan)
    ((text, details),) = TOLD
    assert "alter VIEW V; revoke SELECT TO PUBLIC" in text
    assert details["runbook"] == "docs/runbooks/snowflake-refresh.md"


def test_the_plan_is_looked_at_only_where_there_is_an_account() -> None:
    for lake, kind in (
        (Watched(home="/nowhere"), dg.RunRequest),
        (NoAccount(home="/nowhere"), dg.SkipReason),
    ):
        with dg.build_schedule_context(resources={"lake": lake}) as context:
            assert isinstance(snowflake_plan_daily(context), kind)


class Watched(Lake):
    """A lake with an account, and no catalog to ask."""

    def settings(self) -> Settings:
        there = {"profile": "local", "catalog": {"uri": "http://c", "warehouse": "s3://w"}}
        account = {"account": "a", "user": "u", "bearer_token": "t", "catalog_auth": "bearer"}
        return Settings.model_validate({**there, "snowflake": account})

    def catalog(self) -> RestCatalog:
        return cast(RestCatalog, None)


class NoAccount(Lake):
    """A lake that is not read in Snowflake."""

    def settings(self) -> Settings:
        return Settings.model_validate({"profile": "local"})


def table(name: str, state: State = State.RUNNING) -> Freshness:
    return Freshness(name, state, "", 1, 0, 0.0, 60.0, None, None)


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dg.SensorResult]:
    """One look of the sensor, given what it finds or what is raised; the cursor is kept between them."""
    TOLD.clear()
    cursors: list[str | None] = [None]

    def look(found: Exception | list[Freshness], stopped: str | None = None) -> dg.SensorResult:
        def freshness(*_: object) -> list[Freshness]:
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(sensors, "Session", lambda *_: nullcontext(SimpleNamespace(ask=None)))
        monkeypatch.setattr(sensors, "freshness_of", freshness)
        monkeypatch.setattr(sensors, "readers_stopped", lambda *_: stopped)
        lake = Watched(home="/nowhere")
        resources = {"lake": lake, "notifier": Told(lake=lake)}
        with dg.build_sensor_context(cursor=cursors[-1], resources=resources) as context:
            result = sensors.snowflake_lag(context)
        assert isinstance(result, dg.SensorResult)
        cursors.append(result.cursor)
        return result

    return look


def test_that_snowflake_cannot_be_watched_is_told_once_and_again_where_it_is_of_another_kind(
    tick: Callable[..., dg.SensorResult],
) -> None:
    for error in (Unreachable("no answer"), Unreachable("none yet"), Denied("may not"), Denied("may not")):
        tick(error)
    assert [text.rpartition(": ")[2] for text, _ in TOLD] == ["no answer", "may not"]
    tick([table(PAYMENTS)])
    tick(Denied("may not again"))
    assert len(TOLD) == 3


def test_that_readers_are_cut_off_is_told_once_until_they_are_not(
    tick: Callable[..., dg.SensorResult],
) -> None:
    found = [table(PAYMENTS)]
    for stopped in ("used up", "used up", None, "used up"):
        assert not tick(found, stopped).run_requests, "no refresh mends that"
        tick(Unreachable("no answer"), stopped)
    assert [text for text, _ in TOLD if "cut off" in text] == ["Snowflake's readers are cut off: used up"] * 2


def test_the_runbook_that_is_named_is_there() -> None:
    assert (Path(__file__).parents[2] / "docs/runbooks/snowflake-refresh.md").is_file()
