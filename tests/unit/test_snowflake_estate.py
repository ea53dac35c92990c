"""What Snowflake should have and how it gets there: statements it takes, and plans that come to an end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlfluff.core import FluffConfig, Linter
from sqlglot import exp

from lakehouse.definitions import BY_NAME, PAYMENTS
from lakehouse.definitions.table import TEXT, Column
from snowflake_external import ddl
from snowflake_external.apply import NotAll, apply, recorded, split
from snowflake_external.deployment import Bearer, Deployment, OAuth, RestCatalog, S3Volume, SigV4
from snowflake_external.errors import Missing, WrongName
from snowflake_external.estate import estate_of
from snowflake_external.existing import Account
from snowflake_external.plan import Action, Change, plan, renewals
from snowflake_external.resources import Estate, Key, Kind
from snowflake_external.sql import identifier, literal
from snowflake_external.terraform import configuration, is_stable

GOLDEN = Path(__file__).parents[1] / "data" / "snowflake"
LAKE_PAYMENTS = ("PAYWAVE_LAKE", "CURATED", "PAYMENTS")
VOLUME = S3Volume("s3://lake/warehouse", "arn:aws:iam::123456789012:role/snowflake", "external-id")
DEPLOYMENTS = {
    "oauth": Deployment(VOLUME, RestCatalog("https://catalog.example/iceberg", OAuth("client", "secret-1"))),
    "glue": Deployment(
        VOLUME,
        RestCatalog(
            "https://glue.us-east-1.amazonaws.com/iceberg",
            SigV4("arn:aws:iam::123456789012:role/glue", "us-east-1"),
            catalog_name="123456789012",
            api_type="AWS_GLUE",
        ),
    ),
    "open_catalog_linked": Deployment(
        VOLUME,
        RestCatalog("https://x.snowflakecomputing.com/polaris", Bearer("secret-2"), "lake", source="POLARIS"),
        linked=True,
    ),
}
# Documented by Snowflake, and not in sqlfluff's grammar yet.
NOT_PARSED = (
    "ALTER CATALOG INTEGRATION",
    "ALTER DATABASE",
    "ALTER ICEBERG TABLE",
    "CREATE DATABASE \"PAYWAVE_LAKE\" LINKED_CATALOG",
    "DROP CATALOG INTEGRATION",
    "DROP MASKING POLICY",
)  # fmt: skip


def from_nothing(deployment: Deployment) -> tuple[Change, ...]:
    return plan(estate_of(deployment), {}, [], [])


def as_it_should_be(estate: Estate) -> dict[Key, dict[str, str]]:
    return {resource.key: resource.facts() for resource in estate.resources}


def with_changed(estate: Estate, key: Key, name: str, value: str) -> tuple[Change, ...]:
    found = as_it_should_be(estate)
    found[key] = found[key] | {name: value}
    return plan(estate, found, estate.grants, list(found))


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_what_would_be_sent_is_what_people_agreed_to(name: str) -> None:
    assert rendered(DEPLOYMENTS[name]) == (GOLDEN / f"{name}.sql").read_text(), (
        "look at the difference, then renew it: python -m tests.unit.test_snowflake_estate"
    )


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_snowflakes_grammar_takes_every_statement(name: str) -> None:
    linter = Linter(config=FluffConfig(overrides={"dialect": "snowflake"}))
    estate = estate_of(DEPLOYMENTS[name])
    statements = [s for change in from_nothing(DEPLOYMENTS[name]) for s in change.statements]
    for resource in estate.resources:
        statements.append(ddl.drop(resource.key))
        for fact, value in resource.facts().items():
            statements += ddl.alter(resource, {fact: ("another", value)}) or []
    statements += [ddl.revoke(one) for one in estate.grants]
    for text in {s.text for s in statements if not s.text.startswith(NOT_PARSED)}:
        parsed = linter.parse_string(f"{text};\n")
        assert not parsed.violations, (text, parsed.violations[0].desc())


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_nothing_is_left_to_do_where_all_is_as_it_should_be(name: str) -> None:
    estate = estate_of(DEPLOYMENTS[name])
    found = as_it_should_be(estate)
    assert plan(estate, found, estate.grants, list(found)) == ()


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_everything_is_made_after_what_it_stands_on(name: str) -> None:
    made: set[str] = set()
    estate = estate_of(DEPLOYMENTS[name])
    known = {ddl.name_of(r.key) for r in estate.resources}
    for change in from_nothing(DEPLOYMENTS[name]):
        if change.action is Action.CREATE:
            resource = next(r for r in estate.resources if str(r.key) == change.what)
            (statement,) = change.statements
            own = ddl.name_of(resource.key)
            for other in known - made - {own}:
                assert other not in statement.text or other in own, f"{change.what} before {other}"
            made.add(own)


def test_no_secret_is_shown_compared_or_kept() -> None:
    for deployment in DEPLOYMENTS.values():
        assert "secret-" not in repr(deployment)
        estate = estate_of(deployment)
        assert not any("secret-" in text for r in estate.resources for text in r.facts().values())
        changes = from_nothing(deployment)
        assert not any("secret-" in str(change.to_json()) for change in changes)
    sent = [s.text for change in from_nothing(DEPLOYMENTS["oauth"]) for s in change.statements]
    assert any("OAUTH_CLIENT_SECRET = 'secret-1'" in text for text in sent)


def test_a_column_added_to_the_lakehouse_is_a_change_here(monkeypatch: pytest.MonkeyPatch) -> None:
    before = estate_of(DEPLOYMENTS["oauth"])
    table = BY_NAME[PAYMENTS]
    wider = replace(table, columns=(*table.columns, Column("settled_on", TEXT, "Day it's settled", False)))
    monkeypatch.setitem(BY_NAME, PAYMENTS, wider)
    changes = plan(estate_of(DEPLOYMENTS["oauth"]), as_it_should_be(before), before.grants, [])
    (change,) = changes
    assert (change.action, change.what) == (Action.ALTER, "VIEW PAYWAVE.PAYMENTS.PAYMENTS")
    assert "settled_on COMMENT 'Day it''s settled'" in change.statements[0].text


def test_what_can_be_altered_is_and_what_cannot_waits_for_leave() -> None:
    estate = estate_of(DEPLOYMENTS["oauth"])
    catalog, warehouse = Key(Kind.CATALOG, ("PAYWAVE_LAKE",)), Key(Kind.WAREHOUSE, ("PAYWAVE_READERS",))
    (slower,) = with_changed(estate, catalog, "REFRESH_INTERVAL_SECONDS", "300")
    assert slower.because == (("REFRESH_INTERVAL_SECONDS", "300", "30"),)
    assert [s.text for s in slower.statements] == [
        'ALTER CATALOG INTEGRATION "PAYWAVE_LAKE" SET REFRESH_INTERVAL_SECONDS = 30'
    ]
    (larger,) = with_changed(estate, warehouse, "WAREHOUSE_SIZE", "XLARGE")
    assert not larger.destroys
    (moved,) = with_changed(estate, catalog, "REST_CONFIG.CATALOG_URI", "https://elsewhere.example")
    assert (moved.action, moved.destroys) == (Action.REPLACE, True)
    assert [change.action for change in renewals(estate, split([moved], False).done)] == [Action.RENEW], (
        "a replacement that waits tells no secret"
    )
    assert renewals(estate, split([moved], True).done) == ()
    done = [" ".join(s.text.split()[:2]) for s in moved.statements]
    tables, views = 3, 4
    dropped = ["DROP ICEBERG"] * tables + ["DROP CATALOG"]
    assert done == [*dropped, "CREATE CATALOG", *["CREATE ICEBERG"] * tables, *["CREATE OR"] * views]


def test_another_way_to_authenticate_that_waits_has_no_secret_told() -> None:
    estate = estate_of(DEPLOYMENTS["oauth"])
    changes = with_changed(estate, Key(Kind.CATALOG, ("PAYWAVE_LAKE",)), "REST_AUTHENTICATION.TYPE", "BEARER")
    waits = split(changes, False)
    assert renewals(estate, waits.done, waits.held) == ()


def test_a_monitor_that_has_no_quota_is_given_one() -> None:
    row = {"name": "PAYWAVE_READERS", "credit_quota": None, "frequency": "MONTHLY", "comment": None}
    row |= {"notify_at": "80%", "suspend_at": "100%"}

    def ask(text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        return [dict(row)]

    estate = estate_of(DEPLOYMENTS["oauth"])
    found, key = as_it_should_be(estate), Key(Kind.MONITOR, ("PAYWAVE_READERS",))
    found[key] = Account(ask).facts(key) or {}
    (change,) = plan(estate, found, estate.grants, list(found))
    assert [s.text for s in change.statements] == [
        'ALTER RESOURCE MONITOR "PAYWAVE_READERS" SET CREDIT_QUOTA = 100'
    ]


def test_a_replacement_says_what_else_is_wrong_with_what_stands_on_it() -> None:
    estate = estate_of(DEPLOYMENTS["oauth"])
    found = as_it_should_be(estate)
    catalog, table = Key(Kind.CATALOG, ("PAYWAVE_LAKE",)), Key(Kind.ICEBERG_TABLE, LAKE_PAYMENTS)
    gone = next(key for key in found if key.kind is Kind.ICEBERG_TABLE and key != table)
    found[catalog] = found[catalog] | {"REST_CONFIG.CATALOG_URI": "https://elsewhere.example"}
    found[table] = found[table] | {"AUTO_REFRESH": "FALSE"}
    del found[gone]
    (moved,) = plan(estate, found, estate.grants, list(found))
    assert set(moved.because[1:]) == {
        (f"AUTO_REFRESH of {table}", "FALSE", "TRUE"),
        (str(gone), "missing", "there"),
    }


TRIGGERS = "SET CREDIT_QUOTA = 100 TRIGGERS ON 80 PERCENT DO NOTIFY ON 100 PERCENT DO SUSPEND"


@pytest.mark.parametrize(
    ("name", "found", "statement"),
    [
        ("CREDIT_QUOTA", "7", "SET CREDIT_QUOTA = 100"),
        ("FREQUENCY", "DAILY", "SET FREQUENCY = MONTHLY START_TIMESTAMP = IMMEDIATELY"),
        ("NOTIFY_AT", "90%", TRIGGERS),
        ("SUSPEND_AT", "None", TRIGGERS),
    ],
)
def test_a_monitor_is_mended_without_losing_another_trigger(name: str, found: str, statement: str) -> None:
    monitor = Key(Kind.MONITOR, ("PAYWAVE_READERS",))
    (change,) = with_changed(estate_of(DEPLOYMENTS["oauth"]), monitor, name, found)
    assert [s.text for s in change.statements] == [f'ALTER RESOURCE MONITOR "PAYWAVE_READERS" {statement}']


@pytest.mark.parametrize(("missing", "pauses"), [(0, []), (1, [1.0]), (2, [1.0, 5.0])])
def test_a_change_waits_for_what_a_linked_database_has_not_found_yet(
    tmp_path: Path, missing: int, pauses: list[float]
) -> None:
    changes = from_nothing(DEPLOYMENTS["open_catalog_linked"])
    sent: list[str] = []
    slept: list[float] = []

    def ask(text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        sent.append(text)
        if "SECURE VIEW" in text and sum("SECURE VIEW" in one for one in sent) <= missing:
            raise Missing("no such table yet")
        return []

    done = apply(changes, ask, tmp_path / "log", pauses=(1.0, 5.0), sleep=slept.append)
    assert (done.done, slept) == (changes, pauses)
    assert len(list(recorded(tmp_path / "log"))) == len(changes)
    if missing:
        sent.clear()
        with pytest.raises(NotAll, match="no such table yet"):
            apply(changes, ask, tmp_path / "log")


def test_what_is_ours_and_wanted_no_longer_goes_last_and_what_stands_on_it_first() -> None:
    estate = estate_of(DEPLOYMENTS["oauth"])
    found = as_it_should_be(estate)
    schema, view = Key(Kind.SCHEMA, ("PAYWAVE", "OLD")), Key(Kind.VIEW, ("PAYWAVE", "OLD", "V"))
    changes = plan(estate, found, estate.grants, [*found, schema, view])
    assert [(c.action, c.what) for c in changes] == [
        (Action.DROP, "VIEW PAYWAVE.OLD.V"),
        (Action.DROP, "SCHEMA PAYWAVE.OLD"),
    ]


def test_an_estate_leaves_what_another_has_in_the_same_account_alone() -> None:
    estate = estate_of(DEPLOYMENTS["oauth"])
    names = ("PAYWAVE", "PAYWAVE_LAKE", "SCRATCH_1", "SCRATCH_1_LAKE", "PAYWAVES")
    owned = [name for name in names if estate.owns(Key(Kind.DATABASE, (name,)))]
    assert owned == ["PAYWAVE", "PAYWAVE_LAKE"]


def test_a_grant_that_nobody_stated_is_revoked() -> None:
    estate = estate_of(DEPLOYMENTS["oauth"])
    found = as_it_should_be(estate)
    table = Key(Kind.ICEBERG_TABLE, LAKE_PAYMENTS)
    given = replace(estate.grants[0], privilege="SELECT", on=table)
    del found[next(key for key in found if key.kind is Kind.VIEW)]
    change, made, *_ = plan(estate, found, [*estate.grants, given], list(found))
    assert change.destroys
    assert made.action is Action.CREATE, "which may fail: a grant too many does not stay open for that"
    assert change.statements[0].text == (
        'REVOKE SELECT ON TABLE "PAYWAVE_LAKE"."CURATED"."PAYMENTS" FROM ROLE "PAYWAVE_PAYMENTS_READER"'
    )


def test_no_reader_has_a_way_past_the_views() -> None:
    for deployment in DEPLOYMENTS.values():
        on = {grant.on.kind for grant in estate_of(deployment).grants if grant.privilege == "SELECT"}
        assert on == {Kind.VIEW}
        lake = {g.on for g in estate_of(deployment).grants if g.on.name[0] == "PAYWAVE_LAKE"}
        assert not lake


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_terraform_gets_what_people_agreed_to(name: str) -> None:
    text = terraformed(DEPLOYMENTS[name])
    assert "secret-" not in text
    assert text == (GOLDEN / f"{name}.tf.json").read_text(), (
        "look at the difference, then renew it: python -m tests.unit.test_snowflake_estate"
    )


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_terraform_makes_everything_after_what_it_stands_on(name: str) -> None:
    estate = estate_of(DEPLOYMENTS[name])
    resources = configuration(estate)["resource"]
    stable = [resource for resource in estate.resources if is_stable(resource)]
    assert sum(len(told) for kind, told in resources.items() if "_grant_" not in kind) == len(stable)
    for kind, label, attribute in re.findall(r"\$\{(\w+)\.(\w+)\.(\w+)\}", json.dumps(resources)):
        assert label in resources[kind], "it names only what is in the file"
        assert attribute in ("name", "fully_qualified_name")
    named = {value for one in walk(resources) for key, value in one.items() if key in NAMING}
    assert all(value.startswith("${") for value in named), "names are references, which Terraform orders by"
    (monitor,) = resources["snowflake_resource_monitor"].values()
    assert "frequency" not in monitor, "the provider takes it only with start_timestamp"


NAMING = ("database", "schema", "resource_monitor", "object_name", "schema_name", "account_role_name")


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from walk(inner)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80))
def test_a_literal_means_its_text_and_nothing_else(text: str) -> None:
    (statement,) = sqlglot.parse(f"SELECT {literal(text)}", dialect="snowflake")
    assert statement is not None
    (found,) = statement.expressions
    assert isinstance(found, exp.Literal)
    assert found.this == text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=80))
def test_an_identifier_names_one_object_whatever_it_is_called(text: str) -> None:
    (statement,) = sqlglot.parse(f"SELECT 1 FROM {identifier('a', text)}", dialect="snowflake")
    assert statement is not None
    (table,) = statement.find_all(exp.Table)
    assert (table.db, table.name) == ("a", text)


@pytest.mark.parametrize("wrong", ["", "x" * 256, "a\0b"])
def test_what_no_object_can_be_called_is_refused(wrong: str) -> None:
    with pytest.raises(WrongName):
        identifier(wrong)


def rendered(deployment: Deployment) -> str:
    """The plan from nothing, as it would be sent, without secrets."""
    statements = [s.shown for change in from_nothing(deployment) for s in change.statements]
    return "".join(f"{text};\n" for text in statements)


def terraformed(deployment: Deployment) -> str:
    """What Terraform gets of it."""
    return json.dumps(configuration(estate_of(deployment)), indent=2) + "\n"


def _renew() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, deployment in DEPLOYMENTS.items():
        (GOLDEN / f"{name}.sql").write_text(rendered(deployment))
        (GOLDEN / f"{name}.tf.json").write_text(terraformed(deployment))


if __name__ == "__main__":
    _renew()
