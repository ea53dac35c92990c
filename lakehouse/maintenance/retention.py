"""Retention: whole old days of raw are dropped, by an explicit run that says why and by whose leave.

Belongs here: the order of the steps, who must be done with the days, and the audit. Does not: the calendar
(`due.py`), files (`old_files.py`), the ledger (`lakehouse/retention_log.py`).

Raw's rows go only here. They go from the front: what is dropped is every record of each Kafka partition below
an offset, so that one vector says to all readers what there is no more (docs/adr/0026-raw-retention.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

import structlog
from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import EqualTo
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import (
    DRIFT,
    PARTNER_HOURS,
    PAYMENTS,
    QUARANTINE,
    RAW,
    RECONCILIATION,
    VERSIONS,
)
from lakehouse.errors import RetentionRefused
from lakehouse.hold_log import HoldLog
from lakehouse.holds import HeldDays, Hold, first_held_day
from lakehouse.maintenance.dropping import ABANDONED_SECONDS, PATIENCE, WRITER, dropped, plan_to_drop
from lakehouse.maintenance.due import (
    KEPT_MONTHS,
    check_age,
    day_of,
    first_hour_of,
    latest_cut,
    start_of_day,
    trusted_now,
)
from lakehouse.maintenance.held_days import held_days
from lakehouse.maintenance.old_files import (
    OldFile,
    check_counted,
    files_before,
    held_by_tags,
    newest_hour,
)
from lakehouse.maintenance.retention_loss import Loss, loss_of
from lakehouse.offsets import OffsetVector, Range
from lakehouse.publish import Plan, Publisher
from lakehouse.refs import Head, read_head
from lakehouse.retention_log import Day, Order, Span, keep_retention_log
from lakehouse.turns import drop_abandoned, wait_for_turn

# The tables that the jobs fill from raw, each with its own progress.
READERS = (VERSIONS, PAYMENTS, QUARANTINE, DRIFT, PARTNER_HOURS)
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)
# pyiceberg's plugin for mypy knows no positional arguments
_equal: Any = EqualTo


@dataclass(frozen=True)
class RetentionSettings:
    """How many months raw is kept: those that are promised, or more."""

    kept_months: int = KEPT_MONTHS

    def __post_init__(self) -> None:
        if self.kept_months < KEPT_MONTHS:
            raise ValueError(f"{self.kept_months} months: raw is promised to be kept for {KEPT_MONTHS}")


@dataclass(frozen=True)
class Due:
    """What may go, and what stands against it.

    Args:
        below: offsets below which raw has nothing then.
        missing: offsets of these days that raw does not have: gaps that were there before.
        strays: rows that would stay though others of their partition with higher offsets go.
        behind: readers that are not past these days, and where they stand.
        held: files of these days that tags keep, by tag; the others go once their snapshots expire.
        holds: legal holds that keep records of these days.
    """

    before: date
    days: tuple[Day, ...] = ()
    below: OffsetVector = field(default_factory=OffsetVector)
    missing: int = 0
    strays: int = 0
    behind: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)
    holds: tuple[HeldDays, ...] = ()
    loss: Loss = field(default_factory=Loss)

    @property
    def records(self) -> int:
        return sum(day.records for day in self.days)

    @property
    def files(self) -> int:
        return sum(day.files for day in self.days)

    @property
    def bytes(self) -> int:
        return sum(day.bytes for day in self.days)

    def check(self) -> None:
        """Raise `RetentionRefused` if the days must stay for now."""
        if self.holds:
            raise RetentionRefused(
                f"days before {self.before} are held: {'; '.join(map(str, self.holds))}",
                f"raw goes from the front: before {first_held_day(self.holds)} is the most that can go until "
                "`paywave retention release`; nothing was dropped",
            )
        if self.behind:
            listed = "; ".join(f"{name} {stands}" for name, stands in self.behind.items())
            raise RetentionRefused(
                f"days before {self.before} are not read by all: {listed}",
                "let these jobs catch up (`paywave stream curated|drift|profile --once`), then start again",
            )
        if self.strays:
            raise RetentionRefused(
                f"table {RAW}: {self.strays} records of {self.before} or later lie before older ones in "
                "their partition: the broker's clock went back over midnight",
                "choose another day; nothing was dropped",
            )

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        sums = {"records": self.records, "files": self.files, "bytes": self.bytes}
        return {
            "before": self.before.isoformat(),
            "days": [day.as_json() for day in self.days],
            **sums,
            "below": self.below.topics,
            "missing": self.missing,
            "strays": self.strays,
            "behind": dict(self.behind),
            "held_by_tags": dict(self.held),
            "legal_holds": [held.as_json() for held in self.holds],
            "lost": asdict(self.loss),
        }


@dataclass(frozen=True)
class Dropped:
    """What a run dropped; without a snapshot nothing was left to drop, or another run was first."""

    due: Due
    snapshot_id: int | None

    def __str__(self) -> str:
        return f"{self.due.records:,} records dropped"

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {**self.due.as_json(), "snapshot_id": self.snapshot_id and str(self.snapshot_id)}


@dataclass
class _Measured:
    """What the last look found, and the files and holds that it is about: the same ones give the same."""

    files: frozenset[OldFile]
    due: Due
    holds: tuple[Hold, ...] | None = None


class Retention:
    """Drops old days of raw, and says what that would mean."""

    def __init__(
        self,
        catalog: RestCatalog,
        spark: Callable[[], SparkSession],
        properties: Mapping[str, str],
        settings: RetentionSettings,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take the ways to the tables.

        Args:
            properties: pyiceberg's properties of the catalog, for asking what would be lost.
        """
        self._catalog = catalog
        self._spark = spark
        self._properties = properties
        self._settings = settings
        self._now = now
        self._measured: _Measured | None = None

    def look(self, before: date | None = None) -> Due:
        """Say what could go: the days before `before`, or all that are old enough. Raises `TooYoung`."""
        head = read_head(self._catalog, RAW)
        before = before or latest_cut(self._time(head), self._settings.kept_months)
        check_age(before, self._time(head), self._settings.kept_months)
        return self._look(head, before)

    def drop(self, before: date, reason: str, approver: str, actor: str) -> Dropped:
        """Drop the days before `before`, in one publish, and record it.

        Raises `TooYoung`, `RetentionRefused` where readers are behind, `HoldRefused` where the holds' ledger
        cannot be believed, or `PublishError`; to start again is safe.
        """
        head = read_head(self._catalog, RAW)
        check_age(before, self._time(head), self._settings.kept_months)
        order = Order(reason, approver, actor, self._settings.kept_months)
        drop_abandoned(self._catalog, RAW, WRITER, ABANDONED_SECONDS)
        keep_retention_log(self._catalog, self._spark())  # of a run that died before it could
        due = self._look(head, before)
        due.check()
        wait_for_turn(self._catalog, RAW)
        with _tracer.start_as_current_span("maintain.retention", attributes={"before": before.isoformat()}):
            publisher = Publisher(self._catalog, WRITER, PATIENCE)
            published = publisher.publish(RAW, lambda head: self._plan(head, before, order))
        if published is None or self._measured is None:
            return Dropped(Due(before), None)
        due = self._measured.due  # of the head that was published from
        keep_retention_log(self._catalog, self._spark())
        dropped.add(due.records)
        _log.warning(
            "raw dropped", before=before.isoformat(), records=due.records, files=due.files,
            reason=reason, approver=approver, snapshot_id=published.snapshot_id,
        )  # fmt: skip
        return Dropped(due, published.snapshot_id)

    def _time(self, head: Head) -> datetime:
        return trusted_now(self._now(), newest_hour(head.table, head.snapshot))

    def _plan(self, head: Head, before: date, order: Order) -> Plan | None:
        due = self._look(head, before)
        if not due.days or self._measured is None:
            return None
        due.check()
        old, days = self._measured.files, list(due.days)
        check_counted(head.name, old, due.records)
        return plan_to_drop(head, self._spark, before, old, days, due.below, order)

    # -- measuring -------------------------------------------------------------------------------------------

    def _look(self, head: Head, before: date) -> Due:
        """Measure the days before one; rows are read anew only if there are other files than last time."""
        old = frozenset(files_before(head.table, head.snapshot, first_hour_of(before)))
        if self._measured is None or self._measured.files != old or self._measured.due.before != before:
            due = self._measure(head, before, old) if old else Due(before)
            self._measured = _Measured(old, due)
        if not self._measured.due.days:
            return self._measured.due
        self._look_for_holds(head, self._measured)
        return replace(
            self._measured.due,
            behind=_behind(self._catalog, self._measured.due.below, start_of_day(before)),
        )

    def _look_for_holds(self, head: Head, measured: _Measured) -> None:
        """Ask for what the holds that stand now keep; not again while they and the files are the same."""
        holds = HoldLog(self._catalog).in_force()
        if measured.holds != holds:
            cut, snapshot_id = start_of_day(measured.due.before), head.snapshot.snapshot_id
            since = head.retired.before
            held = held_days(self._catalog, self._properties, snapshot_id, since, cut, holds)
            measured.due, measured.holds = replace(measured.due, holds=held), holds

    def _measure(self, head: Head, before: date, old: Iterable[OldFile]) -> Due:
        rows = _raw(self._spark(), head).where(F.col("kafka_ts") < F.lit(start_of_day(before)))
        spans = _spans(rows)
        below = _ends(spans)
        ranges = head.retired.below.ranges_to(below)
        days = _days(spans, old)
        stay = _raw(self._spark(), head).where(F.col("kafka_ts") >= F.lit(start_of_day(before)))
        return Due(
            before,
            tuple(days),
            below,
            missing=max(0, sum(r.end - r.start for r in ranges) - sum(day.records for day in days)),
            strays=stay.where(_within(ranges)).count(),
            held=held_by_tags(head.table, old),
            loss=loss_of(self._catalog, self._properties, ranges, start_of_day(before)),
        )


