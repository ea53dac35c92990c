"""Running a backfill: chunk by chunk through the replay's own code, hour by hour in what is noted.

Belongs here: which hours are taken up, what becomes of each, what is done at the end. Does not: folding and
publishing (`streaming/replay/apply.py`), files (`store.py`).

A chunk's records are gathered from raw once; then each unit of its partitions is staged, audited and
published by itself. A run that was killed goes on with the chunk that it was at, from what it had gathered.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import structlog
from opentelemetry import metrics, trace
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from lakehouse.definitions import PAYMENTS, VERSIONS
from lakehouse.refs import read_head
from lakehouse.turns import drop_abandoned
from streaming.backfill.errors import Stopped, WrongPlan
from streaming.backfill.estimate import chunks
from streaming.backfill.hours import read_hour, write_hour
from streaming.backfill.pace import Pace
from streaming.backfill.plan import Plan, approve
from streaming.backfill.settings import BackfillSettings
from streaming.backfill.state import State, Status, hours_to_do
from streaming.backfill.store import Backfill, Store
from streaming.partitions import Partition
from streaming.replay.apply import Applier
from streaming.replay.manner import Interrupted, Manner, Watch
from streaming.replay.repair import repair
from streaming.replay.scope import Scope
from streaming.replay.verify import ReplaySettings

WRITER = "backfill"
ABANDONED_SECONDS = 24 * 3600.0
# How far a chunk is when each of its phases begins, and when it ends: shares of its time, about.
_PHASES = {"raw": (0.0, 0.5), VERSIONS: (0.5, 0.75), PAYMENTS: (0.75, 1.0)}
Report = Callable[[float, int, str], None]
"""Told how many hours are done of how many, and a few words."""
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)
_hours = metrics.get_meter(__name__).create_counter("paywave.backfill.hours", unit="{hour}")


@dataclass(frozen=True)
class HourOutcome:
    """What became of an hour that a run was asked for.

    Args:
        changed: rows that this run changed, by table and change; `changed_in_all`: all runs of the plan.
    """

    hour: str
    status: Status
    attempts: int
    changed: Mapping[str, int]
    changed_in_all: Mapping[str, int]
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {
            "hour": self.hour,
            "status": self.status.value,
            "attempts": self.attempts,
            "changed": dict(self.changed),
            "changed_in_all": dict(self.changed_in_all),
            "error": self.error,
        }


@dataclass(frozen=True)
class BackfillResult:
    """What a run did.

    Args:
        hours: of those asked for, each; those that were done before have changed nothing.
        tag: what the tables are tagged as, as they were before the first change; None where nothing changed.
        is_stopped: it was asked to stop, and left hours undone.
        is_done: every hour of the plan is done by now.
    """

    name: str
    hours: tuple[HourOutcome, ...]
    tag: str | None
    seconds: float
    is_stopped: bool
    is_done: bool

    @property
    def failed(self) -> tuple[HourOutcome, ...]:
        """The hours that failed."""
        return tuple(hour for hour in self.hours if hour.status is Status.FAILED)

    @property
    def changed(self) -> Counter[str]:
        """Rows that this run changed, by table and change."""
        return sum((Counter(hour.changed) for hour in self.hours), Counter())

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {
            "name": self.name,
            "done": self.is_done,
            "stopped": self.is_stopped,
            "failed": [hour.hour for hour in self.failed],
            "changed": dict(self.changed),
            "before": self.tag,
            "seconds": round(self.seconds, 1),
            "hours": [hour.as_json() for hour in self.hours],
        }


@dataclass
class _Run:
    """A run at work: the plan, how far it is, and what it has noted since it began."""

    backfill: Backfill
    plan: Plan
    state: State
    saved_at: float

    def save(self) -> None:
        """Write how far it is, with the time used until now."""
        now = time.monotonic()
        self.state.seconds += now - self.saved_at
        self.saved_at = now
        self.backfill.save_state(self.state)


class Runner:
    """Runs plans of one home. `spark` is asked for a session once there is work for it."""

    def __init__(
        self,
        catalog: RestCatalog,
        spark: Callable[[], SparkSession],
        settings: BackfillSettings,
        report: Report = lambda _done, _total, _note: None,
    ) -> None:
        self._catalog = catalog
        self._spark = cache(spark)
        self._settings = settings
        self._report = report
        self._is_stopping = False
        self._pace = Pace(catalog, settings.freshness, lambda: self._is_stopping)

    def stop(self) -> None:
        """Ask a run to end after the unit at hand; running it again goes on there."""
        self._is_stopping = True

    def run(
        self,
        name: str,
        hours: Iterable[str] | None = None,
        *,
        only_failed: bool = False,
        again: bool = False,
        most_hours: int | None = None,
        approver: str | None = None,
    ) -> BackfillResult:
        """Bring hours of a plan to the fold of raw: all that are not done, unless asked for otherwise.

        Args:
            hours: these only; None: all of the plan.
            again: those that are done too.
            approver: who approves the plan now; not needed where its file or an earlier run says so.

        Returns:
            What became of each hour. One that failed does not keep the others from being done.

        Raises:
            Refused: the plan is not approved, was edited, or has no such hours.
            AlreadyRunning: another process runs it.
            Stopped: Spark or the catalog is gone; what is done stays done.
        """
        backfill = Store(self._settings.folder).find(name)
        only = None if hours is None else list(hours)
        with backfill.locked():
            plan, state = backfill.plan(), backfill.state()
            self._check(plan)
            now = datetime.now(UTC)
            state.approval = approve(plan, approver, state.approval, now, self._settings.allows_requester)
            state.interrupt()
            wanted = hours_to_do(plan, state, only, only_failed, again, most_hours)
            before = {hour: Counter(state.of(hour).changed) for hour in state.hours}
            run = _Run(backfill, plan, state, time.monotonic())
            started = run.saved_at
            with _tracer.start_as_current_span("backfill.run", attributes={"backfill": name}):
                is_stopped = self._run(run, wanted, again)
            asked = wanted if only is None else sorted({*only})
            return BackfillResult(
                name,
                tuple(_outcome(state, hour, before.get(hour, Counter())) for hour in asked),
                self._tag(plan),
                time.monotonic() - started,
                is_stopped,
                state.is_done(plan),
            )

    def _check(self, plan: Plan) -> None:
        if plan.buckets != self._settings.buckets:
            raise WrongPlan(
                f"backfill {plan.name} was planned for {plan.buckets} buckets, and the tables have "
                f"{self._settings.buckets}",
                "make a new plan",
            )

    # -- from the first hour to the last ---------------------------------------------------------------------

    def _run(self, run: _Run, wanted: list[str], again: bool) -> bool:
        """Do the hours, then look at identity conflicts. Returns whether it was stopped before the end."""
        state, due, done = run.state, set(wanted), 0
        if again:
            state.forget(wanted)
        run.save()
        try:
            for table in (VERSIONS, PAYMENTS) if wanted else ():
                drop_abandoned(self._catalog, table, WRITER, ABANDONED_SECONDS)
            for chunk in self._chunks(run, wanted, resumes=not again):
                self._chunk(run, chunk, self._meter(done, len(due.intersection(chunk)), len(due)))
                done += len(due.intersection(chunk))
                self._report(done, len(due), f"{done:,} of {len(due):,} hours")
            self._repair(run)
        except Interrupted:
            _log.info("backfill stopped", backfill=run.plan.name)
            return True
        finally:
            state.interrupt()
            run.save()
        if state.is_done(run.plan) and state.finished_at is None:
            state.finished_at = datetime.now(UTC)
            run.save()
        return False

    def _chunks(self, run: _Run, wanted: list[str], resumes: bool) -> Iterator[tuple[str, ...]]:
        """Cut the hours into chunks, the one that an earlier run was at first."""
        plan, state, due = run.plan, run.state, set(wanted)
        if state.chunk:
            left = {hour for hour in state.chunk if state.of(hour).status is not Status.DONE}
            applier, scope = self._applier(run, Watch()), self._scope(state.chunk)
            if resumes and left and left <= due and applier.is_resumable(scope):
                due -= {*state.chunk}
                yield state.chunk
            else:
                applier.forget(scope)
                state.chunk = ()
        planned = [hour for hour in plan.hours if hour.hour in due]
        for chunk in chunks(planned, plan.chunk_hours, plan.chunk_rows):
            yield tuple(hour.hour for hour in chunk)

    def _meter(self, before: int, hours: int, total: int) -> Callable[[float, str], None]:
        """Report a share of a chunk as hours of the whole."""
        return lambda share, note: self._report(before + share * hours, total, note)

    def _repair(self, run: _Run) -> None:
        """Fold identity conflicts together, which the units left alone, where anything may have changed."""
        if run.state.is_repaired:
            return
        self._raise_if_stopping()
        if run.state.needs_repair or self._tag(run.plan) is not None:
            repair(self._catalog, self._spark(), self._settings.buckets)
        run.state.is_repaired, run.state.needs_repair = True, False

    # -- one chunk -------------------------------------------------------------------------------------------

    def _chunk(self, run: _Run, hours: tuple[str, ...], report: Callable[[float, str], None]) -> None:
        state, scope = run.state, self._scope(hours)
        self._raise_if_stopping()
        state.begin(hours)
        run.save()
        watch = _Watch(run, self._settings.buckets, self._before_unit, self._is_alive)
        applier = self._applier(run, watch, report)
        attributes: dict[str, str | int] = {"backfill": run.plan.name, "first": hours[0], "hours": len(hours)}
        with _tracer.start_as_current_span("backfill.chunk", attributes=attributes):
            try:
                applied = applier.run(scope)
            except Interrupted:
                raise
            except Exception as error:
                if not self._is_alive():
                    raise _stopped(run.plan, error) from error
                applier.forget(scope)
                for hour in hours:
                    if state.of(hour).status is Status.RUNNING:
                        watch.fail(hour, error)
            else:
                watch.finish(hours, applied.done)
        state.chunk = ()
        run.save()

    def _scope(self, hours: Iterable[str]) -> Scope:
        return Scope(partitions=partitions_of(hours, self._settings.buckets))

    def _applier(
        self, run: _Run, watch: Watch, report: Callable[[float, str], None] = lambda _share, _note: None
    ) -> Applier:
        settings = ReplaySettings(
            self._settings.buckets,
            run.backfill.folder,
            self._settings.raw_records,
            self._settings.rates.unit_rows,
        )
        manner = Manner(WRITER, f"backfill-{run.state.token}", tag_of(run.plan), repairs=False, watch=watch)

        def told(phase: str, done: int, total: int) -> None:
            begin, end = _PHASES[phase]
            report(begin + (end - begin) * min(1.0, done / max(1, total)), f"{phase}: {done:,} of {total:,}")

        return Applier(self._catalog, self._spark(), settings, told, manner)

    # -- beside others ---------------------------------------------------------------------------------------

    def _before_unit(self) -> None:
        self._raise_if_stopping()
        self._pace.give_way()
        self._raise_if_stopping()

    def _raise_if_stopping(self) -> None:
        if self._is_stopping:
            raise Interrupted("the backfill was asked to stop", "run it again: it goes on where it was")

    def _is_alive(self) -> bool:
        """Tell an error of an hour from one that every hour would meet: do Spark and catalog answer?"""
        try:
            self._spark().range(1).count()
            return read_head(self._catalog, PAYMENTS).snapshot is not None
        except Exception as error:
            _log.warning("no answer", error=str(error)[:300])
            return False

    def _tag(self, plan: Plan) -> str | None:
        """Name the tag of the tables before the first change, if there was one."""
        tag = tag_of(plan)
        return tag if tag in self._catalog.load_table(PAYMENTS).metadata.refs else None


class _Watch(Watch):
    """Notes what becomes of each hour, and writes it down."""

    def __init__(
        self, run: _Run, buckets: int, before: Callable[[], None], is_alive: Callable[[], bool]
    ) -> None:
        self._run = run
        self._buckets = buckets
        self._before = before
        self._is_alive = is_alive

    def before(self) -> None:
        """Stop here, or give way, if need be."""
        self._before()

    def done(
        self,
        _table: str,
        unit: Collection[Partition],
        changed: Mapping[str, Mapping[int, int]],
        done: Mapping[str, Collection[Partition]],
    ) -> None:
        """Note the rows, and the hours of which both tables are done."""
        for change, by_hour in changed.items():
            for hour, rows in by_hour.items():
                self._run.state.note(write_hour(hour), {change: rows})
        self.finish({write_hour(partition.hour) for partition in unit}, done)

    def finish(self, hours: Iterable[str], done: Mapping[str, Collection[Partition]]) -> None:
        """Note the hours among these of which every partition is done in both tables."""
        state, name = self._run.state, self._run.plan.name
        for hour in sorted(hours):
            wanted = partitions_of([hour], self._buckets)
            is_whole = all(p in partitions for partitions in done.values() for p in wanted)
            if is_whole and state.of(hour).status is Status.RUNNING:
                state.finish(hour)
                _hours.add(1, {"outcome": "done"})
                trace.get_current_span().add_event("hour done", {"hour": hour})
                _log.info("hour done", backfill=name, hour=hour, changed=dict(state.of(hour).changed))
        self._run.save()

    def leaves_to_repair(self) -> None:
        """Note that the repair at the end is needed, whether or not anything else changes."""
        self._run.state.needs_repair = True
        self._run.save()

    def tolerates(self, error: Exception) -> bool:
        """Go on with the other hours as long as there is something to do them with."""
        return not isinstance(error, Interrupted) and self._is_alive()

    def failed(self, unit: Collection[Partition], error: Exception) -> None:
        """Note that an hour failed."""
        for hour in {write_hour(partition.hour) for partition in unit}:
            self.fail(hour, error)
        self._run.save()

    def fail(self, hour: str, error: Exception) -> None:
        """Note that an hour failed, and why."""
        said = f"{type(error).__name__}: {str(error).split(chr(10))[0]}"
        self._run.state.fail(hour, said)
        _hours.add(1, {"outcome": "failed"})
        trace.get_current_span().add_event("hour failed", {"hour": hour, "error": said[:300]})
        _log.warning("hour failed", backfill=self._run.plan.name, hour=hour, error=said[:300])


def partitions_of(hours: Iterable[str], buckets: int) -> tuple[Partition, ...]:
    """List the partitions of these hours: every bucket of each, whatever it holds."""
    return tuple(Partition(read_hour(hour), bucket) for hour in sorted(hours) for bucket in range(buckets))


def tag_of(plan: Plan) -> str:
    """Name the tag that the tables get before a plan changes anything."""
    return f"before-backfill-{plan.name}"


def _outcome(state: State, hour: str, before: Counter[str]) -> HourOutcome:
    found = state.of(hour)
    changed = Counter(found.changed) - before
    return HourOutcome(hour, found.status, found.attempts, dict(changed), dict(found.changed), found.error)


def _stopped(plan: Plan, error: Exception) -> Stopped:
    said = str(error).split("\n")[0][:300]
    return Stopped(
        f"backfill {plan.name}: Spark or the catalog is gone: {type(error).__name__}: {said}",
        f"see whether they are up: `paywave status`; `paywave backfill run {plan.name}` goes on where it was",
    )
