"""The stand-in for Snowflake as a process: the real connector, the real catalog, the job's own tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from snowflake.connector.errors import DatabaseError, ProgrammingError

from config.settings import Settings
from lakehouse.definitions import PAYMENTS
from local.snowflake.trouble import Trouble, make_trouble
from tests.events import wire_now
from tests.pipeline import Pipeline
from tests.stand_in import StandIn, until

pytestmark = pytest.mark.integration

TABLE = "PAYWAVE.CURATED.PAYMENTS"
TOTALS = f"SELECT COUNT(*), SUM(amount) FROM {TABLE}"
REFRESH = f"ALTER ICEBERG TABLE {TABLE} REFRESH"
VIEW = f"""CREATE OR REPLACE SECURE VIEW paywave.curated.by_hour (hour COMMENT 'UTC', payments, total)
  COMMENT = 'per hour' AS
  SELECT DATE_TRUNC('hour', event_ts), COUNT(*), SUM(IFF(status = 'APPROVED', amount, 0))
  FROM {TABLE} WHERE ARRAY_SIZE(event_ids) > 0 GROUP BY 1
  QUALIFY ROW_NUMBER() OVER (PARTITION BY 1 ORDER BY 1) >= 1"""


@pytest.fixture
def stand_in(stack: Settings) -> Iterator[StandIn]:
    """A running stand-in without any object."""
    stand_in = StandIn(stack)
    stand_in.start()
    yield stand_in
    stand_in.kill()
    make_trouble(stack.home, Trouble())


def make_table(stand_in: StandIn) -> None:
    """Make all that a reader needs, as an administrator would."""
    stand_in.ask(
        "CREATE OR REPLACE WAREHOUSE readers WAREHOUSE_SIZE = XSMALL AUTO_SUSPEND = 60 AUTO_RESUME = TRUE",
        "USE WAREHOUSE readers",
        "CREATE DATABASE IF NOT EXISTS paywave",
        "CREATE SCHEMA IF NOT EXISTS paywave.curated",
        "CREATE EXTERNAL VOLUME IF NOT EXISTS lake_files STORAGE_LOCATIONS = ((NAME = 'main' "
        "STORAGE_PROVIDER = 'S3' STORAGE_BASE_URL = 's3://lake/' STORAGE_AWS_ROLE_ARN = 'arn:role')) "
        "ALLOW_WRITES = FALSE",
        integration(stand_in.settings.catalog_properties()["uri"]),
        f"CREATE OR REPLACE ICEBERG TABLE {TABLE} EXTERNAL_VOLUME = 'lake_files' CATALOG = 'lake' "
        "CATALOG_NAMESPACE = 'curated' CATALOG_TABLE_NAME = 'payments' AUTO_REFRESH = FALSE",
    )


def integration(uri: str) -> str:
    return (
        "CREATE OR REPLACE CATALOG INTEGRATION lake CATALOG_SOURCE = ICEBERG_REST TABLE_FORMAT = ICEBERG "
        f"REST_CONFIG = (CATALOG_URI = '{uri}') REST_AUTHENTICATION = (TYPE = BEARER BEARER_TOKEN = 'x') "
        "ENABLED = TRUE REFRESH_INTERVAL_SECONDS = 1"
    )


def fails(stand_in: StandIn, sql: str) -> ProgrammingError:
    with pytest.raises(ProgrammingError) as caught:
        stand_in.ask(sql)
    return caught.value


@pytest.mark.slow
def test_it_follows_the_catalog_fails_as_snowflake_does_and_outlives_a_kill(
    stand_in: StandIn, pipeline: Pipeline
) -> None:
    pipeline.send_lines(wire_now(name, merchant_id=name) for name in ("e1", "e2"))
    pipeline.run()
    make_table(stand_in)
    assert stand_in.ask(TOTALS) == [(2, Decimal("200.00"))]
    verified = json.loads(stand_in.ask("SELECT SYSTEM$VERIFY_CATALOG_INTEGRATION('lake')")[0][0])
    assert verified["success"] is True

    # A correction takes the old row away by a deletion vector, and is seen after a refresh only.
    first = pipeline.catalog.load_table(PAYMENTS).current_snapshot().snapshot_id
    pipeline.send_lines([wire_now("e1", merchant_id="e1", revision=1, amount="50.00", minute=1)])
    pipeline.run()
    assert stand_in.ask(TOTALS) == [(2, Decimal("200.00"))]
    stand_in.ask(REFRESH)
    assert stand_in.ask(TOTALS) == [(2, Decimal("150.00"))]
    assert stand_in.ask(f"{TOTALS} AT (VERSION => {first})") == [(2, Decimal("200.00"))]
    own = "SELECT date_trunc('hour', event_ts), count(*), sum(amount) FROM curated.payments GROUP BY 1"
    assert stand_in.ask(VIEW, "SELECT * FROM paywave.curated.by_hour") == pipeline.query(own)

    # By itself; told to stall; killed meanwhile; let go again.
    stand_in.ask(f"ALTER ICEBERG TABLE {TABLE} SET AUTO_REFRESH = TRUE")
    make_trouble(stand_in.home, Trouble(stalled=(TABLE,)))
    pipeline.send_lines([wire_now("e3", merchant_id="e3")])
    pipeline.run()
    until(lambda: stand_in.status(TABLE)["executionState"] == "STALLED")
    assert fails(stand_in, REFRESH).errno == 4140
    stand_in.kill()
    stand_in.start()
    assert stand_in.ask("USE WAREHOUSE readers", TOTALS) == [(2, Decimal("150.00"))]
    until(lambda: stand_in.status(TABLE)["pendingSnapshotCount"] >= 1)
    make_trouble(stand_in.home, Trouble())
    until(lambda: stand_in.ask(TOTALS) == [(3, Decimal("250.00"))])
    until(lambda: stand_in.status(TABLE)["executionState"] == "RUNNING")
    assert stand_in.ask("SELECT SUM(payments) FROM paywave.curated.by_hour") == [(3,)]
    assert [row[1] for row in stand_in.ask("SHOW ICEBERG TABLES IN SCHEMA paywave.curated")] == ["PAYMENTS"]
    history = f"ICEBERG_TABLE_SNAPSHOT_REFRESH_HISTORY(TABLE_NAME => '{TABLE}')"
    assert len(stand_in.ask(f"SELECT * FROM TABLE(paywave.INFORMATION_SCHEMA.{history})")) >= 3

    make_trouble(stand_in.home, Trouble(denied=(TABLE,), suspended=("READERS",)))
    denied = fails(stand_in, TOTALS)
    assert (denied.errno, denied.sqlstate) == (3001, "42501")
    assert "Insufficient privileges to operate on table 'PAYMENTS'" in str(denied)
    suspended = fails(stand_in, "SELECT * FROM paywave.curated.by_hour")
    assert (suspended.errno, suspended.sqlstate) == (608, "57P03")


def test_the_connector_logs_in_by_password_or_key_and_hears_what_is_wrong(stand_in: StandIn) -> None:
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    body = "".join(public.splitlines()[1:-1])
    stand_in.ask("CREATE OR REPLACE USER robot COMMENT = 'by key'")
    stand_in.ask(f"ALTER USER robot SET RSA_PUBLIC_KEY = '{body}'", "CREATE ROLE IF NOT EXISTS reader")
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    by_key = stand_in.connect(user="robot", password=None, private_key=private, role="reader")
    assert by_key.cursor().execute("SELECT CURRENT_USER(), CURRENT_ROLE()").fetchall() == [
        ("ROBOT", "READER")
    ]
    for wrong in ({"password": "guess"}, {"role": "absent"}):
        with pytest.raises(DatabaseError, match=r"Incorrect username or password|does not exist"):
            stand_in.connect(**wrong)
    for sql in ("EXECUTE TASK t", "GIVE ME EVERYTHING", "CREATE STREAM s ON TABLE t", "SELECT 1 FROM"):
        assert fails(stand_in, sql).errno == 1003, sql
    by_oauth = (
        "TYPE = OAUTH OAUTH_CLIENT_ID = 'me' OAUTH_CLIENT_SECRET = 'x' OAUTH_ALLOWED_SCOPES = ('catalog')"
    )
    uri = stand_in.settings.catalog_properties()["uri"]
    stand_in.ask(integration(uri).replace("TYPE = BEARER BEARER_TOKEN = 'x'", by_oauth))
    said = json.loads(stand_in.ask("SELECT SYSTEM$VERIFY_CATALOG_INTEGRATION('lake')")[0][0])
    assert said["success"] is True, said
    stand_in.ask(integration("http://127.0.0.1:9"))
    said = json.loads(stand_in.ask("SELECT SYSTEM$VERIFY_CATALOG_INTEGRATION('lake')")[0][0])
    assert (said["success"], said["errorCode"]) == (False, "004140")
