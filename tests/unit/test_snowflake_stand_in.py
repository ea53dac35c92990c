"""The stand-in for Snowflake without servers: reading statements, state that is kept, what is refused."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from snowflake.connector.errors import ProgrammingError

from local.snowflake.account import Account, Session
from local.snowflake.kinds import KINDS
from local.snowflake.session import Connection
from local.snowflake.words import Words

INTEGRATION = """CREATE CATALOG INTEGRATION lake CATALOG_SOURCE = ICEBERG_REST TABLE_FORMAT = ICEBERG
  REST_CONFIG = (CATALOG_URI = 'http://127.0.0.1:9' CATALOG_NAME = 'w')
  REST_AUTHENTICATION = (TYPE = OAUTH OAUTH_CLIENT_ID = 'me' OAUTH_CLIENT_SECRET = 'hush'
    OAUTH_ALLOWED_SCOPES = ('a', 'b'))
  ENABLED = TRUE REFRESH_INTERVAL_SECONDS = 60 COMMENT = 'it''s the lake'"""
VOLUME = """CREATE EXTERNAL VOLUME vol STORAGE_LOCATIONS = ((NAME = 'a' STORAGE_PROVIDER = 'S3'
  STORAGE_BASE_URL = 's3://bucket/' STORAGE_AWS_ROLE_ARN = 'arn:role')) ALLOW_WRITES = FALSE"""
MASK = "CREATE MASKING POLICY m AS (v VARCHAR) RETURNS VARCHAR -> IFF(v = ')', v, '*') COMMENT = 'hides'"
# One statement for each kind that takes nothing but DuckDB, and what SHOW is told to find it.
MADE = {
    "EXTERNAL VOLUME": VOLUME,
    "CATALOG INTEGRATION": INTEGRATION,
    "DATABASE": "CREATE DATABASE d2 COMMENT = 'x'",
    "SCHEMA": "CREATE SCHEMA d.s2",
    "VIEW": "CREATE SECURE VIEW v (k COMMENT 'key') COMMENT = 'c' "
    "AS SELECT 1 QUALIFY ROW_NUMBER() OVER (ORDER BY 1) = 1",
    "ROLE": "CREATE ROLE reader COMMENT = 'reads'",
    "USER": "CREATE USER ann DEFAULT_ROLE = 'PUBLIC'",
    "WAREHOUSE": "CREATE WAREHOUSE wh2 WITH WAREHOUSE_SIZE = SMALL AUTO_SUSPEND = 60",
    "RESOURCE MONITOR": "CREATE RESOURCE MONITOR rm WITH CREDIT_QUOTA = 5 FREQUENCY = DAILY "
    "START_TIMESTAMP = IMMEDIATELY TRIGGERS ON 80 PERCENT DO NOTIFY ON 100 PERCENT DO SUSPEND",
    "TAG": "CREATE TAG pii ALLOWED_VALUES 'yes', 'no' COMMENT = 'personal'",
    "MASKING POLICY": MASK,
    "ROW ACCESS POLICY": "CREATE ROW ACCESS POLICY r AS (n VARCHAR) RETURNS BOOLEAN -> n = 'x'",
}
REFUSED = (
    *(
        "FOO BAR",
        "FOO BAR BAZ",
        "SELEC 1",
        "CALL x()",
        "EXECUTE TASK t",
        "UNDROP TABLE t",
        "SET x = 1",
        "LIST @s",
    ),
    *("PUT file:///x @y", "TRUNCATE TABLE t", "EXPLAIN SELECT 1", "SELECT 1; SELECT 2", "PRAGMA version"),
    *("INSTALL httpfs", "ATTACH 'x'", "CREATE MACRO f() AS 1", "SHOW TABLES", "USE SECONDARY ROLES ALL"),
    *("ALTER SESSION SET TIMEZONE = 'UTC'", "CREATE ROLE r COMMENT = 'a' FOO = 1", "DROP ROLE PUBLIC extra"),
    *("GRANT FLY ON DATABASE d TO ROLE PUBLIC", "GRANT SELECT ON FUTURE VIEWS IN SCHEMA d.s TO ROLE PUBLIC"),
    *("CREATE WAREHOUSE w WAREHOUSE_SIZE = 'GIANT'", "ALTER WAREHOUSE wh SET WAREHOUSE_SIZE 'SMALL'"),
    "CREATE MASKING POLICY m AS (v VARCHAR) RETURNS VARCHAR -> SELECT FROM",
    "CREATE MASKING POLICY m AS (v VARCHAR) RETURNS VARCHAR -> v, v",
    "CREATE MASKING POLICY m AS (v VARCHAR) RETURNS NONSENSE HERE -> v",
    "CREATE ROW ACCESS POLICY q AS (x NOTATYPE) RETURNS BOOLEAN -> x = 1",
    "CREATE ROW ACCESS POLICY q AS (x VARCHAR, 1 +) RETURNS BOOLEAN -> x = 1",
    *("CREATE DATABASE e WITH", "CREATE WAREHOUSE e WITH", "SHOW VIEWS LIMIT 1", "DESCRIBE COLUMN x"),
    *(
        "COMMENT IF EXISTS ON DATABASE d IS 'x'",
        "COMMENT ON COLUMN d.s.v.k IS 'x'",
        "SHOW VIEWS STARTS WITH 'x'",
    ),
    *("CREATE ROLE '", "ALTER DATABASE d SET TAG t = 'x'", "SHOW GRANTS OF ROLE PUBLIC"),
)
UNSUPPORTED = (
    *("CREATE TABLE t (a INT)", "INSERT INTO t VALUES (1)", "DELETE FROM t", "COPY INTO t FROM @s", "BEGIN"),
    *("SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM TABLE(read_text('/etc/passwd'))"),
    *("ALTER WAREHOUSE IF EXISTS nope FROBNICATE 1", "DESCRIBE DATABASE d"),
    *("SELECT * FROM information_schema.tables", "CREATE VIEW v AS SELECT CURRENT_ROLE() AS r"),
)


class Snowflake:
    """An account in a folder, and a session that has a database, a schema and a warehouse."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.account = Account(home, dict)
        self.connection = Connection(self.account, Session("ME"), autocommit=True)

    def ask(self, sql: str) -> list[dict[str, Any]]:
        cursor = self.connection.cursor()
        cursor.execute(sql)
        rows: list[dict[str, Any]] = cursor.arrow.to_pylist()
        return rows

    def again(self) -> Snowflake:
        return Snowflake(self.home)

    def fails(self, sql: str) -> ProgrammingError:
        with pytest.raises(ProgrammingError) as caught:
            self.ask(sql)
        return caught.value


