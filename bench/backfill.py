"""`make bench-backfill`: how fresh payments stay while 100 hours are folded again beside the live jobs.

Belongs here: the order of the steps, what is checked, and the report. Does not: processes (`jobs.py`), ages
(`freshness.py`), what the tables must hold (`reference.py`).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.freshness import Freshness, Window, freshness
from bench.jobs import Job, Jobs
from bench.lake import Lake, running_lake
from bench.reference import Reference, found
from bench.sender import Sender
from bench.telling import Eta, machine, remark
from lakehouse.catalog import CATALOG_NAME
from lakehouse.content_hash import Sums, combine
from lakehouse.definitions import PAYMENTS, RAW, VERSIONS
from lakehouse.moments import NOW
from lakehouse.offsets import OffsetVector
from lakehouse.query import run_query
from lakehouse.refs import read_head
from lakehouse.stored_hash import stored_sums
from streaming.backfill.hours import write_hour
from streaming.backfill.state import Status
from streaming.backfill.store import Store
from streaming.partitions import hour_of
from streaming.simulate import PRESETS

MOST_RATIO = 2.0
HOURS = 100
RATE = 500  # events per second
_KEEPS_UP = 20.0  # seconds of the live stream that payments lack, at most, once the jobs are warm
_MORE_HOURS = 4  # of the past, which stay as they are
_SEED = 6
_NAME = "bench"
_DRAIN_SECONDS = 900.0
_WARM_SECONDS = 600.0  # at most; a JVM that has just begun is slow
_REPORT_SECONDS = 15.0
# Of six rows two of payments and one of versions. The names are those of lakehouse/definitions/.
_DAMAGE = (
    f"DELETE FROM {CATALOG_NAME}.{VERSIONS} WHERE {{hours}} AND pmod(xxhash64(event_id), 6) = 0",  # noqa: S608
    f"DELETE FROM {CATALOG_NAME}.{PAYMENTS} WHERE {{hours}} AND pmod(xxhash64(event_id), 6) = 1",  # noqa: S608
    f"UPDATE {CATALOG_NAME}.{PAYMENTS} SET amount = amount + 1 "  # noqa: S608
    "WHERE {hours} AND pmod(xxhash64(event_id), 6) = 2",
)
# Rows, and rows that repeat the coordinates of another one: nothing may be doubled, whatever else is asked.
_RECORDS = f"""
    SELECT count(*), count(*) - count(DISTINCT (topic_id, partition, "offset")) FROM {RAW}
"""  # noqa: S608
_HourSums = dict[str, dict[int, Sums]]


@dataclass(frozen=True)
class Scale:
    """Records of the past, seconds of live work (to warm the jobs, at least, and alone), events a second,
    hours to fold again.
    """

    records: int
    warm_s: float
    alone_s: float
    rate: int = RATE
    hours: int = HOURS


FULL = Scale(60_000, 120, 120)
QUICK = Scale(20_000, 45, 30)


@dataclass(frozen=True)
class Past:
    """The hours to fold again (since 1970), their rows before and after the damage, records sent."""

    hours: range
    intact: _HourSums
    damaged: _HourSums
    records: int


@dataclass(frozen=True)
class Beside:
    """What was seen while the live jobs ran: the windows, the backfill's result, records acknowledged.

    A batch reads its partitions, and the hour at hand grows: the same is measured before and after.
    """

    before: Freshness
    beside: Freshness
    after: Freshness
    result: dict[str, Any]
    seconds: float
    acknowledged: int
    failed: int

    @property
    def ratio(self) -> float:
        """P95 beside the backfill, over what lies between the live jobs alone before and after it."""
        return 2 * self.beside.p95 / (self.before.p95 + self.after.p95)


def main() -> int:
    """Run all of it; returns 1 where anything is lost, doubled, too slow, or not what it must be."""
    parser = argparse.ArgumentParser(prog="bench-backfill")
    parser.add_argument("--quick", action="store_true", help="few records, short windows: a look, no result")
    parser.add_argument("--rate", type=int, default=RATE, help="events per second of the live stream")
    parser.add_argument("--hours", type=int, default=HOURS, help="hours to fold again")
    parser.add_argument("--records", type=int, help="events of the past")
    given = parser.parse_args()
    scale = QUICK if given.quick else FULL
    records = given.records or scale.records
    scale = replace(scale, rate=given.rate, hours=given.hours, records=records)
    print(machine())
    print(
        f"{scale.records:,} events of the past in {scale.hours} hours and {_MORE_HOURS} more; "
        f"live {scale.rate} events/s, {scale.alone_s:g} s alone"
    )
    with running_lake() as lake:
        past = _past(lake, scale)
        lake.spark.stop()
        with Jobs(lake.settings.home) as jobs:
            seen = _beside_live(lake, jobs, past, scale)
            _tell(seen)
            wrong = list(_wrong(lake, jobs, past, seen))
    print("\n".join(wrong) or "nothing lost, nothing doubled, all hashes equal, fresh enough")
    return 1 if wrong else 0


# -- the past ------------------------------------------------------------------------------------------------


def _past(lake: Lake, scale: Scale) -> Past:
    remark(f"filling the past with {scale.records:,} events")
    plan = lake.fill_raw(scale.records, _SEED, PRESETS["demo"], timedelta(hours=scale.hours + _MORE_HOURS))
    eta = Eta()
    lake.job(50_000).run(
        once=True, on_batch=lambda done, left: remark(f"{done:,} folded, {eta.left(done, done + left)}")
    )
    first = hour_of(plan.start)
    hours = range(first, first + scale.hours)
    intact = _sums(lake, hours)
    remark("damaging each hour")
    _damage(lake, plan.start, plan.start + timedelta(hours=scale.hours))
    past = Past(hours, intact, _sums(lake, hours), scale.records)
    for table in (VERSIONS, PAYMENTS):
        if whole := [h for h in past.hours if past.intact[table][h] == past.damaged[table][h]]:
            raise RuntimeError(f"{table}: {len(whole)} hours were not damaged: nothing would be shown")
    return past


def _damage(lake: Lake, start: datetime, end: datetime) -> None:
    hours = f"event_ts >= TIMESTAMP '{start.isoformat()}' AND event_ts < TIMESTAMP '{end.isoformat()}'"
    for statement in _DAMAGE:
        lake.spark.sql(statement.format(hours=hours))


def _sums(lake: Lake, hours: range) -> _HourSums:
    """Add up both tables' rows in each of some hours."""
    return {name: _sums_of(lake, name, hours) for name in (VERSIONS, PAYMENTS)}


