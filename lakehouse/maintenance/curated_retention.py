"""Retention of the curated tables: whole old days, by event time, after raw has dropped them.

Belongs here: the order of the steps, what stands against it, and the audit. Does not: raw (`retention.py`),
the calendar (`due.py`), files (`old_files.py`), the ledger (`lakehouse/retention_log.py`).

A day goes of payments, of event_versions and (by Kafka time) of quarantine, in one publish each. The stamp of
each says what is gone, so that whoever folds raw again leaves it out (docs/adr/0034-curated-retention.md).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import structlog
from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.errors import RetentionRefused
from lakehouse.hold_log import HoldLog
from lakehouse.holds import HeldDays, Hold, first_held_day
from lakehouse.maintenance.dropping import ABANDONED_SECONDS, PATIENCE, WRITER, dropped, plan_to_drop
from lakehouse.maintenance.due import check_age, day_of, first_hour_of, latest_cut, start_of_day, trusted_now
from lakehouse.maintenance.held_days import held_event_days
from lakehouse.maintenance.old_files import (
    OldFile,
    files_before,
    held_by_tags,
    newest_hour,
)
from lakehouse.publish import Plan, Publisher
from lakehouse.query import run_query
from lakehouse.refs import Head, read_head
from lakehouse.retention_log import CURATED, Day, Order, keep_retention_log
from lakehouse.turns import drop_abandoned, wait_for_turn

WHAT = "the curated tables"
# A late record between the publishes of two tables stays in the first alone: then both go once more.
_ROUNDS = 3
# The curated job publishes versions, then payments, seconds apart.
_IN_STEP_SECONDS = 120.0
_GOES_ON = timedelta(days=31)
_PARTED = f"""
    SELECT count(*) FROM (
        SELECT account_id, transaction_ref, currency FROM {PAYMENTS}
        WHERE event_ts < getvariable('cut') AND transaction_ref IS NOT NULL
        INTERSECT
        SELECT account_id, transaction_ref, currency FROM {PAYMENTS}
        WHERE event_ts >= getvariable('cut') AND event_ts < getvariable('later')
    )
