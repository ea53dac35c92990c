"""Closed hours, their completeness and the watermark, from a publish log made by hand, in DuckDB."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow

from lakehouse.arrivals_sql import ARRIVALS_SQL, WATERMARK_SQL
from lakehouse.definitions import BY_NAME, PAYMENTS, PUBLISH_LOG, VERSIONS

H = 494_000  # an event hour, in hours since 1970
MINUTE = 60_000
Row = dict[str, Any]


def at(hours: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hours)


def publish(published: float, complete_to: float | None, *arrivals: tuple[int | None, int, int, int]) -> Row:
    """A publish of payments; arrivals are (hour, records, maximum, p99), delays in minutes."""
    return {
        "table_name": PAYMENTS,
        "table_uuid": "now",
        "snapshot_id": int(published * 1000),
        "published_at": at(published),
        "operation": "append",
        "complete_to": None if complete_to is None else at(complete_to),
        "totals": "{}",
        "arrivals": [
            {"hour": hour, "records": records, "max_delay_ms": most * MINUTE, "p99_delay_ms": p99 * MINUTE}
            for hour, records, most, p99 in arrivals
        ],
    }


def ask(view: str, log: list[Row]) -> list[Row]:
    schema = schema_to_pyarrow(BY_NAME[PUBLISH_LOG].schema(), include_field_ids=False)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("log", pa.Table.from_pylist(log, schema))
        connection.execute("CREATE SCHEMA curated")
        connection.execute(f"CREATE VIEW {PUBLISH_LOG} AS SELECT * FROM log")
        return connection.sql(view).to_arrow_table().to_pylist()


def hours(log: list[Row]) -> dict[datetime | None, Row]:
    return {row["hour"]: row for row in ask(ARRIVALS_SQL, log)}


def test_an_hour_is_closed_by_the_first_publish_that_is_complete_to_a_day_after_its_end() -> None:
    open_yet = [publish(H + 1, H + 0.9, (H, 100, 5, 2)), publish(H + 25.1, H + 24.9, (H, 1, 1490, 1490))]
    (row,) = hours(open_yet).values()
    assert (row["hour"], row["closes_at"], row["closed_at"]) == (at(H), at(H + 25), None)
    assert (row["records"], row["late_records"], row["completeness"]) == (101, None, None)
    closing = [publish(H + 25.2, H + 25), publish(H + 25.3, H + 25.1)]
    assert hours([*open_yet, *closing])[at(H)]["closed_at"] == at(H + 25.2)


def test_completeness_is_the_share_that_was_there_when_the_hour_was_seen_closed() -> None:
    log = [
        publish(H + 1, H + 0.9, (H, 90, 5, 2), (H + 1, 7, 3, 1)),
        publish(H + 25.2, H + 25.1, (H, 6, 1500, 1500)),
        publish(H + 30, H + 29.9, (H, 3, 1800, 1800), (None, 2, 9000, 9000)),
        publish(H + 31, None, (H, 1, 1860, 1860)),
    ]
    row = hours(log)[at(H)]
    assert (row["records"], row["late_records"], row["completeness"]) == (100, 4, 0.96)
    assert (row["max_delay_ms"], row["p99_delay_ms"]) == (1860 * MINUTE, 1860 * MINUTE)
    assert (row["first_published_at"], row["last_published_at"]) == (at(H + 1), at(H + 31))
    following = hours(log)[at(H + 1)]
    assert (following["late_records"], following["completeness"]) == (0, 1.0)
    older = hours(log)[None]
    assert (older["records"], older["closed_at"], older["completeness"]) == (2, None, None)


def test_only_publishes_of_payments_as_they_are_now_count() -> None:
    before = publish(H + 0.5, H + 99, (H, 50, 1, 1)) | {"table_uuid": "dropped since"}
    versions = publish(H + 2, H + 99, (H, 50, 1, 1)) | {"table_name": VERSIONS}
    row = hours([before, versions, publish(H + 1, H + 0.9, (H, 100, 5, 2))])[at(H)]
    assert (row["records"], row["complete_to"]) == (100, at(H + 0.9))


def test_the_watermark_is_what_99_of_100_records_came_within() -> None:
    days_ago = publish(H - 48, H - 48, (H - 90, 100_000, 2500, 2500))
    recent = publish(H, H - 0.5, (H - 1, 1000, 30, 10), (H - 2, 1000, 60, 20), (H - 40, 10, 2400, 2400))
    (row,) = ask(WATERMARK_SQL, [days_ago, recent])
    # at least 990 came within 10 minutes, 990 within 20, and 10 more within 30: 1990 of 2010
    assert row["p99_delay_ms"] == 30 * MINUTE
    assert row["complete_to"] == at(H - 0.5)
    assert row["watermark"] == at(H - 1)
    assert row["closed_to"] == at(H - 25)


def test_records_that_are_early_do_not_put_the_watermark_ahead() -> None:
    (row,) = ask(WATERMARK_SQL, [publish(H, H, (H, 10, -3, -5))])
    assert (row["p99_delay_ms"], row["watermark"]) == (0, at(H))


def test_without_any_record_there_is_no_watermark() -> None:
    for log in ([], [publish(H, None)], [publish(H, H)]):
        (row,) = ask(WATERMARK_SQL, log)
        assert row["watermark"] is None