def _raw(spark: SparkSession, head: Head) -> DataFrame:
    return spark.read.option("versionAsOf", head.snapshot.snapshot_id).table(f"{CATALOG_NAME}.{RAW}")


def _spans(rows: DataFrame) -> list[tuple[date, str, int, Span]]:
    """Find first and last offset and the number of rows, by day, topic id and partition."""
    day = F.expr(f"{CATALOG_NAME}.system.days(kafka_ts)").alias("day")
    found = rows.groupBy(day, "topic_id", "partition").agg(
        F.min("offset").alias("first"), F.max("offset").alias("last"), F.count("*").alias("records")
    )
    return [
        (r["day"], r["topic_id"], r["partition"], Span(r["first"], r["last"], r["records"]))
        for r in found.orderBy("day", "topic_id", "partition").collect()
    ]


def _ends(spans: Iterable[tuple[date, str, int, Span]]) -> OffsetVector:
    below = OffsetVector()
    for _, topic_id, partition, span in spans:
        below = below.greatest(OffsetVector({topic_id: {partition: span.last + 1}}))
    return below


def _days(spans: Iterable[tuple[date, str, int, Span]], old: Iterable[OldFile]) -> list[Day]:
    offsets: dict[date, dict[str, dict[int, Span]]] = defaultdict(lambda: defaultdict(dict))
    for day, topic_id, partition, span in spans:
        offsets[day][topic_id][partition] = span
    files: dict[date, list[OldFile]] = defaultdict(list)
    for file in old:
        files[day_of(file.hour)].append(file)
    return [
        Day(
            day,
            sum(span.records for of_topic in offsets[day].values() for span in of_topic.values()),
            len(files[day]),
            sum(file.bytes for file in files[day]),
            {topic_id: dict(of_topic) for topic_id, of_topic in offsets[day].items()},
        )
        for day in sorted(files)
    ]


