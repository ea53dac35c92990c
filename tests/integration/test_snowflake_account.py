"""What must hold in every account of Snowflake: the stand-in's, and with `-m snowflake_live` a real one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from cli.context import catalog_of
from config.settings import Settings
from lakehouse.definitions import PAYMENTS, TRANSACTIONS
from snowflake_external.estate import EXPOSED
from tests.events import wire_now
from tests.pipeline import Pipeline
from tests.snowflakes import Snowflake, missing, real_account, scratch, stand_in_account
from tests.streams import dirty

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def filled(stack: Settings, catalog: RestCatalog, spark: SparkSession) -> Settings:
    """A stack whose tables have two batches of payments, and their transactions."""
    pipeline = Pipeline(stack, catalog, spark)
    pipeline.send_lines(dirty(300, seed=5).lines())
    pipeline.run()
    pipeline.send_lines([wire_now("later", merchant_id="later")])
    pipeline.run()
    pipeline.run_transactions()
    return stack


@pytest.fixture(scope="module", params=["stand-in", pytest.param("real", marks=pytest.mark.snowflake_live)])
def account(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snowflake]:
    """An account, and a lake that it can reach."""
    if request.param == "real":
        if lacking := missing(os.environ):
            pytest.skip(f"no account of Snowflake is given: set {', '.join(lacking)}")
        yield real_account(os.environ, tmp_path_factory.mktemp("account"))
        return
    with stand_in_account(request.getfixturevalue("filled")) as (_, snowflake):
        yield snowflake


@pytest.fixture(scope="module")
def snowflake(account: Snowflake) -> Iterator[Snowflake]:
    """A scratch in it where everything is as it should be."""
    with scratch(account) as snowflake:
        snowflake.json("apply")
        snowflake.see_all()
        yield snowflake


def test_a_scratch_is_made_from_nothing_and_removed_even_after_a_failure(account: Snowflake) -> None:
    with pytest.raises(ZeroDivisionError), scratch(account) as snowflake:
        prefix = snowflake.prefix
        planned = snowflake.plan()
        assert {action for action, _ in planned} == {"create", "grant"}
        assert len(snowflake.json("apply", "--dry-run")["done"]) == len(planned)
        made = snowflake.json("apply")
        assert (len(made["done"]), made["held"]) == (len(planned), [])
        assert snowflake.plan() == [], "the second plan is empty"
        raise ZeroDivisionError
    for kind in ("DATABASES", "WAREHOUSES", "ROLES", "EXTERNAL VOLUMES", "CATALOG INTEGRATIONS"):
        assert account.ask(f"SHOW {kind} LIKE '{prefix}%'") == [], kind


def test_what_is_applied_is_there_and_what_is_changed_by_hand_is_seen(snowflake: Snowflake) -> None:
    assert snowflake.plan() == []
    assert snowflake.json("apply")["done"] == []
    name = snowflake.prefix
    snowflake.ask(
        f"ALTER WAREHOUSE {name}_READERS SET AUTO_SUSPEND = 3600",
        f"GRANT SELECT ON TABLE {name}_LAKE.CURATED.PAYMENTS TO ROLE {name}_FRAUD_READER",
        f"CREATE OR REPLACE VIEW {name}.FRAUD.FRAUD_FEATURES AS SELECT 1 AS nothing",
        f"ALTER VIEW {name}.PAYMENTS.PAYMENTS DROP ROW ACCESS POLICY {name}.GOVERNANCE.PARTNER_ROWS",
        f"ALTER RESOURCE MONITOR {name}_READERS SET CREDIT_QUOTA = 100 TRIGGERS ON 90 PERCENT DO NOTIFY",
        f"CREATE VIEW {name}.FRAUD.OLD COMMENT = 'of ours once [paywave]' AS SELECT 1 AS k",
    )
    assert set(snowflake.plan()) == {
        ("alter", f"WAREHOUSE {name}_READERS"),
        ("alter", f"RESOURCE MONITOR {name}_READERS"),
        ("alter", f"VIEW {name}.FRAUD.FRAUD_FEATURES"),
        ("alter", f"VIEW {name}.PAYMENTS.PAYMENTS"),
        ("grant", f"SELECT ON VIEW {name}.FRAUD.FRAUD_FEATURES TO ROLE {name}_FRAUD_READER"),
        ("revoke", f"SELECT ON ICEBERG TABLE {name}_LAKE.CURATED.PAYMENTS TO ROLE {name}_FRAUD_READER"),
        ("drop", f"VIEW {name}.FRAUD.OLD"),
    }
    held = snowflake.json("apply")["held"]
    assert [one["action"] for one in held] == ["revoke", "drop"]
    assert len(snowflake.plan()) == 2
    assert not snowflake.json("apply", "--allow-destroy")["held"]
    assert snowflake.plan() == []
    renewed = snowflake.json("apply", "--renew-secrets")["done"]
    assert {one["action"] for one in renewed} <= {"renew"}, "a role that AWS knows has no secret"


def test_a_day_of_refreshing_is_guessed_for_every_table(snowflake: Snowflake) -> None:
    found = snowflake.json("cost")["refresh_per_day"]
    assert [one["table"] for one in found] == list(EXPOSED)
    assert all(0 <= one["refreshes"] <= one["commits"] for one in found)
    said = snowflake.run("cost")
    assert "a guess" in said.output, said.exception


def test_a_refresh_by_hand_brings_every_table_to_the_lakes_newest_commit(snowflake: Snowflake) -> None:
    done = snowflake.json("refresh", "--all")["refreshed"]
    assert [(one["table"], one["error"]) for one in done] == [(table, None) for table in EXPOSED]
    assert snowflake.stale() == []


def test_consumers_read_the_same_numbers_as_the_lakes_own_reader(snowflake: Snowflake) -> None:
    ask, own, name = snowflake.ask, snowflake.own, snowflake.prefix
    snowflake.json("refresh", "--all")
    totals = own(f"SELECT count(*), sum(amount) FROM {PAYMENTS}")
    assert ask(f"SELECT COUNT(*), SUM(amount) FROM {name}.PAYMENTS.PAYMENTS") == totals
    columns = "source, network, currency"
    settled = ask(f"SELECT day, {columns}, payments, net FROM {name}.SETTLEMENT.DAILY_SETTLEMENT")
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
    found = ask(f"SELECT {features} FROM {name}.FRAUD.FRAUD_FEATURES")
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
    ((rows, net),) = ask(f"SELECT COUNT(*), COUNT(transaction_net) FROM {name}.CUSTOMERS.CUSTOMER_TIMELINE")
    assert rows == net == totals[0][0], "each payment has its transaction"
    assert own(f"SELECT count(*) > 0 FROM {TRANSACTIONS}") == [(True,)]


def test_an_older_snapshot_reads_the_same_in_snowflake_and_in_the_lake(snowflake: Snowflake) -> None:
    snowflake.json("refresh", "--all")
    log = catalog_of(snowflake.settings()).load_table(PAYMENTS).history()
    older = next(one.snapshot_id for one in reversed(log) if one.snapshot_id != log[-1].snapshot_id)
    columns = "business_key, amount, currency, event_ts, status"
    sql = f"SELECT {columns} FROM {PAYMENTS} AS p ORDER BY business_key"
    for moment in (("--snapshot", f"{PAYMENTS}={older}"), ("--tag", "progress"), ("--consistent",)):
        told = snowflake.json("query", sql, *moment)
        own = snowflake.paywave("query", sql, *moment, "--output", "json")
        expected = json.loads(own.stdout)
        assert told["snapshots"] == expected["snapshots"]
        assert told["rows"] == expected["rows"], (moment, told["way"], told["why"])
        assert told["columns"] == columns.split(", ")
        may_lack = not snowflake.is_stand_in and "does not read" in told["why"]  # versions are a preview
        assert told["way"] == "snowflake" or may_lack, (moment, told["why"])


def test_two_in_one_account_leave_each_other_alone(account: Snowflake, snowflake: Snowflake) -> None:
    with scratch(account) as other:
        assert {action for action, _ in other.plan()} == {"create", "grant"}
        other.json("apply", "--allow-destroy")
        assert snowflake.plan() == []


def test_a_database_that_follows_the_catalog_serves_the_same_views(account: Snowflake) -> None:
    with scratch(account.but(LINKED="true")) as snowflake:
        snowflake.json("apply")
        assert snowflake.plan() == []
        snowflake.see_all()
        snowflake.json("refresh", "--all")
        assert snowflake.stale() == []
        count = f"SELECT count(*) AS n FROM {PAYMENTS}"
        expected = snowflake.own(count)
        assert snowflake.ask(f"SELECT COUNT(*) FROM {snowflake.prefix}.PAYMENTS.PAYMENTS") == expected
        assert snowflake.json("query", count)["rows"] == [list(expected[0])]


def test_a_role_that_is_not_there_is_named_with_the_grant(snowflake: Snowflake) -> None:
    nobody = f"{snowflake.prefix}_NOBODY"
    refused = snowflake.but(ROLE=nobody).run("plan").exception
    assert nobody in str(refused)
    assert f"GRANT ROLE {nobody} TO USER" in getattr(refused, "hint", "")
