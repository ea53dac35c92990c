"""`make bench-fold`: what the curated fold costs, beside the textbook version and as the tables grow.

Belongs here: what is compared, and the report. Does not: the stack (`lake.py`), the textbook's job.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from bench import old_rows, textbook
from bench.lake import Cost, Lake, running_lake
from bench.scans import Scans, files_by_partition, read_too_much
from lakehouse.definitions import PAYMENTS, VERSIONS
from lakehouse.refs import read_head
from streaming.partitions import Partition

LEAST_SHARE = 0.5  # of the textbook's events per CPU-second
MOST_GROWTH = 1.25
_SEED = 4
Files = dict[str, Counter[Partition]]
"""Data files of each table by partition."""


@dataclass(frozen=True)
class Scale:
    """Records per batch, small batches that warm the JVM, batches measured, and old rows in the tables."""

    batch: int
    warm: int
    measured: int
    old: tuple[int, int]


FULL = Scale(100_000, 40, 5, (1_000_000, 10_000_000))
QUICK = Scale(20_000, 6, 3, (200_000, 2_000_000))
# What plans a batch is compiled after so many batches, however small; what loops over rows, after one.
_SMALL_BATCH = 5_000
_UNMEASURED = 2


def main() -> int:
    """Run all of it; returns 1 where a figure is worse than the issue allows."""
    parser = argparse.ArgumentParser(prog="bench-fold")
    parser.add_argument("--quick", action="store_true", help="small batches and tables: a look, no result")
    scale = QUICK if parser.parse_args().quick else FULL
    print(f"{datetime.now(UTC):%Y-%m-%d}, {_machine()}")
    print(
        f"warmed up by {scale.warm} batches of {_SMALL_BATCH:,}; then, in new tables, batches of "
        f"{scale.batch:,}: {_UNMEASURED} more, and {scale.measured} measured; dirt as in the demo"
    )
    with running_lake() as lake:
        records = max(scale.warm * _SMALL_BATCH, scale.batch * (_UNMEASURED + scale.measured))
        plan = lake.fill_raw(records, _SEED)
        short = [compare(lake, scale), stay_flat(lake, scale, plan.start - timedelta(days=1))]
    return 1 if any(short) else 0


def compare(lake: Lake, scale: Scale) -> bool:
    """Fold the same batches as the textbook does and as we do, in turns. Returns whether ours fell short."""
    _in_turns(lake, _SMALL_BATCH, scale.warm)
    found = _in_turns(lake, scale.batch, _UNMEASURED + scale.measured)
    theirs, ours = (costs[_UNMEASURED:] for costs in found)
    share = _rate(ours) / _rate(theirs)
    print(f"textbook: {_told(theirs)}")
    print(f"ours:     {_told(ours)}")
    print(f"ours / textbook, events per CPU-second: {share:.2f} (at least {LEAST_SHARE})")
    print(f"bytes written per batch: {_amplified(lake, ours)}")
    return share < LEAST_SHARE


def _in_turns(lake: Lake, batch: int, count: int) -> tuple[list[Cost], list[Cost]]:
    """Fold `count` batches into new tables, each by the textbook's job and by ours; returns their costs."""
    lake.renew_curated()
    textbook.create(lake.spark)
    job, theirs, ours = lake.job(batch), [], []
    for _ in range(count):
        start = read_head(lake.catalog, VERSIONS).offsets
        ours.append(lake.one_batch(job))
        end = read_head(lake.catalog, VERSIONS).offsets
        with lake.costs(start.records_to(end)) as costs:
            textbook.fold(lake.spark, start, end)
        theirs += costs
        _remark(f"textbook {costs[0].cpu_per_100k:.1f}, ours {ours[-1].cpu_per_100k:.1f} CPU-s per 100,000")
    return theirs, ours


def stay_flat(lake: Lake, scale: Scale, before: datetime) -> bool:
    """Fold the same batches beside few and beside many old rows. Returns whether it grew dearer."""
    medians = []
    for rows in scale.old:
        lake.renew_curated()
        old_rows.fill(lake.spark, lake.catalog, rows, before)
        medians.append(median(_beside_old_rows(lake, scale)))
        print(f"beside {rows:,} old rows: {medians[-1]:.1f} CPU-s per 100,000 new events, the median")
    growth = medians[1] / medians[0]
    print(
        f"growth: {growth:.2f} (at most {MOST_GROWTH}); no file of a partition that no batch touched was read"
    )
    return growth > MOST_GROWTH


def _beside_old_rows(lake: Lake, scale: Scale) -> list[float]:
    job, scans, found = lake.job(scale.batch), Scans(lake.spark), []
    for number in range(1 + scale.measured):
        before = _files(lake)
        cost = lake.one_batch(job)
        read = scans.read()
        if number:  # the first one is to warm up, and finds nothing in its partitions
            _check_scans(read, before, _files(lake))
            found.append(cost.cpu_per_100k)
    return found


def _files(lake: Lake) -> Files:
    heads = {name: read_head(lake.catalog, name) for name in (VERSIONS, PAYMENTS)}
    return {name: files_by_partition(head.table, head.snapshot) for name, head in heads.items()}


def _check_scans(read: Mapping[str, list[int]], before: Files, after: Files) -> None:
    """Raise SystemExit if a scan read files of partitions that got no new rows."""
    known = before[VERSIONS]
    touched = [partition for partition, count in after[VERSIONS].items() if count > known[partition]]
    for table, files in after.items():
        if not read.get(table):
            sys.exit(f"table {table}: no scan was noticed, so nothing is shown about what is read")
        if problem := read_too_much(read[table], files, touched):
            sys.exit(f"table {table}: {problem}")


def _rate(costs: Iterable[Cost]) -> float:
    costs = list(costs)
    return sum(c.records for c in costs) / sum(c.spent.job for c in costs)


def _told(costs: list[Cost]) -> str:
    records, seconds = sum(c.records for c in costs), sum(c.seconds for c in costs)
    servers = sum(c.spent.servers for c in costs) / records * 100_000
    return (
        f"{_rate(costs):,.0f} events per CPU-second, {records / seconds:,.0f} per second; "
        f"the object store and the catalog: {servers:.1f} CPU-s per 100,000"
    )


def _amplified(lake: Lake, costs: list[Cost]) -> str:
    written = sum(sum(c.written.values()) for c in costs)
    rows = sum(c.written[".parquet"] for c in costs)
    received = lake.bytes_per_event * sum(c.records for c in costs)
    return (
        f"{written / len(costs) / 1e6:.1f} MB, {written / received:.2f} times the JSON received, "
        f"{written / rows:.2f} times the Parquet bytes of its rows"
    )


def _machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    name = model[1] if model else platform.machine()
    return f"{os.cpu_count()} cores, {name}, Python {platform.python_version()}"


def _remark(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
