"""The stand-in's Iceberg tables over a catalog in this process: reading, refreshing, trouble."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.types import StringType

from local.snowflake import linked
from local.snowflake.refresh import AUTOMATED
from local.snowflake.trouble import Trouble, make_trouble
from tests.stand_in import until
from tests.unit.test_snowflake_stand_in import INTEGRATION, VOLUME, Snowflake

TABLE = """CREATE ICEBERG TABLE payments EXTERNAL_VOLUME = 'vol' CATALOG = 'lake'
  CATALOG_NAMESPACE = 'curated' CATALOG_TABLE_NAME = 'payments' AUTO_REFRESH = FALSE"""
REFRESH = "ALTER ICEBERG TABLE payments REFRESH"
SCHEMA = pa.schema([("name", pa.string()), ("flags", pa.list_(pa.string()))])
NAMES = "SELECT name FROM payments ORDER BY name"
STATUS = "SELECT SYSTEM$AUTO_REFRESH_STATUS('d.s.payments') AS said"


class Lake(Snowflake):
    """An account whose every integration leads to a catalog on files, with one table."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.catalog = SqlCatalog("c", uri=f"sqlite:///{home / 'c.db'}", warehouse=f"file://{home / 'wh'}")
        self.account.catalogs.connect = lambda _: self.catalog  # type: ignore[assignment,return-value]

    def publish(self, *names: str) -> int:
        table = self.catalog.load_table("curated.payments")
        table.append(pa.Table.from_pylist([{"name": name, "flags": ["x", name]} for name in names], SCHEMA))
        return int(table.current_snapshot().snapshot_id)  # type: ignore[union-attr]

    def names(self, sql: str = NAMES) -> list[str]:
        return [row["NAME"] for row in self.ask(sql)]

    def status(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.ask(STATUS)[0]["SAID"])
        return said


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    """One publish, and the table made after it. None follows the catalog once its test is over."""
    (tmp_path / "wh").mkdir()
    lake = Lake(tmp_path)
    lake.catalog.create_namespace("curated")
    lake.catalog.create_table("curated.payments", SCHEMA)
    lake.publish("a")
    for sql in ("CREATE DATABASE d", "CREATE SCHEMA d.s", "CREATE WAREHOUSE wh", "USE WAREHOUSE wh"):
        lake.ask(sql)
    for sql in (VOLUME, INTEGRATION, TABLE):
        lake.ask(sql)
    yield lake
    make_trouble(lake.home, Trouble())
    for entry in lake.account.registry.of_kind("ICEBERG TABLE"):
        entry.options["AUTO_REFRESH"] = False


def test_a_table_is_read_as_of_its_last_refresh_and_never_newer(lake: Lake) -> None:
    lake.publish("b")
    assert lake.names() == ["a"]
    lake.ask(REFRESH)
    assert lake.names() == ["a", "b"]


def test_a_table_without_a_snapshot_is_empty(lake: Lake) -> None:
    lake.catalog.create_table("curated.empty", SCHEMA)
    lake.ask(TABLE.replace("payments", "empty"))
    assert lake.ask("SELECT * FROM empty") == []


def test_a_table_needs_its_volume_its_integration_and_a_table_in_the_catalog(lake: Lake) -> None:
    assert (
        "External volume 'NONE'" in lake.fails(TABLE.replace("payments", "p").replace("vol", "none")).raw_msg
    )
    assert lake.fails(TABLE.replace("payments", "p").replace("lake", "none")).errno == 2003
    assert lake.fails(TABLE.replace("payments", "absent")).errno == 4140
    assert "is used by D.S.PAYMENTS" in lake.fails("DROP CATALOG INTEGRATION lake").raw_msg