def _sums_of(lake: Lake, name: str, hours: range) -> dict[int, Sums]:
    head = read_head(lake.catalog, name)
    stored = stored_sums(
        head.table, head.snapshot.snapshot_id, lake.settings.catalog_properties(), hours=hours
    )
    return {hour: combine(sums for key, sums in stored.items() if key[0] == hour) for hour in hours}


# -- beside the live jobs ------------------------------------------------------------------------------------


def _beside_live(lake: Lake, jobs: Jobs, past: Past, scale: Scale) -> Beside:
    with Sender(lake.settings, scale.rate, _SEED) as sender:

        def behind() -> int:
            return past.records + sender.acknowledged - _folded(lake)

        jobs.serve("stream", "raw")
        jobs.serve("stream", "curated")
        _warm(jobs, scale, behind)
        before = _alone(jobs, scale)
        _plan(jobs, past)
        job = jobs.start("backfill", "run", _NAME)
        beside = _window(lambda: _watch(lake, jobs, job, behind))
        result = job.result()
        remark("the backfill is done")
        _keep_up(jobs, scale, behind)
        after = _alone(jobs, scale)
        report = sender.stop()
    remark(f"{report.acknowledged:,} live events sent, draining")
    _drain(lake, jobs, past.records + report.acknowledged)
    jobs.stop()
    seconds = (beside.until - beside.since).total_seconds()
    first, second, third = (freshness(lake, window) for window in (before, beside, after))
    return Beside(first, second, third, result, seconds, report.acknowledged, report.failed)


def _warm(jobs: Jobs, scale: Scale, behind: Callable[[], int]) -> None:
    remark(f"warming up the live jobs: {scale.warm_s:g} s, and until they keep up")
    jobs.pause(scale.warm_s)
    _keep_up(jobs, scale, behind)


def _alone(jobs: Jobs, scale: Scale) -> Window:
    remark(f"live jobs alone, {scale.alone_s:g} s")
    return _window(lambda: jobs.pause(scale.alone_s))


def _keep_up(jobs: Jobs, scale: Scale, behind: Callable[[], int]) -> None:
    """Wait until the jobs keep up with the stream."""
    started = time.monotonic()
    while (lacking := behind()) > scale.rate * _KEEPS_UP:
        if time.monotonic() - started > _WARM_SECONDS:
            remark(
                f"they do not: {lacking:,} records behind after {_WARM_SECONDS:g} s; measuring all the same"
            )
            return
        jobs.pause(2.0)
    remark(f"they do after {time.monotonic() - started:.0f} s: {lacking:,} records behind")


def _window(work: Callable[[], None]) -> Window:
    since = datetime.now(UTC)
    work()
    return Window(since, datetime.now(UTC))


def _plan(jobs: Jobs, past: Past) -> None:
    start, end = (f"{write_hour(hour)}:00:00Z" for hour in (past.hours.start, past.hours.stop))
    people = ("--requested-by", "a benchmark", "--approver", "another one")
    reason = ("--reason", "rows were damaged", "--name", _NAME)
    planned = jobs.call("backfill", "plan", "--from", start, "--to", end, *reason, *people)
    remark(f"planned: {planned['estimate']}")


