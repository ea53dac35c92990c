"""`make bench-compaction`: an hour of live batches with compaction and expiry beside them, and without.

Belongs here: the hour, the queries that run all the time, the samples, the report. Does not: compaction's
process (`compactor.py`), what payments must be (`reference.py`), the plot (`compaction_plot.py`).
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from operator import add
from pathlib import Path

from bench.background import Background
from bench.compaction_plot import Sample, plot
from bench.compactor import Compacting
from bench.lake import Lake, running_lake
from bench.reference import Reference, found
from bench.telling import Eta, machine, remark
from lakehouse.definitions import PAYMENTS
from lakehouse.maintenance.measure import usage_of
from lakehouse.maintenance.need import Usage
from lakehouse.moments import Moment
from lakehouse.query import run_query
from lakehouse.refs import read_head
from streaming.simulate import PRESETS

_SEED = 7
_SECONDS_PER_BATCH = 60  # of the hour that is simulated
_LOOKS = 3  # a scan's time is the least of so many
_PAUSE_SECONDS = 1.0
# Much comes late: each batch touches old hours beside the newest ones.
_MIX = replace(PRESETS["demo"], late=0.15)
_PLOT = Path(__file__).parent / "plots" / "compaction.svg"
# The name is that of lakehouse/definitions/, nothing from outside.
_SCAN = f"SELECT count(*), sum(amount) FROM {PAYMENTS} WHERE event_ts < getvariable('before')"  # noqa: S608


@dataclass(frozen=True)
class Scale:
    """Records there before, batches, records of each, and after how many compaction begins a round."""

    history: int
    batches: int
    batch: int
    every: int

    @property
    def records(self) -> int:
        return self.history + self.batches * self.batch


FULL = Scale(30_000, 60, 1_000, 5)
QUICK = Scale(3_000, 20, 300, 4)


class Queries(Background):
    """Asks for the content hash of payments again and again, and holds it against the plain fold.

    A thread of its own; a context manager.
    """

    def __init__(self, lake: Lake, reference: Reference) -> None:
        super().__init__()
        self._lake = lake
        self._reference = reference
        self._turn = threading.Lock()
        self.asked = 0
        self.wrong: list[str] = []

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let nothing be asked meanwhile."""
        with self._turn:
            yield

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._turn:
                self._ask()
            self._stopping.wait(_PAUSE_SECONDS)

    def _ask(self) -> None:
        self.asked += 1
        try:
            held, vector = found(self._lake, Moment(consistent=True))
            assert vector is not None
            wanted = self._reference.at(vector)
        except Exception as error:  # a query that fails is not exact either
            self.wrong.append(f"{type(error).__name__}: {str(error)[:300]}")
            return
        if held != wanted:
            self.wrong.append(f"{held.rows:,} rows, wanted {wanted.rows:,}, at {vector.to_json()}")


@dataclass(frozen=True)
class Hour:
    """What came of one hour: samples, queries asked and wrong, seconds that it took."""

    samples: list[Sample]
    asked: int
    wrong: list[str]
    seconds: float


def main() -> int:
    """Run both hours; returns 1 where a query's result was not exact."""
    parser = argparse.ArgumentParser(prog="bench-compaction")
    parser.add_argument("--quick", action="store_true", help="few small batches: a look, no result")
    parser.add_argument("--plot", type=Path, help=f"an SVG; {_PLOT.name} beside the figures, unless --quick")
    given = parser.parse_args()
    scale = QUICK if given.quick else FULL
    print(machine())
    print(
        f"{scale.history:,} records, then {scale.batches} batches of {scale.batch:,}: "
        f"{scale.batches * _SECONDS_PER_BATCH / 60:g} minutes, if one comes every {_SECONDS_PER_BATCH} s"
    )
    with running_lake() as lake:
        plan = lake.fill_raw(scale.records, _SEED, _MIX)
        reference, before = Reference(lake), plan.start + timedelta(hours=1)
        without = _hour(lake, scale, reference, before, None)
        with Compacting(lake.settings.home) as compacting:
            beside = _hour(lake, scale, reference, before, compacting)
            rounds = compacting.rounds
    _tell(without, beside)
    totals = {name: sum(one[name] for one in rounds) for name in rounds[0]}
    print(f"compaction: {len(rounds)} rounds; {totals}")
    if (path := given.plot or (None if given.quick else _PLOT)) is not None:
        plot(path, without.samples, beside.samples)
    wrong = [*without.wrong, *beside.wrong]
    print("\n".join(wrong[:10]) or "every query was exact")
    return 1 if wrong else 0