def test_older_snapshots_are_read_by_version_and_tag_but_none_that_was_not_refreshed(lake: Lake) -> None:
    first = lake.account.registry.need("ICEBERG TABLE", ("D", "S", "PAYMENTS")).state["snapshot"]
    second = lake.publish("b")
    assert lake.fails(f"SELECT * FROM payments AT (VERSION => {second})")
    lake.catalog.load_table("curated.payments").manage_snapshots().create_tag(first, "audit").commit()
    lake.ask(REFRESH)
    for at in (f"VERSION => {first}", "VERSION_TAG => 'audit'"):
        assert lake.names(f"SELECT p.name FROM payments AT ({at}) AS p") == ["a"], at
    for clause in ("BEFORE (STATEMENT => 'x')", "AT (TIMESTAMP => '2026-01-01'::TIMESTAMP_TZ)"):
        assert lake.fails(f"SELECT * FROM payments {clause}").sqlstate == "0A000"
    assert lake.fails("SELECT * FROM payments AT (VERSION_REF => 'main')").errno == 1003


@pytest.mark.parametrize("at", ["VERSION => 1", "VERSION_TAG => 'none'", "VERSION_TAG => 'main'"])
def test_a_version_that_there_is_not_is_an_error_of_time_travel(lake: Lake, at: str) -> None:
    error = lake.fails(f"SELECT * FROM payments AT ({at})")
    assert (error.errno, error.sqlstate) == (707, "02000"), "a branch is no tag"


def test_tags_and_branches_are_listed_as_they_were_at_the_last_refresh(lake: Lake) -> None:
    table = lake.catalog.load_table("curated.payments")
    first = table.current_snapshot().snapshot_id  # type: ignore[union-attr]
    table.manage_snapshots().create_tag(first, "audit").commit()
    refs = "SELECT * FROM TABLE(GET_TABLE_VERSION_REFS('d.s.payments')) ORDER BY reference_name"
    assert [row["REFERENCE_NAME"] for row in lake.ask(refs)] == ["main"]
    lake.ask(REFRESH)
    found = [(row["REFERENCE_NAME"], row["REFERENCE_TYPE"], row["VERSION_ID"]) for row in lake.ask(refs)]
    assert found == [("audit", "TAG", first), ("main", "BRANCH", first)]


def test_an_account_may_lack_versions(lake: Lake) -> None:
    make_trouble(lake.home, Trouble(lacks=("VERSION", "VERSION_TAG")))
    for sql in (
        "SELECT * FROM payments AT (VERSION => 1)",
        "SELECT * FROM payments AT (VERSION_TAG => 'main')",
        "SELECT * FROM TABLE(GET_TABLE_VERSION_REFS('d.s.payments'))",
    ):
        assert str(lake.fails(sql).raw_msg).startswith("SQL compilation error:"), sql
    assert lake.names() == ["a"]


def test_arrays_and_snowflakes_own_functions_work_on_the_tables(lake: Lake) -> None:
    sql = """SELECT name, ARRAY_SIZE(flags) AS n, IFF(ARRAY_SIZE(flags) > 1, 1, 0) AS has,
      flags[1]::VARCHAR AS second FROM payments QUALIFY ROW_NUMBER() OVER (ORDER BY name) = 1"""
    expected = [{"NAME": "a", "N": 2, "HAS": 1, "SECOND": "a"}]
    assert lake.ask(sql) == expected
    lake.ask(f"CREATE VIEW of_arrays AS {sql}")
    assert lake.ask("SELECT * FROM of_arrays") == expected
    flattened = (
        "SELECT f.value::VARCHAR AS name FROM payments p, LATERAL FLATTEN(input => p.flags) f ORDER BY 1"
    )
    assert lake.names(flattened) == ["a", "x"]


@pytest.mark.parametrize(
    "call",
    [
        *("ARRAY_CONTAINS('x'::VARIANT, flags)", "ARRAYS_OVERLAP(flags, ARRAY_CONSTRUCT('a'))"),
        "ARRAY_TO_STRING(flags, '+')",
    ],
)
def test_functions_over_arrays_that_it_would_get_wrong_fail(lake: Lake, call: str) -> None:
    assert lake.fails(f"SELECT {call} AS one FROM payments")