@pytest.fixture
def snow(tmp_path: Path) -> Snowflake:
    """A fresh account with the database d, its schema s, and a warehouse."""
    snow = Snowflake(tmp_path)
    for sql in ("CREATE DATABASE d", "CREATE SCHEMA d.s", "CREATE WAREHOUSE wh", "USE WAREHOUSE wh"):
        snow.ask(sql)
    return snow


def test_a_name_is_in_capitals_unless_quoted() -> None:
    assert Words('db."My ""Schema""".t$1').name() == ("DB", 'My "Schema"', "T$1")


def test_strings_are_read_with_their_escapes() -> None:
    assert [Words(text).text() for text in (r"'it''s'", r"'a\'b\n'", "$$it's$$")] == ["it's", "a'b\n", "it's"]


def test_an_error_says_where_the_statement_was_not_understood() -> None:
    words = Words("CREATE ROLE r\n  WRONG")
    words.at = 3
    assert "syntax error line 2 at position 2 unexpected 'WRONG'" in words.wrong().raw_msg


@pytest.mark.parametrize("kind", MADE)
def test_an_object_is_made_once_shown_kept_over_a_restart_and_dropped(snow: Snowflake, kind: str) -> None:
    name = Words(MADE[kind]).sql.split(f"{kind} ")[1].split()[0].rpartition(".")[2].upper()
    snow.ask(MADE[kind])
    assert snow.fails(MADE[kind]).errno == 2002
    shown = f"SHOW {KINDS[kind].shown_as} LIKE '{name}'"
    assert [row["name"] for row in snow.ask(shown)] == [name]
    if kind not in ("DATABASE", "SCHEMA"):
        assert snow.again().ask(f"{shown} IN ACCOUNT")[0]["name"] == name
    where = "d." if KINDS[kind].parts > 1 else ""
    where += "s." if KINDS[kind].parts > 2 else ""
    snow.ask(f"DROP {kind} {where}{name}")
    assert snow.ask(shown) == []
    assert snow.fails(f"DROP {kind} {where}{name}").errno == 2003
    snow.ask(f"DROP {kind} IF EXISTS {where}{name}")


