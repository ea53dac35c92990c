"""Whole hours reconciled without a person: after each hour of Kafka time, from what is cheap to know.

Belongs here: when an hour has passed, and counting it. Does not: judging records again (`reconcile.py`).

Of each hour that has passed: raw holds every offset, counted on four narrow columns of that hour alone. Of
the tables as they stand then: records = redelivered + versions + quarantined, from stamps and row counts that
the metadata has. Which version or payment is wrong, and money, is for `paywave reconcile`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.expressions import And, EqualTo, GreaterThanOrEqual
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.definitions import QUARANTINE, RAW, RECONCILIATION, VERSIONS
from lakehouse.fold import Coordinates
from lakehouse.offsets import OffsetVector
from lakehouse.refs import Head, read_head
from lakehouse.totals import RETIRED, told_by_no_row
from quality.reconciliation import RAW as RAW_ADDS_UP
from quality.reconciliation import RECORDS, Account
from streaming.partitions import hour_of, hour_sql, start_of
from streaming.reconcile.offsets import Missing, OffsetAccounts, find_missing
from streaming.reconcile.places import Places
from streaming.reconcile.result import Reconciliation
from streaming.reconcile.scope import widened
from streaming.reconcile.store import keep
from streaming.replay.ranges import range_of
from streaming.replay.scope import ALL, Scope

# After a long pause so many hours are counted; older ones are for `paywave reconcile --from`.
MOST_HOURS = 48
_HOUR = timedelta(hours=1)
_log = structlog.get_logger(__name__)
# pydantic hides the signatures of these from the type checker
_equal: Any = EqualTo
_from: Any = GreaterThanOrEqual


class PassedHours:
    """Reconciles each hour once it has passed; the table tells which were counted before."""

    def __init__(self, catalog: RestCatalog, spark: SparkSession) -> None:
        self._catalog = catalog
        self._spark = spark
        self._done: datetime | None = None

    def reconcile(self, complete_to: datetime | None) -> list[Reconciliation]:
        """Count the hours that end at `complete_to` or before and were not counted yet, and keep the result.

        Args:
            complete_to: Kafka time up to which every record is folded; None where it is not known.
        """
        if complete_to is None:
            return []
        until = start_of(hour_of(complete_to))
        if self._done is not None and until <= self._done:
            return []
        self._done = until  # what fails is tried again with the next hour, not with every batch
        earliest = until - MOST_HOURS * _HOUR
        since = max(earliest, self._counted_to(earliest) or self._first_hour() or until)
        if since >= until:
            return []
        found = count_hours(self._catalog, self._spark, since, until)
        keep(self._catalog, self._spark, *found)
        for result in found:
            _tell(result)
        return found

    def _counted_to(self, earliest: datetime) -> datetime | None:
        """Ask the table for the end of the last hour that was counted, if that is not too long ago."""
        recent = And(_equal("depth", "counts"), _from("scope_to", earliest.isoformat()))
        table = self._catalog.load_table(RECONCILIATION)
        ends = table.scan(recent, selected_fields=("scope_to",)).to_arrow()["scope_to"].to_pylist()
        return max(ends, default=None)

    def _first_hour(self) -> datetime | None:
        """Tell by raw's metadata in which hour its records begin."""
        found = self._catalog.load_table(RAW).inspect.partitions().to_pylist()
        return min((start_of(row["partition"]["kafka_ts_hour"]) for row in found), default=None)


def count_hours(
    catalog: RestCatalog, spark: SparkSession, since: datetime, until: datetime
) -> list[Reconciliation]:
    """Reconcile whole hours of Kafka time by counts: a result for each of them, and one for the tables."""
    raw, made_at = read_head(catalog, RAW), datetime.now(UTC)
    accounts = _count_offsets(catalog, spark, Scope(since, until), raw.offsets)
    snapshots = {RAW: raw.snapshot.snapshot_id}
    hours = [
        _result(made_at, Scope(start_of(hour), start_of(hour + 1)), (account,), snapshots, raw.offsets)
        for hour, account in accounts.items()
    ]
    return [*hours, *count_tables(catalog, raw, made_at)]