def _within(ranges: Iterable[Range]) -> Column:
    found = F.lit(False)
    for r in ranges:
        of_partition = (F.col("topic_id") == r.topic_id) & (F.col("partition") == r.partition)
        found = found | (of_partition & (F.col("offset") >= r.start) & (F.col("offset") < r.end))
    return found


def _behind(catalog: RestCatalog, below: OffsetVector, cut: datetime) -> dict[str, str]:
    """Find the readers of raw that have not read all below a vector; a table that is gone read nothing."""
    found = {}
    for name in READERS:
        try:
            reached = read_head(catalog, name).offsets
        except NoSuchTableError:
            reached = OffsetVector()
        if not reached.covers(below):
            found[name] = f"lacks {reached.records_to(below):,} records"
    counted_to = _counted_to(catalog)
    if counted_to is not None and counted_to < cut:
        found[RECONCILIATION] = f"has counted hours up to {counted_to.isoformat()}"
    return found


def _counted_to(catalog: RestCatalog) -> datetime | None:
    """Ask up to which Kafka time hours were reconciled by counts; None where that was never begun."""
    try:
        scan = catalog.load_table(RECONCILIATION).scan(
            _equal("depth", "counts"), selected_fields=("scope_to",)
        )
    except NoSuchTableError:
        return None
    ends = [end for end in scan.to_arrow()["scope_to"].to_pylist() if end is not None]
    return max(ends, default=None)