@pytest.mark.parametrize("sql", REFUSED)
def test_what_it_does_not_understand_is_a_syntax_error(snow: Snowflake, sql: str) -> None:
    error = snow.fails(sql)
    assert (error.errno, error.sqlstate) == (1003, "42000")


@pytest.mark.parametrize("sql", UNSUPPORTED)
def test_what_it_cannot_do_is_said_to_be_unsupported(snow: Snowflake, sql: str) -> None:
    assert snow.fails(sql).sqlstate == "0A000"


def test_a_table_that_is_not_ours_does_not_exist_though_duckdb_would_find_a_file(snow: Snowflake) -> None:
    assert snow.fails('SELECT * FROM "/etc/passwd"').errno == 2003


def test_a_definition_without_what_it_needs_is_refused(snow: Snowflake) -> None:
    assert "TABLE_FORMAT" in snow.fails("CREATE CATALOG INTEGRATION i CATALOG_SOURCE = ICEBERG_REST").raw_msg


def test_secrets_are_neither_shown_nor_readable_to_others(snow: Snowflake) -> None:
    snow.ask(INTEGRATION)
    assert "hush" not in str(snow.ask("DESCRIBE CATALOG INTEGRATION lake"))
    assert stat.S_IMODE(snow.account.registry.path.stat().st_mode) == 0o600


def test_an_integration_is_described_altered_and_put_back(snow: Snowflake) -> None:
    snow.ask(INTEGRATION)
    secret = "REST_AUTHENTICATION = (OAUTH_CLIENT_SECRET = 'newer')"
    snow.ask(f"ALTER CATALOG INTEGRATION lake SET {secret} REFRESH_INTERVAL_SECONDS = 5")
    found = {row["property"]: row["property_value"] for row in snow.ask("DESC CATALOG INTEGRATION lake")}
    assert (found["REFRESH_INTERVAL_SECONDS"], found["ENABLED"]) == ("5", "true")
    assert '"OAUTH_CLIENT_ID": "me"' in found["REST_AUTHENTICATION"]
    snow.ask("ALTER CATALOG INTEGRATION lake UNSET REFRESH_INTERVAL_SECONDS")
    found = {row["property"]: row["property_value"] for row in snow.ask("DESC INTEGRATION lake")}
    assert found["REFRESH_INTERVAL_SECONDS"] == "30"
    for fixed in ("TABLE_FORMAT = ICEBERG", "ENABLED = FALSE", "REST_AUTHENTICATION = (TYPE = BEARER)"):
        assert snow.fails(f"ALTER CATALOG INTEGRATION lake SET {fixed}").errno == 1003


