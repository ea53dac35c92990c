"""Plans, and what applying them does, on the stand-in in this process: what was changed by hand is mended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from snowflake.connector.errors import ProgrammingError

from lakehouse.definitions import BY_NAME, PAYMENTS
from local.snowflake import linked
from local.snowflake.trouble import Trouble, make_trouble
from snowflake_external.apply import Applied, NotAll, apply, planned, split
from snowflake_external.deployment import Bearer, Deployment, RestCatalog, S3Volume
from snowflake_external.estate import EXPOSED, estate_of
from snowflake_external.plan import Action, Change, plan, renewals
from snowflake_external.privileges import held
from snowflake_external.refusals import refusal
from snowflake_external.resources import Key, Kind
from snowflake_external.watch import readers_stopped
from tests.unit.test_snowflake_stand_in import Snowflake

DEPLOYMENT = Deployment(S3Volume("s3://lake/"), RestCatalog("http://127.0.0.1:9", Bearer("hush")))
LINKED = replace(DEPLOYMENT, linked=True)
VIEW = "PAYWAVE.PAYMENTS.PAYMENTS"
# Somebody else's table, which keeps the integration and the volume from being dropped.
STRANGERS = (
    "CREATE DATABASE other",
    "CREATE ICEBERG TABLE other.public.t EXTERNAL_VOLUME = 'PAYWAVE_LAKE' CATALOG = 'PAYWAVE_LAKE' "
    "CATALOG_NAMESPACE = 'curated' CATALOG_TABLE_NAME = 'payments'",
)


class Account(Snowflake):
    """An account whose every integration leads to a catalog on files, with the curated tables, empty."""

    def __init__(self, home: Path, deployment: Deployment) -> None:
        super().__init__(home)
        self.deployment = deployment
        (home / "wh").mkdir(exist_ok=True)
        self.catalog = SqlCatalog("c", uri=f"sqlite:///{home / 'c.db'}", warehouse=f"file://{home / 'wh'}")
        self.catalog.create_namespace_if_not_exists("curated")
        for name in EXPOSED:
            self.catalog.create_table_if_not_exists(name, BY_NAME[name].schema())
        self.account.catalogs.connect = lambda _: self.catalog  # type: ignore[assignment,return-value]
        self.connection.session.warehouse = "PAYWAVE_READERS"

    def asked(self, text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """As the product asks: rows by lower-case name, and its own errors."""
        try:
            rows = self.ask(text)
        except ProgrammingError as error:
            raise refusal(error.errno, str(error.raw_msg), text, "ACCOUNTADMIN") from error
        return [{name.lower(): value for name, value in row.items()} for row in rows]

    def plan(self) -> tuple[Change, ...]:
        return planned(estate_of(self.deployment), self.asked)

    def apply(self, allow_destroy: bool = False) -> Applied:
        log = self.home / "applied.jsonl"
        return apply(self.plan(), self.asked, log, allow_destroy, pauses=(1.0,), sleep=self._discover)

    def _discover(self, _seconds: float) -> None:
        for database in self.account.registry.of_kind("DATABASE"):
            if "LINKED_CATALOG" in database.options:
                linked.discover(database, self.account)

    def told(self) -> list[tuple[str, str]]:
        return [(str(change.action), change.what) for change in self.plan()]

    def link(self) -> dict[str, Any]:
        options = self.account.registry.need("DATABASE", ("PAYWAVE_LAKE",)).options
        found: dict[str, Any] = options["LINKED_CATALOG"]
        return found


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Account:
    """An account where all was applied; each test brings it back to that."""
    account = Account(tmp_path_factory.mktemp("account"), DEPLOYMENT)
    account.apply()
    return account


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> Account:
    """The same with a database that follows the catalog."""
    account = Account(tmp_path_factory.mktemp("account"), LINKED)
    account.apply()
    return account


@pytest.mark.parametrize(
    ("statement", "differs"),
    [
        (f"ALTER VIEW {VIEW} DROP ROW ACCESS POLICY PAYWAVE.GOVERNANCE.PARTNER_ROWS", "POLICIES"),
        (f"ALTER VIEW {VIEW} MODIFY COLUMN card_id UNSET MASKING POLICY", "POLICIES"),
        (f"ALTER VIEW {VIEW} UNSET TAG PAYWAVE.GOVERNANCE.SENSITIVITY", "TAGS"),
        (f"ALTER VIEW {VIEW} SET TAG PAYWAVE.GOVERNANCE.SENSITIVITY = 'internal'", "TAGS"),
        ("insecure", "SECURE"),
    ],
)
def test_a_view_that_protects_less_than_its_text_says_is_made_over(
    account: Account, statement: str, differs: str
) -> None:
    if statement == "insecure":
        text = account.account.registry.need("VIEW", tuple(VIEW.split("."))).text
        statement = text.replace(" SECURE ", " ", 1)
    account.ask(statement)
    (change,) = account.plan()
    assert (change.action, change.what) == (Action.ALTER, f"VIEW {VIEW}")
    assert [name for name, _, _ in change.because] == [differs]
    account.apply()
    assert account.plan() == ()


def test_where_no_warehouse_runs_nobody_says_that_the_views_protect_what_they_should(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = account.asked

    def without(text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        if "_REFERENCES(" in text:
            raise refusal(606, "No active warehouse selected.", text, None)
        return ask(text, parameters)

    monkeypatch.setattr(account, "asked", without)
    changes = account.plan()
    assert {change.action for change in changes} == {Action.ALTER}
    assert all("no warehouse runs" in found for change in changes for _, found, _ in change.because)
    assert len(account.apply().done) == len(changes), "making them over takes no warehouse"


@pytest.mark.parametrize(
    "said",
    [
        *("SET CREDIT_QUOTA = 9", "SET FREQUENCY = DAILY START_TIMESTAMP = IMMEDIATELY"),
        "TRIGGERS ON 90 PERCENT DO NOTIFY ON 100 PERCENT DO SUSPEND",
        *("TRIGGERS ON 80 PERCENT DO NOTIFY", "TRIGGERS ON 80 PERCENT DO NOTIFY ON 99 PERCENT DO SUSPEND"),
    ],
)
def test_a_monitor_is_mended_at_once_and_keeps_its_limit(account: Account, said: str) -> None:
    account.ask(f"ALTER RESOURCE MONITOR PAYWAVE_READERS {said}")
    assert account.told() == [("alter", "RESOURCE MONITOR PAYWAVE_READERS")]
    account.apply()
    assert account.plan() == ()


@pytest.mark.parametrize("deployment", [DEPLOYMENT, LINKED])
def test_a_catalog_and_a_volume_that_moved_are_replaced_with_what_stands_on_them(
    tmp_path: Path, deployment: Deployment
) -> None:
    account = Account(tmp_path, deployment)
    account.apply()
    moved = replace(deployment.catalog, uri="http://127.0.0.1:10")
    account.deployment = replace(deployment, catalog=moved, volume=S3Volume("s3://elsewhere/"))
    what = "EXTERNAL VOLUME PAYWAVE_LAKE, CATALOG INTEGRATION PAYWAVE_LAKE"
    assert account.told() == [("replace", what)]
    assert account.apply().done == (), "it waits for leave, and nothing that stands on it is tried"
    for statement in STRANGERS:
        account.ask(statement)
    with pytest.raises(NotAll, match="is used by OTHER"):
        account.apply(allow_destroy=True)
    for statement in ("USE DATABASE PAYWAVE", "DROP DATABASE other"):
        account.ask(statement)
    assert not account.apply(allow_destroy=True).held, "it goes on from there"
    assert account.plan() == ()
    assert account.ask(f"SELECT count(*) AS n FROM {VIEW}") == [{"N": 0}]


def test_what_a_view_lost_does_not_wait_for_leave_to_replace(tmp_path: Path) -> None:
    account = Account(tmp_path, DEPLOYMENT)
    account.apply()
    account.ask(f"ALTER VIEW {VIEW} DROP ROW ACCESS POLICY PAYWAVE.GOVERNANCE.PARTNER_ROWS")
    account.deployment = replace(DEPLOYMENT, catalog=replace(DEPLOYMENT.catalog, uri="http://127.0.0.1:10"))
    assert [action for action, _ in account.told()] == ["alter", "replace"]
    assert [change.action for change in account.apply().done] == [Action.ALTER]
    assert [action for action, _ in account.told()] == ["replace"], "the policy is on again"


MOVED = replace(DEPLOYMENT, catalog=replace(DEPLOYMENT.catalog, uri="http://127.0.0.1:10"))
GRANT = f"SELECT ON VIEW {VIEW} TO ROLE PAYWAVE_PAYMENTS_READER"


def test_a_view_made_over_by_hand_is_closed_before_anyone_may_read_it_though_a_replacement_waits(
    tmp_path: Path,
) -> None:
    account = Account(tmp_path, DEPLOYMENT)
    account.apply()
    account.ask(f"CREATE OR REPLACE VIEW {VIEW} AS SELECT * FROM PAYWAVE_LAKE.CURATED.PAYMENTS")
    account.deployment = MOVED
    moved = ("replace", "CATALOG INTEGRATION PAYWAVE_LAKE")
    assert account.told() == [("alter", f"VIEW {VIEW}"), moved, ("grant", GRANT)]
    (replacement,) = (change for change in account.plan() if change.action is Action.REPLACE)
    assert not any(VIEW in name for name, _, _ in replacement.because), "it is mended before"
    assert [change.action for change in account.apply().done] == [Action.ALTER, Action.GRANT]
    assert account.told() == [moved]


@pytest.mark.parametrize("deployment", [DEPLOYMENT, LINKED])
def test_a_view_that_is_missing_keeps_nothing_from_being_applied_though_a_replacement_waits(
    tmp_path: Path, deployment: Deployment
) -> None:
    account = Account(tmp_path, deployment)
    account.apply()
    account.ask(f"DROP VIEW {VIEW}")
    account.deployment = replace(MOVED, linked=deployment.linked)
    done = [change.action for change in account.apply().done]
    assert done == ([] if deployment.linked else [Action.CREATE, Action.GRANT])
    assert ("replace", "CATALOG INTEGRATION PAYWAVE_LAKE") in account.told()
    account.apply(allow_destroy=True)
    assert account.plan() == ()


def test_what_only_a_replacement_can_make_is_granted_to_nobody_before(tmp_path: Path) -> None:
    account = Account(tmp_path, DEPLOYMENT)
    account.apply()
    for statement in (f"DROP VIEW {VIEW}", "DROP TABLE PAYWAVE_LAKE.CURATED.PAYMENTS"):
        account.ask(statement)
    account.deployment = MOVED
    applied = account.apply()
    assert applied.done == ()
    assert [change.what for change in applied.held] == ["CATALOG INTEGRATION PAYWAVE_LAKE", GRANT]
    account.apply(allow_destroy=True)
    assert account.plan() == ()


def test_what_a_replacement_makes_anyway_is_not_tried_before_it(tmp_path: Path) -> None:
    account = Account(tmp_path, DEPLOYMENT)
    account.apply()
    account.ask(f"ALTER VIEW {VIEW} DROP ROW ACCESS POLICY PAYWAVE.GOVERNANCE.PARTNER_ROWS")
    account.deployment = MOVED
    assert [change.action for change in split(account.plan(), allow_destroy=True).done] == [Action.REPLACE]
    account.deployment = LINKED
    account.ask(f"CREATE OR REPLACE VIEW {VIEW} AS SELECT * FROM PAYWAVE_LAKE.CURATED.PAYMENTS")
    applied = account.apply()
    assert applied.done == (), "its tables have other names then"
    assert [change.action for change in applied.held] == [Action.REPLACE, Action.GRANT]


@pytest.mark.parametrize(("before", "after"), [(DEPLOYMENT, LINKED), (LINKED, DEPLOYMENT)])
def test_following_the_catalog_is_switched_on_and_off(
    tmp_path: Path, before: Deployment, after: Deployment
) -> None:
    account = Account(tmp_path, before)
    account.apply()
    account.deployment = after
    assert account.told() == [("replace", "DATABASE PAYWAVE_LAKE")]
    assert account.apply().done == ()
    account.apply(allow_destroy=True)
    assert account.plan() == ()
    assert account.ask(f"SELECT count(*) AS n FROM {VIEW}") == [{"N": 0}]


def test_a_warehouse_that_its_monitor_has_suspended_is_seen(account: Account) -> None:
    assert readers_stopped(DEPLOYMENT, account.asked) is None
    make_trouble(account.home, Trouble(suspended=("PAYWAVE_READERS",)))
    assert "credits are used up" in str(readers_stopped(DEPLOYMENT, account.asked))
    make_trouble(account.home, Trouble())


def test_writes_that_somebody_opened_are_closed_in_place(following: Account) -> None:
    following.ask("ALTER DATABASE PAYWAVE_LAKE UPDATE LINKED_CATALOG SET ALLOWED_WRITE_OPERATIONS = ALL")
    (change,) = following.plan()
    assert not change.destroys
    following.apply()
    assert following.plan() == ()
    assert following.link()["ALLOWED_WRITE_OPERATIONS"] == "NONE"


@pytest.mark.parametrize(
    "said",
    [
        ("ADD ('pipeline', 'raw') TO ALLOWED_NAMESPACES",),
        ("ADD ('raw') TO ALLOWED_NAMESPACES", "REMOVE ('curated') FROM ALLOWED_NAMESPACES"),
        ("REMOVE ('curated') FROM ALLOWED_NAMESPACES",),  # which follows all of them
    ],
)
def test_only_the_curated_tables_are_followed(following: Account, said: tuple[str, ...]) -> None:
    for one in said:
        following.ask(f"ALTER DATABASE PAYWAVE_LAKE UPDATE LINKED_CATALOG {one}")
    assert following.told() == [("alter", "DATABASE PAYWAVE_LAKE")]
    following.apply()
    assert following.plan() == ()
    assert following.link()["ALLOWED_NAMESPACES"] == ["curated"]


def test_a_database_that_may_be_written_through_is_closed_before_it_is_dropped(following: Account) -> None:
    following.ask("ALTER DATABASE PAYWAVE_LAKE UPDATE LINKED_CATALOG SET ALLOWED_WRITE_OPERATIONS = ALL")
    (change,) = planned(estate_of(DEPLOYMENT), following.asked)
    following.apply()
    assert [one.text for one in change.statements][:2] == [
        'ALTER DATABASE "PAYWAVE_LAKE" UPDATE LINKED_CATALOG SET ALLOWED_WRITE_OPERATIONS = NONE',
        'DROP DATABASE IF EXISTS "PAYWAVE_LAKE"',
    ]


def test_a_secret_is_told_again_and_nothing_else_of_the_integration_changes(account: Account) -> None:
    entry = account.account.registry.need("CATALOG INTEGRATION", ("PAYWAVE_LAKE",))
    catalog = replace(DEPLOYMENT.catalog, authentication=Bearer("newer"))
    estate = estate_of(replace(DEPLOYMENT, catalog=catalog))
    assert renewals(estate, plan(estate, {}, (), ())) == (), "it is told it when it is made"
    (change,) = renewals(estate, ())
    assert not change.destroys
    assert "newer" not in str(change.to_json())
    before = dict(entry.options["REST_AUTHENTICATION"])
    apply((change,), account.asked, account.home / "log")
    assert entry.options["REST_AUTHENTICATION"] == before | {"BEARER_TOKEN": "newer"}
    assert "newer" not in (account.home / "log").read_text()
    for other in ("TYPE = OAUTH", "OAUTH_CLIENT_SECRET = 'of another type'"):
        with pytest.raises(ProgrammingError):
            account.ask(f"ALTER CATALOG INTEGRATION PAYWAVE_LAKE SET REST_AUTHENTICATION = ({other})")


@pytest.mark.parametrize(
    ("on", "what"),
    [
        (
            "SELECT ON TABLE PAYWAVE_LAKE.CURATED.PAYMENTS",
            "SELECT ON ICEBERG TABLE PAYWAVE_LAKE.CURATED.PAYMENTS",
        ),
        ("USAGE ON SCHEMA PAYWAVE_LAKE.CURATED", "USAGE ON SCHEMA PAYWAVE_LAKE.CURATED"),
    ],
)
def test_nobody_else_has_anything_of_the_lakes_tables(account: Account, on: str, what: str) -> None:
    account.ask(f"GRANT {on} TO ROLE PUBLIC")
    assert account.told() == [("revoke", f"{what} TO ROLE PUBLIC")]
    account.apply(allow_destroy=True)
    assert account.plan() == ()


def test_a_grant_on_a_volume_is_revoked(account: Account) -> None:
    account.ask("GRANT USAGE ON EXTERNAL VOLUME PAYWAVE_LAKE TO ROLE PAYWAVE_FRAUD_READER")
    assert account.told() == [
        ("revoke", "USAGE ON EXTERNAL VOLUME PAYWAVE_LAKE TO ROLE PAYWAVE_FRAUD_READER")
    ]
    account.apply(allow_destroy=True)
    assert account.plan() == ()


def test_what_no_revoke_of_ours_names_is_said_and_left_to_a_person(account: Account) -> None:
    account.ask("GRANT MANAGE GRANTS ON ACCOUNT TO ROLE PAYWAVE_FRAUD_READER")
    (change,) = account.plan()
    assert (change.action, change.statements) == (Action.BY_HAND, ())
    assert change.what.startswith("revoke MANAGE GRANTS ON ACCOUNT")
    assert split(account.plan(), allow_destroy=True).held == (change,)
    assert account.apply(allow_destroy=True).done == ()
    account.ask("REVOKE MANAGE GRANTS ON ACCOUNT FROM ROLE PAYWAVE_FRAUD_READER")


def test_shares_and_grants_on_tables_to_come_are_said() -> None:
    table = Key(Kind.ICEBERG_TABLE, ("L", "C", PAYMENTS.upper()))
    sealed = (Key(Kind.SCHEMA, ("L", "C")), table)
    to_share = {"privilege": "SELECT", "granted_to": "SHARE", "grantee_name": "OUT"}
    to_come = {"privilege": "SELECT", "grant_on": "TABLE", "name": "L.C.<TABLE>"}
    shown = {
        'SHOW GRANTS ON TABLE "L"."C"."CURATED.PAYMENTS"': [to_share],
        'SHOW FUTURE GRANTS IN SCHEMA "L"."C"': [{**to_come, "grant_to": "ROLE", "grantee_name": "PUBLIC"}],
        'SHOW FUTURE GRANTS IN DATABASE "L"': [{**to_come, "grant_to": "ROLE", "grantee_name": "OTHER"}],
    }

    def ask(text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        return shown.pop(text, [])

    found = held(ask, (), sealed)
    assert not shown
    assert (found.grants, len(found.strange)) == (set(), 3)
    assert any("FROM SHARE OUT" in one for one in found.strange)