"""  # noqa: S608
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True)
class CuratedDue:
    """What may go of each table, and what stands against it.

    Args:
        raw_before: raw has nothing from before this Kafka time; None: it still has everything.
        gone_before: a table's rows of before this time went already; None: none did.
        parted: transactions that have payments before the cut and in the month after it: of these only the
            later ones stay.
        held: files of these days that tags keep, by table and tag.
        holds: legal holds that cover rows of these days.
    """

    before: date
    tables: Mapping[str, tuple[Day, ...]] = field(default_factory=dict)
    raw_before: datetime | None = None
    gone_before: datetime | None = None
    parted: int = 0
    held: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    holds: tuple[HeldDays, ...] = ()

    @property
    def rows(self) -> int:
        return sum(day.records for days in self.tables.values() for day in days)

    def check(self) -> None:
        """Raise `RetentionRefused` if the days must stay for now."""
        gone = self.gone_before
        if gone is not None and start_of_day(self.before) < gone:
            # the stamp speaks of all before one time: rows between the two would count as gone, and be there
            raise RetentionRefused(
                f"curated rows of before {gone:%Y-%m-%d} went already: {self.before} is behind that",
                f"what came since of these days goes with a drop before {gone:%Y-%m-%d}, or a later day",
            )
        if self.holds:
            first = first_held_day(self.holds)
            can_go = gone is None or (first is not None and start_of_day(first) >= gone)
            most = f"before {first} is the most that can go" if can_go else "nothing can go"
            raise RetentionRefused(
                f"curated rows of before {self.before} are held: {'; '.join(map(str, self.holds))}",
                f"days go from the front: {most} until `paywave retention release`; nothing was dropped",
            )
        if self._is_in_raw:
            said = "everything" if self.raw_before is None else f"all since {self.raw_before:%Y-%m-%d}"
            raise RetentionRefused(
                f"raw still has {said}, so curated rows of before {self.before} must stay",
                "drop these days from raw first: `paywave retention plan`, `paywave retention apply`",
            )

    @property
    def _is_in_raw(self) -> bool:
        return self.raw_before is None or self.raw_before < start_of_day(self.before)

    @property
    def blocked(self) -> tuple[str, ...]:
        """Say what stands against it."""
        if not self.rows:
            return ()
        return (
            *map(str, self.holds),
            *(["raw still has these days: they go there first"] if self._is_in_raw else []),
        )

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {
            "before": self.before.isoformat(),
            "rows": self.rows,
            "tables": {name: [_brief(day) for day in days] for name, days in self.tables.items()},
            "raw_before": self.raw_before and self.raw_before.isoformat(),
            "transactions_parted": self.parted,
            "held_by_tags": {name: dict(tags) for name, tags in self.held.items()},
            "legal_holds": [held.as_json() for held in self.holds],
            "blocked": list(self.blocked),
        }


@dataclass(frozen=True)
class CuratedDropped:
    """What a run dropped, and the snapshot of each table that no longer has it; none: nothing was left."""

    due: CuratedDue
    snapshots: Mapping[str, int]

    def __str__(self) -> str:
        return f"{self.due.rows:,} rows dropped"

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {**self.due.as_json(), "snapshots": {name: str(id_) for name, id_ in self.snapshots.items()}}


class CuratedRetention:
    """Drops old days of the curated tables, and says what that would mean."""

    def __init__(
        self,
        catalog: RestCatalog,
        spark: Callable[[], SparkSession],
        properties: Mapping[str, str],
        kept_months: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take the ways to the tables.

        Args:
            properties: pyiceberg's properties of the catalog, for asking what is held and what is parted.
        """
        self._catalog = catalog
        self._spark = spark
        self._properties = properties
        self._months = kept_months
        self._now = now
        self._held: tuple[date, tuple[Hold, ...], frozenset[OldFile], tuple[HeldDays, ...]] | None = None

    def look(self, before: date | None = None) -> CuratedDue:
        """Say what could go: the days before `before`, or all that are old enough. Raises `TooYoung`."""
        now = self._time()
        before = before or latest_cut(now, self._months)
        check_age(before, now, self._months, WHAT)
        return self._look(before)

    def drop(self, before: date, reason: str, approver: str, actor: str) -> CuratedDropped:
        """Drop the days before `before`, table by table, and record it.

        Raises `TooYoung`, `RetentionRefused` where raw still has them or a hold covers them, `HoldRefused`
        where the holds' ledger cannot be believed, or `PublishError`; to start again is safe, and goes on.
        """
        due = self.look(before)
        due.check()
        order = Order(reason, approver, actor, self._months)
        found: dict[str, dict[date, Day]] = {name: {} for name in CURATED}
        snapshots: dict[str, int] = {}
        with _tracer.start_as_current_span("maintain.retention", attributes={"before": before.isoformat()}):
            for _ in range(_ROUNDS):
                went = [self._drop(name, before, order, found[name], snapshots) for name in CURATED]
                if not any(went):
                    break
            else:
                raise RetentionRefused(
                    f"records of before {before} came again and again while the days went, {_ROUNDS} times",
                    "run it again, once the partner's archive is in; what went stays gone",
                )
        keep_retention_log(self._catalog, self._spark())
        tables = {name: tuple(days.values()) for name, days in found.items() if days}
        done = CuratedDropped(replace(due, tables=tables), snapshots)
        _log.warning(
            "curated rows dropped", before=before.isoformat(), rows=done.due.rows, reason=reason,
            approver=approver, snapshots=snapshots,
        )  # fmt: skip
        return done

    def _drop(
        self, name: str, before: date, order: Order, found: dict[date, Day], snapshots: dict[str, int]
    ) -> bool:
        """Drop the days of one table; says whether there was anything to drop."""
        drop_abandoned(self._catalog, name, WRITER, ABANDONED_SECONDS)
        wait_for_turn(self._catalog, name)
        days: list[Day] = []

        def plan(head: Head) -> Plan | None:
            old = self._files(head, before)
            if not old:
                return None
            replace(self._empty(before), holds=self._holds(before)).check()
            if name == VERSIONS:
                self._wait_for_payments(head)
            days[:] = _days(old)
            return plan_to_drop(head, self._spark, before, old, days, head.offsets, order)

        published = Publisher(self._catalog, WRITER, PATIENCE, takes_turns=True).publish(name, plan)
        if published is None:
            return False
        for day in days:
            known = found.get(day.day)
            found[day.day] = day if known is None else _added(known, day)
        snapshots[name] = published.snapshot_id
        dropped.add(sum(day.records for day in days), {"table": name})
        return True

    def _wait_for_payments(self, versions: Head) -> None:
        """Wait until payments have what versions have: else that batch would fold late records without them.

        Raises `RetentionRefused` where they do not come.
        """
        deadline = time.monotonic() + _IN_STEP_SECONDS
        while not read_head(self._catalog, PAYMENTS).offsets.covers(versions.offsets):
            if time.monotonic() > deadline:
                raise RetentionRefused(
                    f"{PAYMENTS} are behind {VERSIONS}: a batch is half folded",
                    "let the curated job catch up (`paywave stream curated --once`), then start again",
                )
            time.sleep(0.5)

    # -- measuring -------------------------------------------------------------------------------------------

    def _time(self) -> datetime:
        raw = read_head(self._catalog, RAW)
        return trusted_now(self._now(), newest_hour(raw.table, raw.snapshot))

    def _empty(self, before: date) -> CuratedDue:
        gone = (read_head(self._catalog, name).retired.before for name in CURATED)
        return CuratedDue(
            before,
            raw_before=read_head(self._catalog, RAW).retired.before,
            gone_before=max((g for g in gone if g is not None), default=None),
        )

    def _look(self, before: date) -> CuratedDue:
        tables, held = {}, {}
        for name in CURATED:
            head = read_head(self._catalog, name)
            if old := self._files(head, before):
                tables[name] = tuple(_days(old))
                held[name] = held_by_tags(head.table, old)
        due = self._empty(before)
        if not tables:
            return due
        holds, parted = self._holds(before), self._parted(before)
        return replace(due, tables=tables, held=held, holds=holds, parted=parted)

    def _holds(self, before: date) -> tuple[HeldDays, ...]:
        """Ask for what the holds that stand now keep; not again while they and the files are the same."""
        holds = HoldLog(self._catalog).in_force()
        files = frozenset(
            file
            for name in (VERSIONS, QUARANTINE)
            for file in self._files(read_head(self._catalog, name), before)
        )
        if self._held is None or self._held[:3] != (before, holds, files):
            cut = start_of_day(before)
            held = held_event_days(self._catalog, self._properties, cut, holds)
            self._held = before, holds, files, held
        return self._held[3]

    def _files(self, head: Head, before: date) -> list[OldFile]:
        return files_before(head.table, head.snapshot, first_hour_of(before))

    def _parted(self, before: date) -> int:
        cut = start_of_day(before)
        variables = {"cut": cut, "later": cut + _GOES_ON}
        found = run_query(self._catalog, self._properties, _PARTED, variables=variables)
        return int(found.rows[0][0])


def _days(old: Iterable[OldFile]) -> list[Day]:
    """Count the rows, data files and bytes of each day by the metadata: no row is read."""
    rows, files, size = Counter[date](), Counter[date](), Counter[date]()
    for file in old:
        day = day_of(file.hour)
        rows[day] += file.records if file.is_data else -file.records
        files[day] += file.is_data
        size[day] += file.bytes if file.is_data else 0
    return [Day(day, rows[day], files[day], size[day], {}) for day in sorted(files)]


def _added(a: Day, b: Day) -> Day:
    return replace(a, records=a.records + b.records, files=a.files + b.files, bytes=a.bytes + b.bytes)


def _brief(day: Day) -> dict[str, Any]:
    return {"day": day.day.isoformat(), "records": day.records, "files": day.files, "bytes": day.bytes}