def test_grants_are_shown_from_both_sides_revoked_and_gone_with_their_object(snow: Snowflake) -> None:
    for sql in ("CREATE ROLE reader", MADE["VIEW"], "GRANT USAGE ON DATABASE d TO ROLE reader"):
        snow.ask(sql)
    snow.ask("GRANT SELECT, REFERENCES ON VIEW v TO ROLE reader")
    snow.ask("GRANT ROLE reader TO ROLE sysadmin")

    def held() -> set[tuple[str, str]]:
        return {(row["privilege"], row["name"]) for row in snow.ask("SHOW GRANTS TO ROLE reader")}

    assert held() == {("USAGE", "D"), ("SELECT", "D.S.V"), ("REFERENCES", "D.S.V")}
    on_view = {row["privilege"] for row in snow.ask("SHOW GRANTS ON VIEW v")}
    assert on_view == {"OWNERSHIP", "SELECT", "REFERENCES"}
    assert [row["grantee_name"] for row in snow.ask("SHOW GRANTS ON ROLE reader")] == [
        "ACCOUNTADMIN",
        "SYSADMIN",
    ]
    snow.ask("REVOKE REFERENCES ON VIEW v FROM ROLE reader")
    assert held() == {("USAGE", "D"), ("SELECT", "D.S.V")}
    snow.ask("DROP VIEW v")
    assert held() == {("USAGE", "D")}


def test_tags_and_policies_are_attached_read_back_and_hold_what_they_are_on(snow: Snowflake) -> None:
    for kind in ("TAG", "MASKING POLICY", "ROW ACCESS POLICY"):
        snow.ask(MADE[kind])
    hung = "(k WITH MASKING POLICY m) WITH ROW ACCESS POLICY r ON (k) WITH TAG (pii = 'yes')"
    view = f"CREATE OR REPLACE VIEW v {hung} AS SELECT 'a'"
    snow.ask(view)
    asked = "SELECT * FROM TABLE(d.INFORMATION_SCHEMA.TAG_REFERENCES('d.s.v', 'table'))"
    assert [(row["TAG_NAME"], row["TAG_VALUE"]) for row in snow.ask(asked)] == [("PII", "yes")]
    named = "REF_ENTITY_NAME => 'd.s.v', REF_ENTITY_DOMAIN => 'view'"
    policies = snow.ask(f"SELECT * FROM TABLE(d.INFORMATION_SCHEMA.POLICY_REFERENCES({named}))")
    found = {(row["POLICY_KIND"], row["REF_COLUMN_NAME"]) for row in policies}
    assert found == {("MASKING_POLICY", "K"), ("ROW_ACCESS_POLICY", None)}
    assert "is used by" in snow.fails("DROP MASKING POLICY m").raw_msg
    assert "not allowed" in snow.fails(view.replace("'yes'", "'maybe'")).raw_msg
    assert snow.fails(view.replace("ON (k)", "ON (other)")).errno == 2003
    assert "takes (n VARCHAR)" in snow.fails(view.replace("ON (k)", "ON (k, k)")).raw_msg
    for gone in ("MODIFY COLUMN k UNSET MASKING POLICY", "DROP ROW ACCESS POLICY r", "UNSET TAG pii"):
        snow.ask(f"ALTER VIEW v {gone}")
        assert snow.fails(f"ALTER VIEW v {gone}").errno == 2003
    assert snow.ask(asked) == []
    snow.ask("DROP MASKING POLICY m")


def test_reading_takes_a_grant_on_the_view_on_what_it_is_in_and_on_a_warehouse(snow: Snowflake) -> None:
    for sql in (MADE["VIEW"], "CREATE ROLE reader", "CREATE ROLE above", "GRANT ROLE reader TO ROLE above"):
        snow.ask(sql)
    as_reader = snow.again()
    as_reader.ask("USE WAREHOUSE wh")
    as_reader.ask("USE ROLE above")
    for lacking, errno in (
        ("USAGE ON WAREHOUSE wh", 3001),
        ("USAGE ON DATABASE d", 3001),
        ("USAGE ON SCHEMA d.s", 3001),
        ("SELECT ON VIEW d.s.v", 3001),
    ):
        assert as_reader.fails("SELECT k FROM d.s.v").errno == errno, lacking
        as_reader.ask("USE ROLE ACCOUNTADMIN")
        as_reader.ask(f"GRANT {lacking} TO ROLE reader")
        as_reader.ask("USE ROLE above")
    assert as_reader.ask("SELECT k FROM d.s.v") == [{"K": 1}]
    as_reader.ask("USE ROLE ACCOUNTADMIN")
    as_reader.ask("REVOKE USAGE ON WAREHOUSE wh FROM ROLE reader")
    as_reader.ask("USE ROLE above")
    assert as_reader.fails("SELECT k FROM d.s.v").errno == 606