def _watch(lake: Lake, jobs: Jobs, job: Job, behind: Callable[[], int]) -> None:
    """Wait for the backfill's end; say now and then how far it is."""
    eta, told, store = Eta(), time.monotonic(), Store(lake.settings.home / "backfills")
    while job.is_running:
        jobs.pause(1.0)
        if time.monotonic() - told >= _REPORT_SECONDS:
            told = time.monotonic()
            backfill = store.find(_NAME)
            counts, hours = backfill.state().counts(backfill.plan()), len(backfill.plan().hours)
            done = counts[Status.DONE.value]
            remark(f"backfill: {done} of {hours} hours, {eta.left(done, hours)}; {behind():,} behind")


def _folded(lake: Lake) -> int:
    return OffsetVector().records_to(read_head(lake.catalog, PAYMENTS).offsets)


def _drain(lake: Lake, jobs: Jobs, records: int) -> None:
    """Wait until payments have every record that was acknowledged."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while (has := _folded(lake)) < records:
        if time.monotonic() > deadline:
            raise RuntimeError(f"payments stand at {has:,} records of {records:,}")
        jobs.pause(1.0)


# -- what came of it -----------------------------------------------------------------------------------------


def _tell(seen: Beside) -> None:
    print()
    print("| live jobs | records | P50 s | P95 s | worst s |\n|---|---|---|---|---|")
    windows = (
        ("alone, before", seen.before),
        ("beside the backfill", seen.beside),
        ("alone, after", seen.after),
    )
    for name, one in windows:
        print(f"| {name} | {one.records:,} | {one.p50:.1f} | {one.p95:.1f} | {one.worst:.1f} |")
    print()
    changed = ", ".join(f"{what} {count:,}" for what, count in sorted(seen.result["changed"].items()))
    print(f"backfill: {len(seen.result['hours'])} hours in {seen.seconds:.0f} s; {changed}")
    before, after = (seen.beside.p95 / alone.p95 for alone in (seen.before, seen.after))
    verdict = "NOT within" if _is_slow(seen) else "within"
    print(
        f"P95 beside the backfill / alone: {before:.2f} of before, {after:.2f} of after; "
        f"{seen.ratio:.2f} of what lies between, {verdict} {MOST_RATIO:g}",
        flush=True,
    )


def _is_slow(seen: Beside) -> bool:
    return seen.ratio > MOST_RATIO


def _wrong(lake: Lake, jobs: Jobs, past: Past, seen: Beside) -> Iterator[str]:
    """Name all that is not as it must be."""
    if not seen.result["done"] or seen.result["failed"]:
        yield f"the backfill is not done: {seen.result['failed'] or 'it was stopped'}"
    if _is_slow(seen):
        yield f"P95 beside the backfill is {seen.ratio:.2f} times that alone, more than {MOST_RATIO:g}"
    yield from _wrong_records(lake, past.records + seen.acknowledged, seen.failed)
    yield from _wrong_hours(lake, past)
    yield from _wrong_payments(lake)
    remark("verifying all of raw against the tables")
    verified = jobs.call("replay", "verify", "--all")
    if not verified["equal"]:
        yield f"replay verify: {verified['differences']}, first {verified['first'][:2]}"


def _wrong_records(lake: Lake, sent: int, failed: int) -> Iterator[str]:
    (records, doubled) = run_query(lake.catalog, lake.settings.catalog_properties(), _RECORDS).rows[0]
    print(f"raw: {records:,} records of {sent:,} acknowledged, {doubled:,} doubled, {failed:,} refused")
    if (records, doubled, failed) != (sent, 0, 0):
        yield f"raw has {records:,} records of {sent:,}, {doubled:,} doubled; Kafka refused {failed:,}"


def _wrong_hours(lake: Lake, past: Past) -> Iterator[str]:
    now = _sums(lake, past.hours)
    for table, intact in past.intact.items():
        differing = [write_hour(hour) for hour in past.hours if now[table][hour] != intact[hour]]
        same, of = len(past.hours) - len(differing), len(past.hours)
        print(f"{table}: {same} of {of} hours as they were before the damage")
        if differing:
            yield f"{table}: {len(differing)} hours differ from before the damage, first {differing[0]}"


def _wrong_payments(lake: Lake) -> Iterator[str]:
    eta = Eta()
    wanted = Reference(lake).at(
        read_head(lake.catalog, PAYMENTS).offsets,
        lambda done, total: remark(f"plain reference: {done:,} records, {eta.left(done, total)}"),
    )
    held, _ = found(lake, NOW)
    print(f"payments: {held.rows:,} rows, {wanted.rows:,} by the plain fold of raw")
    if held != wanted:
        yield "payments are not the plain fold of raw"


if __name__ == "__main__":
    sys.exit(main())
