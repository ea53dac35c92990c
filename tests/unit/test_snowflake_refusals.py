"""What Snowflake refuses is said once, with the object and the grant or setting that mends it."""

from __future__ import annotations

import pytest

from snowflake_external import ddl
from snowflake_external.deployment import Bearer, Deployment, RestCatalog, S3Volume
from snowflake_external.errors import CatalogUnreachable, Denied, Missing, NoWarehouse, SnowflakeError
from snowflake_external.estate import estate_of
from snowflake_external.refusals import grant_for, refusal
from snowflake_external.resources import UNCOMMENTED, Kind

TABLE = '"L"."CURATED"."PAYMENTS"'
ESTATE = estate_of(Deployment(S3Volume("s3://b/w"), RestCatalog("https://c.example", Bearer("t"))))


@pytest.mark.parametrize(
    ("statement", "takes"),
    [
        (f"ALTER ICEBERG TABLE {TABLE} REFRESH", f"OWNERSHIP ON TABLE {TABLE}"),
        (f"SELECT SYSTEM$AUTO_REFRESH_STATUS('{TABLE}') AS status", f"SELECT ON TABLE {TABLE}"),
        (f"SELECT 1 FROM {TABLE} LIMIT 0", f"SELECT ON TABLE {TABLE}"),
        (f"CREATE ICEBERG TABLE IF NOT EXISTS {TABLE}", 'CREATE ICEBERG TABLE ON SCHEMA "L"."CURATED"'),
        ('CREATE SCHEMA IF NOT EXISTS "L"."CURATED"', 'CREATE SCHEMA ON DATABASE "L"'),
        ('CREATE CATALOG INTEGRATION IF NOT EXISTS "C" ENABLED = TRUE', "CREATE INTEGRATION ON ACCOUNT"),
        ('CREATE OR REPLACE SECURE VIEW "P"."F"."V" (a)', 'CREATE VIEW ON SCHEMA "P"."F"'),
        ('DROP WAREHOUSE IF EXISTS "W"', 'OWNERSHIP ON WAREHOUSE "W"'),
        ('ALTER WAREHOUSE "W" SET AUTO_SUSPEND = 60', 'OWNERSHIP ON WAREHOUSE "W"'),
        ('GRANT USAGE ON DATABASE "D" TO ROLE "R"', 'OWNERSHIP ON DATABASE "D"'),
        ('GRANT ROLE "A" TO ROLE "B"', "MANAGE GRANTS ON ACCOUNT"),
        ('SHOW SCHEMAS IN DATABASE "D"', 'USAGE ON DATABASE "D"'),
        ('DESCRIBE CATALOG INTEGRATION "C"', 'USAGE ON INTEGRATION "C"'),
        ('CREATE RESOURCE MONITOR IF NOT EXISTS "M"', "ROLE ACCOUNTADMIN"),
        (f"select 1 from {TABLE} AT (VERSION => 1) as p", f"SELECT ON TABLE {TABLE}"),
        (f"SHOW GRANTS ON TABLE {TABLE}", "MANAGE GRANTS ON ACCOUNT"),
        ('SHOW FUTURE GRANTS IN SCHEMA "L"."CURATED"', "MANAGE GRANTS ON ACCOUNT"),
        ("SHOW WAREHOUSES", None),
    ],
)
def test_a_statement_tells_what_it_takes(statement: str, takes: str | None) -> None:
    assert grant_for(statement) == takes


def test_every_statement_that_apply_may_send_tells_what_it_takes() -> None:
    for resource in ESTATE.resources:
        statements = [*ddl.create(resource), ddl.drop(resource.key)]
        if resource.key.kind not in UNCOMMENTED:
            statements += ddl.alter(resource, {"COMMENT": ("", resource.comment)}) or []
        statements += [ddl.close(resource.key)] if resource.key.kind is Kind.DATABASE else []
        statements += [renewed] if (renewed := ddl.renew(resource)) else []
        for statement in statements:
            takes = grant_for(statement.text)
            assert takes, statement.text
            assert takes.startswith(("CREATE", "ROLE")) or ddl.name_of(resource.key) in takes, takes
    for grant in ESTATE.grants:
        assert grant_for(ddl.grant(grant).text)