def test_the_history_tells_each_refresh_and_by_what(lake: Lake) -> None:
    snapshot = lake.publish("b")
    lake.ask(REFRESH)
    lake.ask(REFRESH)  # nothing new: no line
    call = "ICEBERG_TABLE_SNAPSHOT_REFRESH_HISTORY(TABLE_NAME => 'd.s.payments')"
    rows = lake.ask(f"SELECT * FROM TABLE(INFORMATION_SCHEMA.{call}) ORDER BY REFRESHED_ON DESC")
    assert [row["IS_CURRENT_SNAPSHOT"] for row in rows] == [True, False]
    assert rows[0]["SNAPSHOT_ID"] == str(snapshot)


def test_a_table_refreshes_by_itself_and_says_how_far_it_is(lake: Lake) -> None:
    assert lake.ask(STATUS) == [{"SAID": None}]
    lake.ask("ALTER CATALOG INTEGRATION lake SET REFRESH_INTERVAL_SECONDS = 0")
    lake.ask("ALTER ICEBERG TABLE payments SET AUTO_REFRESH = TRUE")
    lake.account.refresher.start()
    snapshot = lake.publish("b")
    until(lambda: lake.status()["currentSnapshotId"] == str(snapshot))
    assert lake.status()["executionState"] == "RUNNING"
    assert lake.names() == ["a", "b"]
    make_trouble(lake.home, Trouble(stalled=("D.S.PAYMENTS",)))
    lake.publish("c")
    until(lambda: lake.status()["executionState"] == "STALLED" and lake.status()["pendingSnapshotCount"] == 1)
    assert lake.names() == ["a", "b"]
    assert lake.fails(REFRESH).errno == 4140
    make_trouble(lake.home, Trouble())
    until(lambda: lake.status()["executionState"] == "RUNNING")
    until(lambda: lake.names() == ["a", "b", "c"])


def test_a_format_version_that_another_engine_changed_stops_the_refresh(lake: Lake) -> None:
    entry = lake.account.registry.need("ICEBERG TABLE", ("D", "S", "PAYMENTS"))
    entry.state["format"] = 1
    lake.publish("b")
    assert "format version" in lake.fails(REFRESH).raw_msg
    lake.ask("ALTER CATALOG INTEGRATION lake SET REFRESH_INTERVAL_SECONDS = 0")
    lake.ask("ALTER ICEBERG TABLE payments SET AUTO_REFRESH = TRUE")
    lake.account.refresher.start()
    until(lambda: lake.status()["executionState"] == "STOPPED")
    entry.state["format"] = 2


def test_what_has_stopped_stays_so_until_it_is_switched_off_and_on_again(lake: Lake) -> None:
    lake.ask("ALTER CATALOG INTEGRATION lake SET REFRESH_INTERVAL_SECONDS = 0")
    lake.ask("ALTER ICEBERG TABLE payments SET AUTO_REFRESH = TRUE")
    make_trouble(lake.home, Trouble(stopped=("D.S.PAYMENTS",)))
    lake.account.refresher.start()
    lake.publish("b")
    until(lambda: lake.status()["executionState"] == "STOPPED")
    make_trouble(lake.home, Trouble())
    for sql in (REFRESH, "ALTER ICEBERG TABLE payments SET AUTO_REFRESH = TRUE"):
        lake.ask(sql)
        assert lake.status()["executionState"] == "STOPPED"
    assert lake.names() == ["a", "b"], "a refresh by hand goes through"
    lake.publish("c")
    lake.ask("ALTER ICEBERG TABLE payments SET AUTO_REFRESH = FALSE")
    lake.ask("ALTER ICEBERG TABLE payments SET AUTO_REFRESH = TRUE")
    until(lambda: lake.names() == ["a", "b", "c"])
    assert lake.status()["executionState"] == "RUNNING"


def test_a_column_without_a_row_is_taken_by_hand_only(lake: Lake) -> None:
    entry = lake.account.registry.need("ICEBERG TABLE", ("D", "S", "PAYMENTS"))
    lake.ask("ALTER ICEBERG TABLE payments SET AUTO_REFRESH = TRUE")
    with lake.catalog.load_table("curated.payments").update_schema() as update:
        update.add_column("more", StringType())
    assert not lake.account.refresher.refresh(entry, AUTOMATED)
    assert lake.fails("SELECT more FROM payments")
    lake.ask(REFRESH)
    assert lake.ask("SELECT more FROM payments") == [{"MORE": None}]