def test_a_view_shows_the_rows_that_its_policy_lets_through_to_the_roles_that_are_on(snow: Snowflake) -> None:
    snow.ask(
        "CREATE ROW ACCESS POLICY r AS (whose VARCHAR) RETURNS BOOLEAN -> "
        "IS_ROLE_IN_SESSION('SEES_ALL') OR CURRENT_ROLE() = 'ROLE_' || UPPER(whose)"
    )
    snow.ask("CREATE VIEW v (k, n) WITH ROW ACCESS POLICY r ON (k) AS SELECT 'a', 1 UNION ALL SELECT 'b', 2")
    for sql in ("CREATE ROLE sees_all", "CREATE ROLE role_a", "GRANT SELECT ON VIEW v TO ROLE role_a"):
        snow.ask(sql)
    for what in ("DATABASE d", "SCHEMA d.s", "WAREHOUSE wh"):
        snow.ask(f"GRANT USAGE ON {what} TO ROLE role_a")
    count = "SELECT COUNT(*) AS c FROM d.s.v"
    assert snow.ask(count) == [{"C": 0}], "whoever owns it, without the roles that it asks for"
    assert snow.ask("WITH x AS (SELECT * FROM v AS t WHERE t.n > 0) SELECT COUNT(*) AS c FROM x") == [
        {"C": 0}
    ]
    as_partner = snow.again()
    for sql in ("USE WAREHOUSE wh", "USE ROLE role_a"):
        as_partner.ask(sql)
    assert as_partner.ask("SELECT v.k, w.n FROM d.s.v JOIN d.s.v AS w ON v.k = w.k") == [{"K": "a", "N": 1}]
    for sql in ("USE ROLE accountadmin", "GRANT ROLE sees_all TO ROLE role_a", "USE ROLE role_a"):
        as_partner.ask(sql)
    assert as_partner.ask(count) == [{"C": 2}]
    snow.ask("ALTER VIEW v DROP ROW ACCESS POLICY r")
    assert snow.ask(count) == [{"C": 2}]


def test_a_policy_is_described_by_its_own_sql(snow: Snowflake) -> None:
    snow.ask(MASK)
    (found,) = snow.ask("DESCRIBE MASKING POLICY m")
    assert found == {
        "name": "M",
        "signature": "(v VARCHAR)",
        "return_type": "VARCHAR",
        "body": "IFF(v = ')', v, '*')",
    }
    assert snow.ask("SHOW MASKING POLICIES")[0]["comment"] == "hides"
    snow.ask("ALTER MASKING POLICY m SET BODY -> UPPER(v)")
    assert snow.ask("DESCRIBE MASKING POLICY m")[0]["body"] == "UPPER(v)"
    assert snow.fails("ALTER MASKING POLICY m SET BODY -> UPPER(w)").errno == 2003


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (
            "CREATE ROW ACCESS POLICY q AS (x VARCHAR) RETURNS BOOLEAN -> nosuchfunction(x)",
            "Unknown function",
        ),
        ("CREATE ROW ACCESS POLICY q AS (x VARCHAR) RETURNS BOOLEAN -> y = 'a'", "Column 'Y' does not exist"),
        ("CREATE ROW ACCESS POLICY q AS (x VARCHAR) RETURNS VARCHAR -> x", "has to return BOOLEAN"),
        ("CREATE MASKING POLICY q AS (x VARCHAR) RETURNS NUMBER -> 1", "has to return VARCHAR"),
    ],
)
def test_a_policy_that_could_not_be_meant_is_refused(snow: Snowflake, policy: str, said: str) -> None:
    assert said in str(snow.fails(policy).raw_msg)


