"""`paywave snowflake` on the stand-in: planned, applied, read by consumers, watched; over real tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from assets.lake import Lake
from assets.notify import Notifier
from assets.snowflake import snowflake_lag
from assets.tables import snowflake_key
from cli.main import paywave
from config.settings import Settings
from lakehouse.definitions import PAYMENTS, TRANSACTIONS, VERSIONS
from local.snowflake.trouble import Trouble, make_trouble
from snowflake_external import watch
from snowflake_external.estate import EXPOSED
from snowflake_external.freshness import Freshness
from tests.events import wire
from tests.pipeline import Pipeline, dirty
from tests.stand_in import StandIn, until

pytestmark = pytest.mark.integration
LAKE = "PAYWAVE_LAKE.CURATED.PAYMENTS"


@dataclass
class Snowflake:
    """The command, on a stand-in."""

    stand_in: StandIn
    environment: Mapping[str, str]

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(paywave, ["snowflake", *arguments], env=self.environment)

    def json(self, *arguments: str, code: int = 0) -> Any:
        done = self.run(*arguments, "--output", "json")
        assert done.exit_code == code, (done.output, done.exception)
        return json.loads(done.stdout)

    def plan(self) -> list[tuple[str, str]]:
        return [(change["action"], change["what"]) for change in self.json("plan")["changes"]]

    def stale(self) -> list[str]:
        done = self.run("status", "--output", "json")
        return [one["table"] for one in json.loads(done.stdout)["tables"] if one["behind"]]


@pytest.fixture
def snowflake(stack: Settings, pipeline: Pipeline) -> Iterator[Snowflake]:
    pipeline.send_lines(dirty(300, seed=5).lines())
    pipeline.run()
    pipeline.run_transactions()
    stand_in = StandIn(stack)
    (stack.home / "snowflake" / "state.json").unlink(missing_ok=True)
    stand_in.start()
    login = json.loads((stack.home / "run" / "snowflake.json").read_text())
    told = {f"PAYWAVE_SNOWFLAKE__{name.upper()}": str(login[name]) for name in login if name in _TAKEN}
    own = {
        "PAYWAVE_HOME": str(stack.home),
        "PAYWAVE_SNOWFLAKE__ROLE": "ACCOUNTADMIN",
        "PAYWAVE_SNOWFLAKE__WAREHOUSE": "PAYWAVE_READERS",
        "PAYWAVE_SNOWFLAKE__CATALOG_AUTH": "bearer",
        "PAYWAVE_SNOWFLAKE__BEARER_TOKEN": "any",
    }
    yield Snowflake(stand_in, {**told, **own})
    stand_in.kill()
    make_trouble(stack.home, Trouble())


_TAKEN = ("account", "user", "password", "host", "port", "protocol")


def test_what_is_applied_is_there_and_what_is_changed_by_hand_is_seen(snowflake: Snowflake) -> None:
    assert {action for action, _ in snowflake.plan()} == {"create", "grant"}
    assert len(snowflake.json("apply", "--dry-run")["done"]) == len(snowflake.plan())
    made = snowflake.json("apply")
    assert not made["held"]
    assert len(made["done"]) > 40
    assert snowflake.plan() == []
    assert snowflake.json("apply")["done"] == []

    ask = snowflake.stand_in.ask
    ask("ALTER WAREHOUSE paywave_readers SET AUTO_SUSPEND = 3600")
    ask("GRANT SELECT ON TABLE paywave_lake.curated.payments TO ROLE paywave_fraud_reader")
    ask("CREATE OR REPLACE VIEW paywave.fraud.fraud_features AS SELECT 1 AS nothing")
    ask("CREATE VIEW paywave.fraud.old COMMENT = 'of ours once [paywave]' AS SELECT 1 AS k")
    assert set(snowflake.plan()) == {
        ("alter", "WAREHOUSE PAYWAVE_READERS"),
        ("alter", "VIEW PAYWAVE.FRAUD.FRAUD_FEATURES"),
        ("grant", "SELECT ON VIEW PAYWAVE.FRAUD.FRAUD_FEATURES TO ROLE PAYWAVE_FRAUD_READER"),
        ("revoke", f"SELECT ON ICEBERG TABLE {LAKE} TO ROLE PAYWAVE_FRAUD_READER"),
        ("drop", "VIEW PAYWAVE.FRAUD.OLD"),
    }
    held = snowflake.json("apply")["held"]
    assert [one["action"] for one in held] == ["revoke", "drop"]
    assert len(snowflake.plan()) == 2
    assert not snowflake.json("apply", "--allow-destroy")["held"]
    assert snowflake.plan() == []


def test_consumers_read_the_same_numbers_as_the_lakes_own_reader(
    snowflake: Snowflake, pipeline: Pipeline
) -> None:
    snowflake.json("apply")
    ask, own = snowflake.stand_in.ask, pipeline.query
    ask("USE WAREHOUSE paywave_readers")
    assert ask("SELECT COUNT(*), SUM(amount) FROM paywave.payments.payments") == own(
        f"SELECT count(*), sum(amount) FROM {PAYMENTS}"
    )
    columns = "source, network, currency"
    settled = ask(f"SELECT day, {columns}, payments, net FROM paywave.settlement.daily_settlement")
    assert sorted(settled, key=str) == sorted(
        own(f"""
        SELECT (event_ts AT TIME ZONE 'UTC')::DATE AS day, {columns}, count(*),
               sum(CASE event_type WHEN 'CAPTURE' THEN amount WHEN 'AUTH' THEN 0 ELSE -amount END)
        FROM {PAYMENTS} WHERE status = 'APPROVED' GROUP BY ALL
    """),
        key=str,
    )
    features = "business_key, authorisations_24h, declined_24h, amount_24h, merchants_known"
    frame = "ORDER BY epoch_us(event_ts) RANGE BETWEEN 86400000000 PRECEDING AND CURRENT ROW"
    found = ask(f"SELECT {features} FROM paywave.fraud.fraud_features")
    assert sorted(found, key=str) == sorted(
        own(f"""
        SELECT business_key, count(*) OVER (PARTITION BY account_id {frame}),
               count(*) FILTER (status = 'DECLINED') OVER (PARTITION BY account_id {frame}),
               sum(amount) OVER (PARTITION BY account_id, currency {frame}),
               row_number() OVER (PARTITION BY account_id, merchant_id ORDER BY event_ts, business_key) - 1
        FROM {PAYMENTS} WHERE event_type = 'AUTH'
    """),
        key=str,
    )
    ((rows, net),) = ask("SELECT COUNT(*), COUNT(transaction_net) FROM paywave.customers.customer_timeline")
    assert rows == net == own(f"SELECT count(*) FROM {PAYMENTS}")[0][0], "each payment has its transaction"
    assert own(f"SELECT count(*) > 0 FROM {TRANSACTIONS}") == [(True,)]


def test_a_refresh_that_stalls_is_seen_asked_for_by_hand_and_over_when_it_is_over(
    snowflake: Snowflake, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_PAUSES", (0.1,))
    snowflake.json("apply")
    assert snowflake.stale() == []
    snowflake.stand_in.ask("ALTER CATALOG INTEGRATION paywave_lake SET REFRESH_INTERVAL_SECONDS = 1")
    make_trouble(snowflake.stand_in.home, Trouble(stalled=(LAKE,)))
    pipeline.send_lines([wire("more", merchant_id="more")])
    pipeline.run()  # readers of the lake are not affected
    assert pipeline.query(f"SELECT count(*) FROM {PAYMENTS} WHERE merchant_id = 'more'") == [(1,)]
    assert PAYMENTS in snowflake.stale()
    snowflake.json("refresh", "--all", code=1)
    assert snowflake.stale() == [PAYMENTS], "the others were refreshed by hand"
    until(lambda: snowflake.stand_in.status(LAKE)["executionState"] == "STALLED")
    said = snowflake.json("status", code=1)["tables"]
    assert {one["table"]: one["state"] for one in said}[PAYMENTS] == "STALLED"
    failed = snowflake.run("refresh")
    assert failed.exit_code == 1
    assert "docs/runbooks/snowflake-refresh.md" in failed.output
    make_trouble(snowflake.stand_in.home, Trouble())
    assert [one["error"] for one in snowflake.json("refresh", "--all")["refreshed"]] == [None] * 3
    assert snowflake.stale() == []
    assert VERSIONS in {one["table"] for one in snowflake.json("status")["tables"]}


def test_dagster_sees_what_is_late_has_it_refreshed_and_tells_when_it_cannot_look(
    snowflake: Snowflake, monkeypatch: pytest.MonkeyPatch
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


def test_what_is_wrong_is_said_once_with_the_object_and_the_way_out(snowflake: Snowflake) -> None:
    wrong = {**snowflake.environment, "PAYWAVE_SNOWFLAKE__PASSWORD": "guess"}
    refused = Snowflake(snowflake.stand_in, wrong).run("plan")
    assert "refused the login of" in str(refused.exception)
    snowflake.json("apply")
    make_trouble(snowflake.stand_in.home, Trouble(denied=(LAKE,)))
    denied = snowflake.run("status")
    assert "may not" in str(denied.exception) or "finds no such object" in str(denied.exception)
    snowflake.stand_in.kill()
    gone = Snowflake(snowflake.stand_in, {**snowflake.environment}).run("plan")
    assert "cannot reach" in str(gone.exception), gone.exception