GRANT = f"GRANT SELECT ON TABLE {TABLE} TO ROLE R"


@pytest.mark.parametrize(
    ("number", "said", "kind", "message", "hint"),
    [
        (
            3001,
            "Insufficient privileges to operate on table 'PAYMENTS'.",
            Denied,
            "role R may not: In",
            GRANT,
        ),
        (2003, "Object 'X' does not exist.", Missing, "role R finds no such object: Object 'X'", GRANT),
        (606, "No warehouse.", NoWarehouse, "runs for role R: No", "GRANT USAGE ON WAREHOUSE W TO ROLE R"),
        (608, "Warehouse 'W' is suspended.", NoWarehouse, "Warehouse 'W'", "ALTER WAREHOUSE W RESUME"),
        (90073, "monitor 'M' has exceeded.", NoWarehouse, "monitor 'M'", "snowflake.credits_per_month"),
        (4140, "catalog integration L with error: x", CatalogUnreachable, "catalog", "INTEGRATION('L')"),
        (1003, "syntax error", SnowflakeError, "refused a statement: syntax error", "it was: SELECT"),
    ],
)
def test_each_refusal_names_who_what_and_the_way_out(
    number: int, said: str, kind: type[SnowflakeError], message: str, hint: str
) -> None:
    error = refusal(number, said, f"SELECT 'secret' FROM {TABLE}", "R", "W")
    assert type(error) is kind
    assert message in str(error)
    assert hint in error.hint
    assert "secret" not in f"{error}{error.hint}"


LAKE = '"PAYWAVE_LAKE"."CURATED"."PAYMENTS"'
REFRESH = f"ALTER ICEBERG TABLE {LAKE} REFRESH"
MAKE = f"CREATE ICEBERG TABLE IF NOT EXISTS {LAKE} EXTERNAL_VOLUME = 'PAYWAVE_LAKE' CATALOG = 'PAYWAVE_LAKE'"
POLICY = '"P"."GOVERNANCE"."PARTNER_ROWS"'
VIEW = f'CREATE OR REPLACE SECURE VIEW "P"."F"."V" (a) WITH ROW ACCESS POLICY {POLICY} ON (a) AS SELECT 1'


@pytest.mark.parametrize(
    ("refused", "statement", "takes"),
    [
        ("integration 'PAYWAVE_LAKE'", MAKE, 'USAGE ON INTEGRATION "PAYWAVE_LAKE"'),
        ("catalog integration 'PAYWAVE_LAKE'", REFRESH, 'USAGE ON INTEGRATION "PAYWAVE_LAKE"'),
        ("external volume 'OTHER'", REFRESH, 'USAGE ON EXTERNAL VOLUME "OTHER"'),
        ("schema 'CURATED'", f"SELECT 1 FROM {LAKE}", 'USAGE ON SCHEMA "PAYWAVE_LAKE"."CURATED"'),
        ("row access policy 'PARTNER_ROWS'", VIEW, f"APPLY ON ROW ACCESS POLICY {POLICY}"),
        ("view 'V'", 'SELECT a FROM "P"."F"."V"', 'SELECT ON VIEW "P"."F"."V"'),
        ("view 'V'", VIEW, 'OWNERSHIP ON VIEW "P"."F"."V"'),  # somebody else's, which is to be replaced
        ("schema 'F'", VIEW, 'CREATE VIEW ON SCHEMA "P"."F"'),
        ("table 'PAYMENTS'", REFRESH, f"OWNERSHIP ON TABLE {LAKE}"),
        ("iceberg table 'P.C.PAYMENTS'", REFRESH, f"OWNERSHIP ON TABLE {LAKE}"),
        ("account 'XY'", MAKE, 'CREATE ICEBERG TABLE ON SCHEMA "PAYWAVE_LAKE"."CURATED"'),
    ],
)
def test_the_grant_is_on_the_object_that_was_refused(refused: str, statement: str, takes: str) -> None:
    error = refusal(3001, f"Insufficient privileges to operate on {refused}.", statement, "R")
    assert error.hint == f"GRANT {takes} TO ROLE R"
