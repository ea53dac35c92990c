"""Which records a hold covers, by the very SQL that asks for them, on rows in memory."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from lakehouse.holds import HeldDays, Hold, Scope
from lakehouse.maintenance import held_days as module
from lakehouse.maintenance.held_days import held_days

START = datetime(2024, 1, 10, 12, tzinfo=UTC)
CUT = datetime(2024, 2, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def at(days: int) -> datetime:
    return START + days * DAY


RETIRED = at(-1)
# Kafka time, key, bytes, event time
RAW_ROWS = [
    (at(0), b"acct-1", b"{}", at(-30)),
    (at(1), b"acct-2", b"names acct-1 too", at(1)),
    (at(2), None, b"broken, of acct-1", None),
    (at(3), None, b"broken", None),
    (at(4), b"acct-1", b"{}", at(4)),
    (CUT, b"acct-1", b"{}", at(0)),
]
# Kafka time, account, event time: of records that raw has, and of one that was dropped long ago
VERSION_ROWS = [
    (at(-99), "acct-1", at(-99)),
    (at(0), "acct-1", at(-30)),
    (at(5), "acct-9", at(5)),
    (at(6), "acct-8", at(-40)),
]


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> Any:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("CREATE SCHEMA raw; CREATE SCHEMA curated")
    connection.execute(
        "CREATE TABLE raw.payment_events "
        '(kafka_ts TIMESTAMPTZ, "key" BLOB, "value" BLOB, event_ts TIMESTAMPTZ)'
    )
    connection.executemany("INSERT INTO raw.payment_events VALUES (?, ?, ?, ?)", RAW_ROWS)
    connection.execute(
        "CREATE TABLE curated.event_versions (kafka_ts TIMESTAMPTZ, account_id TEXT, event_ts TIMESTAMPTZ)"
    )
    connection.executemany("INSERT INTO curated.event_versions VALUES (?, ?, ?)", VERSION_ROWS)

    def run_query(_catalog: Any, _properties: Any, sql: str, _moment: Any, variables: dict[str, Any]) -> Any:
        for name, value in variables.items():
            connection.execute(f'SET VARIABLE "{name}" = ?', [value])
        return SimpleNamespace(rows=connection.execute(sql).fetchall())

    monkeypatch.setattr(module, "run_query", run_query)
    return SimpleNamespace(table_exists=lambda _name: True)


def kept(lake: Any, scope: Scope, since: datetime | None = RETIRED) -> HeldDays | None:
    hold = Hold("case", scope, "court", "bob", "me", START)
    found = held_days(lake, {}, 1, since, CUT, [hold])
    return found[0] if found else None


@pytest.mark.parametrize(
    ("scope", "first", "last", "records"),
    [
        # by its key, and whatever that is by its bytes; what comes from the cut on is not asked for
        (Scope("acct-1"), at(0), at(4), 4),
        (Scope("acct-1", at(1), at(2)), at(1), at(1), 1),
        (Scope("acct-2"), at(1), at(1), 1),
        # by what its content said, whatever its key was
        (Scope("acct-9"), at(5), at(5), 1),
        # by Kafka's time, or the event's
        (Scope(None, at(3), at(4)), at(3), at(3), 1),
        (Scope(None, at(-31), at(-29)), at(0), at(0), 1),
        (Scope(None, at(2)), at(2), at(6), 3),
        # by what its content said of the time, which raw does not know
        (Scope(None, at(-41), at(-39)), at(6), at(6), 1),
        (Scope(None, None, at(1)), at(0), at(6), 2),
        (Scope("acct-1", at(3)), at(4), at(4), 1),
        (Scope("acct-1", at(-31), at(-29)), at(0), at(0), 1),
    ],
)
def test_a_hold_keeps_the_days_of_what_it_covers(
    lake: Any, scope: Scope, first: datetime, last: datetime, records: int
) -> None:
    found = kept(lake, scope)
    assert found is not None
    assert (found.first, found.last, found.records) == (first.date(), last.date(), records)


@pytest.mark.parametrize("scope", [Scope("acct-7"), Scope(None, at(100)), Scope("acct-2", at(2))])
def test_a_hold_that_covers_nothing_there_keeps_nothing(lake: Any, scope: Scope) -> None:
    assert kept(lake, scope) is None


def test_what_was_dropped_before_is_not_held_again(lake: Any) -> None:
    assert kept(lake, Scope("acct-1"), None).first == date(2023, 10, 3)  # type: ignore[union-attr]
    assert kept(lake, Scope("acct-1"), RETIRED).first == date(2024, 1, 10)  # type: ignore[union-attr]


def test_an_account_is_a_value_and_never_sql(lake: Any) -> None:
    assert kept(lake, Scope("' OR true --")) is None
