"""What the policies on readers' views let through: their own text, run by DuckDB for roles of every kind."""

from __future__ import annotations

from collections.abc import Collection

import duckdb
import pytest
import sqlglot

from snowflake_external.deployment import Bearer, Deployment, RestCatalog, S3Volume
from snowflake_external.estate import estate_of
from snowflake_external.resources import Kind

ESTATE = estate_of(Deployment(S3Volume("s3://b/w"), RestCatalog("https://c.example", Bearer("t"))))


def decided(kind: Kind, value: str, role: str, also: Collection[str] = ()) -> object:
    """What the policy of a kind makes of a value, for a session with a role on and others in it."""
    (policy,) = (one for one in ESTATE.resources if one.key.kind is kind)
    signature, _, body = policy.body.partition("->")
    argument = signature.split("(")[1].split()[0]
    text = sqlglot.transpile(body.replace("CURRENT_ROLE()", "my_role()"), read="snowflake", write="duckdb")[0]
    with duckdb.connect() as connection:
        connection.execute(f"CREATE MACRO my_role() AS '{role}'")
        connection.execute(f"CREATE MACRO is_role_in_session(r) AS list_contains({[role, *also]}, r)")
        rows = connection.execute(f"SELECT {text} FROM (VALUES (?)) AS t({argument})", [value]).fetchall()
    return rows[0][0]


@pytest.mark.parametrize(
    ("role", "also", "seen"),
    [
        ("PAYWAVE_FRAUD_READER", [], "***"),
        ("PAYWAVE_FRAUD_READER", ["PAYWAVE_CARDHOLDER"], "token"),
        ("PAYWAVE_CARDHOLDER", [], "token"),
        ("PAYWAVE_ALL_PARTNERS", [], "***"),
    ],
)
def test_a_token_of_a_card_is_for_those_who_may_see_it(role: str, also: list[str], seen: str) -> None:
    assert decided(Kind.MASKING_POLICY, "token", role, also) == seen


@pytest.mark.parametrize(
    ("role", "also", "is_shown"),
    [
        ("PAYWAVE_PARTNER_ACME", [], True),
        ("PAYWAVE_PARTNER_OTHER", [], False),
        ("PAYWAVE_PAYMENTS_READER", [], False),
        ("PAYWAVE_PAYMENTS_READER", ["PAYWAVE_PARTNER_ACME"], False),  # it must be the role that is on
        ("PAYWAVE_PAYMENTS_READER", ["PAYWAVE_ALL_PARTNERS"], True),
        ("PAYWAVE_PARTNER_", [], False),
        ("ACCOUNTADMIN", [], False),
    ],
)
def test_a_row_is_for_its_partner_and_for_those_who_see_all(
    role: str, also: list[str], is_shown: bool
) -> None:
    assert decided(Kind.ROW_POLICY, "acme", role, also) is is_shown