def _count_offsets(
    catalog: RestCatalog, spark: SparkSession, scope: Scope, consumed: OffsetVector
) -> dict[int, Account]:
    """Add up the offsets of each hour of a scope, those without any record included."""
    found = range_of(spark, catalog, scope, consumed)
    whole, first, last = widened(spark, found, consumed)
    hour = F.expr(hour_sql("kafka_ts")).alias("hour")
    rows = whole.read(spark).select("topic_id", "topic", "partition", "offset", hour)
    sums, missing = _counted(rows), list[Missing]()
    if not _all_there(sums, first, last):
        sums = _counted(rows, F.count_distinct("offset"))
        missing = find_missing(rows.dropDuplicates(list(Coordinates._fields)), first, last)
    places = Places({row["topic_id"]: row["topic"] for row in sums})
    assert scope.start is not None
    assert scope.end is not None
    hours = range(hour_of(scope.start), hour_of(scope.end))
    return {hour: _of_hour(hour, hours[0], places, sums, missing) for hour in hours}


def _counted(rows: DataFrame, coordinates: Column | None = None) -> list[dict[str, Any]]:
    """Count the rows of each partition and hour; those of one offset are looked for only where it matters."""
    found = rows.groupBy("topic_id", "topic", "partition", "hour").agg(
        F.count("*").alias("records"),
        (F.count("*") if coordinates is None else coordinates).alias("coordinates"),
        F.sum(F.col("offset").cast("decimal(38,0)")).alias("offsets"),
    )
    return [row.asDict() for row in found.collect()]


def _all_there(sums: list[dict[str, Any]], first: OffsetVector, last: OffsetVector) -> bool:
    """Tell by number and sum of the offsets: of a doubled row and a missing one the number says nothing."""
    ranges = first.ranges_to(last)
    expected = (
        sum(r.end - r.start for r in ranges),
        sum((r.start + r.end - 1) * (r.end - r.start) // 2 for r in ranges),
    )
    return (sum(row["records"] for row in sums), sum(row["offsets"] for row in sums)) == expected


def _of_hour(
    hour: int, first_hour: int, places: Places, sums: list[dict[str, Any]], missing: list[Missing]
) -> Account:
    accounts = OffsetAccounts(None, places)
    # where a whole partition is missing, no row tells the hour
    lost = [found for found in missing if (found.gap.hour or first_hour) == hour]
    accounts.add([row for row in sums if row["hour"] == hour], lost, OffsetVector(), OffsetVector())
    return accounts.raw


def count_tables(catalog: RestCatalog, raw: Head, made_at: datetime) -> Iterator[Reconciliation]:
    """Reconcile the tables as a whole by their metadata, where they have reached the same records."""
    versions, quarantine = read_head(catalog, VERSIONS), read_head(catalog, QUARANTINE)
    if versions.offsets != quarantine.offsets:
        return
    rows, records = Account(RAW_ADDS_UP), Account(RECORDS)
    rows.add({}, OffsetVector().records_to(raw.offsets), raw.rows, raw.totals.get(RETIRED, 0))
    redelivered = told_by_no_row(versions.totals, quarantine.totals)
    consumed = OffsetVector().records_to(versions.offsets)
    records.add({}, consumed, redelivered, versions.rows, quarantine.rows)
    snapshots = {head.name: head.snapshot.snapshot_id for head in (raw, versions, quarantine)}
    yield _result(made_at, ALL, (rows, records), snapshots, versions.offsets)


def _result(
    made_at: datetime,
    scope: Scope,
    accounts: tuple[Account, ...],
    snapshots: dict[str, int],
    offsets: OffsetVector,
) -> Reconciliation:
    return Reconciliation(uuid.uuid4().hex, made_at, "counts", scope, accounts, snapshots, offsets)


def _tell(result: Reconciliation) -> None:
    for account in result.accounts:
        if not account.is_balanced:
            _log.error(
                "books do not balance",
                scope=str(result.scope),
                identity=str(account.formula),
                left=account.total.left,
                right=sum(account.total.right),
                first=str(account.first or ""),
                next="paywave reconcile names what is missing",
            )