def test_views_are_made_again_after_a_restart_in_the_order_that_they_need(snow: Snowflake) -> None:
    snow.ask("CREATE VIEW base AS SELECT 2 AS n")
    snow.ask("CREATE VIEW above AS SELECT n + 1 AS n FROM base")
    snow.ask("CREATE OR REPLACE VIEW base AS SELECT 5 AS n")
    again = snow.again()
    again.ask("USE WAREHOUSE wh")
    assert again.ask("SELECT n FROM d.s.above") == [{"N": 6}]


def test_sums_of_decimals_stay_exact(snow: Snowflake) -> None:
    snow.ask("CREATE VIEW money AS SELECT 0.10::NUMBER(18,2) AS a UNION ALL SELECT 0.20::NUMBER(18,2)")
    (sums,) = snow.ask("SELECT SUM(a), SUM(a) AS s FROM money")
    assert [str(value) for value in sums.values()] == ["0.30", "0.30"]


def test_comments_are_set_on_objects(snow: Snowflake) -> None:
    snow.ask(MADE["VIEW"])
    snow.ask("COMMENT ON VIEW v IS 'whole'")
    assert snow.ask("SHOW VIEWS")[0]["comment"] == "whole"


def test_reading_takes_a_warehouse_that_runs_or_resumes(snow: Snowflake) -> None:
    snow.ask(MADE["VIEW"])
    snow.ask("ALTER WAREHOUSE wh SUSPEND")
    snow.ask("SELECT * FROM v")
    assert snow.ask("SHOW WAREHOUSES")[0]["state"] == "STARTED"
    snow.ask("ALTER WAREHOUSE wh SET AUTO_RESUME = FALSE")
    snow.ask("ALTER WAREHOUSE wh SUSPEND")
    assert "is suspended" in snow.fails("SELECT * FROM v").raw_msg
    snow.ask("ALTER WAREHOUSE wh RESUME")
    snow.ask("SELECT * FROM v")
    snow.ask("DROP WAREHOUSE wh")
    assert (snow.fails("SELECT * FROM v").errno, snow.ask("SELECT 1 AS one")) == (606, [{"ONE": 1}])


def test_a_view_that_says_more_than_is_understood_is_refused(snow: Snowflake) -> None:
    assert snow.fails("CREATE VIEW v (k WITH PROJECTION POLICY m) AS SELECT 1").errno == 1003
    assert snow.fails("CREATE VIEW v (k WITH MASKING POLICY m) AS SELECT 1").errno == 2003
    assert snow.fails("DROP SCHEMA d.s RESTRICT").errno == 1003


def test_a_resource_monitor_shows_when_it_acts(snow: Snowflake) -> None:
    snow.ask(MADE["RESOURCE MONITOR"])
    (shown,) = snow.ask("SHOW RESOURCE MONITORS")
    assert (shown["notify_at"], shown["suspend_at"]) == ("80%", "100%")
    snow.ask("ALTER RESOURCE MONITOR rm SET CREDIT_QUOTA = 9 TRIGGERS ON 50 PERCENT DO NOTIFY")
    (shown,) = snow.ask("SHOW RESOURCE MONITORS")
    assert (shown["credit_quota"], shown["notify_at"], shown["suspend_at"]) == ("9", "50%", None)
    snow.ask("ALTER RESOURCE MONITOR rm TRIGGERS ON 90 PERCENT DO SUSPEND")
    (shown,) = snow.ask("SHOW RESOURCE MONITORS")
    assert (shown["notify_at"], shown["suspend_at"]) == (None, "90%")
    assert snow.fails("ALTER RESOURCE MONITOR rm SET TRIGGERS ON 90 PERCENT DO SUSPEND").errno == 1003
    assert snow.fails("ALTER RESOURCE MONITOR rm TRIGGERS").errno == 1003
