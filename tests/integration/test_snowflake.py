"""`paywave snowflake` when something is wrong: on the stand-in, over real tables.

Belongs here: trouble. Does not: what must hold in every account (`test_snowflake_account.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from assets.lake import Lake
from assets.notify import Notifier
from assets.snowflake import snowflake_lag
from assets.tables import snowflake_key
from config.settings import Settings
from lakehouse.definitions import PAYMENTS, VERSIONS
from local.snowflake.trouble import Trouble, make_trouble
from snowflake_external import watch
from snowflake_external.errors import SnowflakeError
from snowflake_external.estate import EXPOSED
from snowflake_external.freshness import Freshness
from tests.events import wire_now
from tests.pipeline import Pipeline
from tests.snowflakes import Snowflake, stand_in_account
from tests.stand_in import StandIn, until
from tests.streams import dirty

pytestmark = pytest.mark.integration
LAKE = "PAYWAVE_LAKE.CURATED.PAYMENTS"
TABLE = '"PAYWAVE_LAKE"."CURATED"."PAYMENTS"'
COUNT = f"SELECT count(*) AS n FROM {PAYMENTS}"


@pytest.fixture(scope="module")
def filled(stack: Settings, catalog: RestCatalog, spark: SparkSession) -> Pipeline:
    """A stack whose tables have payments, and their transactions."""
    pipeline = Pipeline(stack, catalog, spark)
    pipeline.send_lines(dirty(300, seed=5).lines())
    pipeline.run()
    pipeline.run_transactions()
    return pipeline


@dataclass
class OnStandIn(Snowflake):
    """The command on a stand-in that can be got into trouble."""

    stand_in: StandIn

    def trouble(self, trouble: Trouble) -> None:
        make_trouble(self.stand_in.home, trouble)

    def fails(self, *arguments: str) -> tuple[str, str]:
        """What a command says as it fails, and what it says to do next."""
        done = self.run(*arguments)
        assert done.exit_code == 1, done.output
        return str(done.exception), str(getattr(done.exception, "hint", ""))


@pytest.fixture
def snowflake(filled: Pipeline) -> Iterator[OnStandIn]:
    """An account with nothing in it."""
    with stand_in_account(filled.settings) as (stand_in, account):
        yield OnStandIn(account.environment, stand_in)


@pytest.mark.slow
def test_a_refresh_that_stalls_is_seen_asked_for_by_hand_and_over_when_it_is_over(
    snowflake: OnStandIn, filled: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_PAUSES", (0.1,))
    snowflake.json("apply")
    assert snowflake.stale() == []
    snowflake.stand_in.ask("ALTER CATALOG INTEGRATION paywave_lake SET REFRESH_INTERVAL_SECONDS = 1")
    snowflake.trouble(Trouble(stalled=(LAKE,)))
    filled.send_lines([wire_now("more", merchant_id="more")])
    filled.run()  # readers of the lake are not affected
    assert filled.query(f"SELECT count(*) FROM {PAYMENTS} WHERE merchant_id = 'more'") == [(1,)]
    assert PAYMENTS in snowflake.stale()
    snowflake.json("refresh", "--all", code=1)
    assert snowflake.stale() == [PAYMENTS], "the others were refreshed by hand"
    until(lambda: snowflake.stand_in.status(LAKE)["executionState"] == "STALLED")
    said = snowflake.json("status", code=1)["tables"]
    assert {one["table"]: one["state"] for one in said}[PAYMENTS] == "STALLED"
    failed = snowflake.run("refresh")
    assert failed.exit_code == 1
    assert "docs/runbooks/snowflake-refresh.md" in failed.output
    snowflake.trouble(Trouble())
    monkeypatch.setattr(watch, "_PAUSES", (2.0,) * 5)  # until it has looked for itself
    assert [one["error"] for one in snowflake.json("refresh", "--all")["refreshed"]] == [None] * 3
    assert snowflake.stale() == []
    assert VERSIONS in {one["table"] for one in snowflake.json("status")["tables"]}

    snowflake.trouble(Trouble(stopped=(LAKE,), lacks=("REFRESH",)))
    until(lambda: snowflake.stand_in.status(LAKE)["executionState"] == "STOPPED")
    snowflake.trouble(Trouble(lacks=("REFRESH",)))
    filled.send_lines([wire_now("stops", merchant_id="stops")])
    filled.run()
    until(lambda: snowflake.stale() == [PAYMENTS])  # the others refresh themselves, each in its own time
    assert snowflake.stand_in.status(LAKE)["executionState"] == "STOPPED", "it does not come back by itself"
    assert [one["error"] for one in snowflake.json("refresh")["refreshed"]] == [None]
    assert snowflake.stale() == []
    assert snowflake.stand_in.status(LAKE)["executionState"] == "RUNNING"


def test_dagster_sees_what_is_late_has_it_refreshed_and_tells_when_it_cannot_look(
    snowflake: OnStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    snowflake.json("apply")
    for name, value in snowflake.environment.items():
        monkeypatch.setenv(name, value)
    told: list[str] = []
    monkeypatch.setattr(Notifier, "tell", lambda _self, what, _text, **_details: told.append(what))
    resources = {"lake": Lake(), "notifier": Notifier(lake=Lake())}

    def tick(cursor: str | None) -> dg.SensorResult:
        with dg.build_sensor_context(cursor=cursor, resources=resources) as context:
            result = snowflake_lag(context)
        assert isinstance(result, dg.SensorResult)
        return result

    first = tick(None)
    assert {event.asset_key for event in first.asset_events} == {snowflake_key(name) for name in EXPOSED}
    assert not first.run_requests
    assert not tick(first.cursor).asset_events, "nothing is new"
    monkeypatch.setattr(Freshness, "needs_refresh", property(lambda one: one.table == PAYMENTS))
    (request,) = tick(first.cursor).run_requests or ()
    assert request.run_key is not None and request.run_key.startswith(PAYMENTS)
    snowflake.stand_in.kill()
    gone = tick(first.cursor)
    tick(gone.cursor)
    assert told == ["snowflake"], "once"
    monkeypatch.delenv("PAYWAVE_SNOWFLAKE__ACCOUNT")
    with dg.build_sensor_context(resources=resources) as context:
        assert isinstance(snowflake_lag(context), dg.SkipReason)


def test_where_the_account_lacks_versions_the_lake_is_read_and_the_rows_are_the_same(
    snowflake: OnStandIn, filled: Pipeline
) -> None:
    snowflake.json("apply")
    snapshot = filled.catalog.load_table(PAYMENTS).current_snapshot().snapshot_id
    moments = (("--snapshot", f"{PAYMENTS}={snapshot}"), ("--tag", "progress"))
    can = [snowflake.json("query", COUNT, *moment) for moment in moments]
    assert [one["way"] for one in can] == ["snowflake", "snowflake"]
    clauses = (f"AT (VERSION => {snapshot})", "AT (VERSION_TAG => 'progress')")
    assert [one["statement"] for one in can] == [COUNT.replace(PAYMENTS, f"{TABLE} {one}") for one in clauses]
    snowflake.trouble(Trouble(lacks=("VERSION", "VERSION_TAG")))
    cannot = [snowflake.json("query", COUNT, *moment) for moment in moments]
    assert [one["way"] for one in cannot] == ["lakehouse", "lakehouse"]
    for one, other in zip(can, cannot, strict=True):
        assert one["rows"] == other["rows"] == [[filled.query(COUNT)[0][0]]]
        assert one["snapshots"] == other["snapshots"] == {PAYMENTS: str(snapshot)}
        assert "unexpected 'VERSION'" in other["why"] or "GET_TABLE_VERSION_REFS" in other["why"]


def test_what_snowflake_has_not_taken_yet_is_read_in_the_lake(snowflake: OnStandIn, filled: Pipeline) -> None:
    snowflake.json("apply")
    snowflake.trouble(Trouble(stalled=("*",)))
    filled.send_lines([wire_now("newer", merchant_id="newer")])
    filled.run()
    for moment in ((), ("--tag", "progress")):
        told = snowflake.json("query", COUNT, *moment)
        assert (told["way"], told["rows"]) == ("lakehouse", [[filled.query(COUNT)[0][0]]])
        assert "does not read" in told["why"] or "elsewhere, or not yet" in told["why"]


def test_what_is_wrong_is_said_once_with_the_object_and_the_grant(
    snowflake: OnStandIn, filled: Pipeline
) -> None:
    password = OnStandIn(snowflake.but(PASSWORD="guess").environment, snowflake.stand_in)
    assert "refused the login of PAYWAVE" in password.fails("plan")[0]
    astray = OnStandIn(snowflake.but(CATALOG_URI="http://127.0.0.1:9").environment, snowflake.stand_in)
    said, hint = astray.fails("apply")
    assert said.startswith(f"create ICEBERG TABLE {LAKE.replace('PAYMENTS', 'EVENT_VERSIONS')} failed")
    assert "catalog integration PAYWAVE_LAKE" in said
    assert "SYSTEM$VERIFY_CATALOG_INTEGRATION('PAYWAVE_LAKE')" in hint
    assert "USAGE ON INTEGRATION PAYWAVE_LAKE" in hint
    snowflake.json("apply", "--allow-destroy")

    snowflake.trouble(Trouble(denied=(LAKE,)))
    said, hint = snowflake.fails("query", COUNT)
    assert said.startswith("role ACCOUNTADMIN may not: SQL access control error")
    assert "'PAYMENTS'" in said
    assert hint == f"GRANT SELECT ON TABLE {TABLE} TO ROLE ACCOUNTADMIN"
    seen = {one["table"]: one for one in snowflake.json("status", code=1)["tables"]}
    assert seen[PAYMENTS]["state"] == "UNKNOWN"
    assert seen[PAYMENTS]["reason"].startswith("role ACCOUNTADMIN may not: SQL access control error")
    assert seen[PAYMENTS]["reason"].endswith(hint)
    assert seen[VERSIONS]["state"] == "RUNNING", "the others are seen"
    snowflake.trouble(Trouble(suspended=("PAYWAVE_READERS",)))
    said, hint = snowflake.fails("query", COUNT)
    assert said.startswith("no warehouse runs for role ACCOUNTADMIN: Warehouse 'PAYWAVE_READERS'")
    assert "resource monitor 'PAYWAVE_READERS'" in said
    assert "snowflake.credits_per_month" in hint
    assert snowflake.json("refresh", "--all"), "a refresh takes no warehouse"
    told = snowflake.json("status", code=1)
    assert {one["p95_s"] for one in told["tables"]} == {None}, "and a state takes none"
    assert "credits are used up" in told["readers_stopped"]
    snowflake.trouble(Trouble())
    assert snowflake.json("query", COUNT)["way"] == "snowflake", "over when it is over"

    as_reader, of_view = "USE ROLE PAYWAVE_PAYMENTS_READER", "SELECT COUNT(*) FROM PAYWAVE.PAYMENTS.PAYMENTS"
    assert snowflake.ask(as_reader, of_view) == [(0,)], "no partner's role, so no partner's rows"
    snowflake.ask("GRANT ROLE PAYWAVE_ALL_PARTNERS TO ROLE PAYWAVE_PAYMENTS_READER")
    assert snowflake.ask(as_reader, of_view) == filled.query(COUNT)
    for hidden in (TABLE, "PAYWAVE.FRAUD.FRAUD_FEATURES"):
        with pytest.raises(SnowflakeError):
            snowflake.ask(as_reader, f"SELECT COUNT(*) FROM {hidden}")

    snowflake.stand_in.kill()
    assert "cannot reach" in snowflake.fails("query", COUNT)[0]