def _hour(
    lake: Lake, scale: Scale, reference: Reference, before: datetime, compacting: Compacting | None
) -> Hour:
    lake.renew_curated()
    _fold(lake, reference, scale.history)
    started, eta, samples = time.monotonic(), Eta(), [_sample(lake, before, 0)]
    with Queries(lake, reference) as queries:
        for number in range(1, scale.batches + 1):
            _fold(lake, reference, scale.batch)
            if number % scale.every:
                continue
            if compacting is not None:
                compacting.finish()
            with queries.paused():
                samples.append(_sample(lake, before, number))
            if compacting is not None and number < scale.batches:
                compacting.begin()
            named = "without compaction" if compacting is None else "beside compaction"
            remark(f"{named}: {number} of {scale.batches}, {eta.left(number, scale.batches)}; {samples[-1]}")
        if compacting is not None:
            compacting.finish()
    return Hour(samples, queries.asked, queries.wrong, time.monotonic() - started)


def _fold(lake: Lake, reference: Reference, records: int) -> None:
    """Fold one batch as the live job does, and the same by the plain fold."""
    job = lake.job(records)
    job.run(once=True, on_batch=lambda *_: job.stop())
    reference.at(read_head(lake.catalog, PAYMENTS).offsets)


def _sample(lake: Lake, before: datetime, batches: int) -> Sample:
    head = read_head(lake.catalog, PAYMENTS)
    usages = usage_of(head.table, head.snapshot, 0)
    whole = reduce(add, usages.values(), Usage())
    scan = min(_scan_seconds(lake, before) for _ in range(_LOOKS))
    minutes = batches * _SECONDS_PER_BATCH / 60
    return Sample(minutes, len(usages), whole.files, whole.vectors, len(head.table.metadata.snapshots), scan)


def _scan_seconds(lake: Lake, before: datetime) -> float:
    """Time the query whose rows hardly change: those of an hour that was over before the first batch."""
    started = time.monotonic()
    run_query(lake.catalog, lake.settings.catalog_properties(), _SCAN, variables={"before": before})
    return time.monotonic() - started


def _tell(without: Hour, beside: Hour) -> None:
    first = without.samples[0].scan_s
    print()
    print("| minute | partitions | data files | | delete files | | snapshots | | scan, relative | |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    print("| | | without | beside | without | beside | without | beside | without | beside |")
    for a, b in zip(without.samples, beside.samples, strict=True):
        cells = (
            f"{a.minutes:g}", a.partitions, a.files, b.files, a.vectors, b.vectors, a.snapshots, b.snapshots,
            f"{a.scan_s / first:.2f}", f"{b.scan_s / first:.2f}",
        )  # fmt: skip
        print(f"| {' | '.join(map(str, cells))} |")
    print()
    for name, hour in (("without", without), ("beside", beside)):
        half, last = hour.samples[len(hour.samples) // 2], hour.samples[-1]
        print(
            f"{name} compaction, over the second half: files of a partition {_grown(half, last):.2f} times, "
            f"scan {last.scan_s / half.scan_s:.2f} times; {hour.asked} queries, {len(hour.wrong)} not exact; "
            f"{hour.seconds:.0f} s"
        )


def _grown(half: Sample, last: Sample) -> float:
    return (last.opened / last.partitions) / (half.opened / half.partitions)


if __name__ == "__main__":
    sys.exit(main())