def test_an_account_may_refuse_a_refresh_by_hand_while_the_automated_one_is_on(lake: Lake) -> None:
    make_trouble(lake.home, Trouble(lacks=("REFRESH",)))
    lake.ask(REFRESH)
    lake.ask("ALTER ICEBERG TABLE payments SET AUTO_REFRESH = TRUE")
    assert lake.fails(REFRESH).sqlstate == "0A000"


def test_a_table_that_was_created_again_is_not_taken_for_the_old_one(lake: Lake) -> None:
    lake.catalog.drop_table("curated.payments")
    lake.catalog.create_table("curated.payments", SCHEMA)
    lake.publish("z")
    assert "created again" in lake.fails(REFRESH).raw_msg
    assert lake.names() == ["a"]
    lake.ask(TABLE.replace("CREATE", "CREATE OR REPLACE"))
    assert lake.names() == ["z"]


def test_a_privilege_that_is_taken_away_is_missed_at_every_use(lake: Lake) -> None:
    lake.ask("CREATE VIEW v AS SELECT name FROM payments")
    make_trouble(lake.home, Trouble(denied=("D.S.PAYMENTS",)))
    for sql in (NAMES, REFRESH, "SELECT SYSTEM$AUTO_REFRESH_STATUS('d.s.payments')"):
        error = lake.fails(sql)
        assert (error.errno, error.sqlstate) == (3001, "42501"), sql
    assert lake.names("SELECT name FROM v") == ["a"]  # by its owner's rights
    make_trouble(lake.home, Trouble())
    assert lake.names() == ["a"]


def test_a_privilege_that_is_lost_stalls_the_refresh_and_nothing_is_needed_once_it_is_back(
    lake: Lake,
) -> None:
    make_trouble(lake.home, Trouble(denied=("LAKE",)))  # USAGE on the integration
    lake.ask("ALTER ICEBERG TABLE payments SET AUTO_REFRESH = TRUE")
    lake.account.registry.need("CATALOG INTEGRATION", ("LAKE",)).options["REFRESH_INTERVAL_SECONDS"] = 0
    lake.account.refresher.start()
    lake.publish("b")
    until(lambda: lake.status()["executionState"] == "STALLED")
    assert "Insufficient privileges" in lake.status()["invalidExecutionStateReason"]
    make_trouble(lake.home, Trouble())
    until(lambda: lake.names() == ["a", "b"])
    until(lambda: lake.status()["executionState"] == "RUNNING")


def test_a_suspended_warehouse_fails_queries_and_nothing_else(lake: Lake) -> None:
    make_trouble(lake.home, Trouble(suspended=("WH",)))
    assert lake.fails(NAMES).errno == 608
    history = "ICEBERG_TABLE_SNAPSHOT_REFRESH_HISTORY(TABLE_NAME => 'd.s.payments')"
    assert lake.fails(f"SELECT * FROM TABLE(INFORMATION_SCHEMA.{history})").errno == 608
    assert lake.fails("SELECT * FROM TABLE(GET_TABLE_VERSION_REFS('d.s.payments'))").errno == 608
    lake.ask("CREATE RESOURCE MONITOR rm WITH CREDIT_QUOTA = 1")
    lake.ask("ALTER WAREHOUSE wh SET RESOURCE_MONITOR = rm")
    assert lake.fails(NAMES).errno == 90073
    lake.ask(REFRESH)
    lake.ask(STATUS)


def test_what_was_refreshed_is_there_after_a_restart_without_the_catalog(lake: Lake) -> None:
    lake.ask("CREATE VIEW v AS SELECT UPPER(name) AS name FROM payments")
    lake.publish("b")
    again = Snowflake(lake.home)
    again.ask("USE WAREHOUSE wh")
    assert again.ask("SELECT name FROM d.s.v") == [{"NAME": "A"}]
    assert again.fails("ALTER ICEBERG TABLE d.s.payments REFRESH").errno == 4140


def test_what_cannot_be_read_at_a_restart_is_read_once_it_can(lake: Lake) -> None:
    lake.ask("CREATE VIEW v AS SELECT name FROM payments")
    files = lake.home / "wh"
    files.rename(lake.home / "away")
    again = Snowflake(lake.home)
    again.ask("USE WAREHOUSE wh")
    assert again.fails("SELECT name FROM d.s.v").sqlstate in ("XX000", "42S02")
    (lake.home / "away").rename(files)
    assert again.ask("SELECT name FROM d.s.v") == [{"NAME": "a"}]


def test_a_slow_refresh_is_pending_meanwhile(lake: Lake) -> None:
    make_trouble(lake.home, Trouble(slow=3600))
    lake.ask("ALTER CATALOG INTEGRATION lake SET REFRESH_INTERVAL_SECONDS = 0")
    lake.ask("ALTER ICEBERG TABLE payments SET AUTO_REFRESH = TRUE")
    lake.account.refresher.start()
    lake.publish("b")
    until(lambda: lake.status()["pendingSnapshotCount"] == 1)
    assert lake.names() == ["a"]
    make_trouble(lake.home, Trouble())
    until(lambda: lake.names() == ["a", "b"])


LINKED = """CREATE DATABASE follows LINKED_CATALOG = (CATALOG = 'LAKE', ALLOWED_NAMESPACES = ('curated'),
  ALLOWED_WRITE_OPERATIONS = NONE, SYNC_INTERVAL_SECONDS = 60), EXTERNAL_VOLUME = 'VOL' COMMENT = 'c'"""


def test_a_linked_database_finds_its_tables_by_itself_and_holds_nothing_else(lake: Lake) -> None:
    lake.ask(LINKED)
    rows = 'SELECT name FROM follows."curated"."payments" ORDER BY 1'
    assert lake.fails(rows).errno == 2003
    linked.start(lake.account)
    until(lambda: lake.ask("SHOW ICEBERG TABLES IN DATABASE follows"))
    assert lake.names(rows) == ["a"]
    assert lake.ask("SHOW DATABASES LIKE 'follows'")[0]["kind"] == "CATALOG-LINKED"
    lake.ask("ALTER DATABASE follows UPDATE LINKED_CATALOG SET SYNC_INTERVAL_SECONDS = 90")
    (told,) = lake.ask("SELECT SYSTEM$GET_CATALOG_LINKED_DATABASE_CONFIG('FOLLOWS') AS said")
    assert json.loads(told["SAID"]) == {
        "catalog_integration": "LAKE",
        "external_volume": "VOL",
        "catalog_case_sensitivity": "CASE_INSENSITIVE",
        "allowed_namespaces": ["curated"],
        "allowed_write_operations": "NONE",
        "sync_interval_seconds": 90,
    }
    for sql in ("CREATE SCHEMA follows.own", 'CREATE VIEW follows."curated".v AS SELECT 1 AS k'):
        assert "catalog-linked" in str(lake.fails(sql).raw_msg)
    again = Snowflake(lake.home)
    again.ask("USE WAREHOUSE wh")
    assert again.ask(rows) == [{"NAME": "a"}]
    lake.ask("DROP DATABASE follows")
    assert lake.fails(rows).errno == 2003


def test_a_linked_database_needs_an_integration_a_volume_and_to_say_who_writes(lake: Lake) -> None:
    assert lake.fails(LINKED.replace("'LAKE'", "'NONE'")).errno == 2003
    assert lake.fails(LINKED.replace("'VOL'", "'NONE'")).errno == 2003
    assert lake.fails(LINKED.replace("= NONE", "= SOME")).errno == 1003
    lacking = lake.fails(LINKED.replace("ALLOWED_WRITE_OPERATIONS = NONE,", ""))
    assert "Missing option" in str(lacking.raw_msg)


def test_verifying_an_integration_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    snow = Snowflake(tmp_path)
    snow.ask(INTEGRATION.replace("TYPE = OAUTH", "TYPE = SIGV4"))
    said = json.loads(snow.ask("SELECT SYSTEM$VERIFY_CATALOG_INTEGRATION('lake') AS said")[0]["SAID"])
    assert (said["success"], said["errorCode"]) == (False, "004140")
    assert "catalog integration LAKE" in said["errorMessage"]
