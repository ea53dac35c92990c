"""`make bench-exports`: an audit export of one day at two sizes of the tables, which it must not follow.

Belongs here: the order of the steps and the report. Does not: filling tables (`old_rows.py`, `lake.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bench.lake import Lake, running_lake
from bench.old_rows import fill
from bench.telling import machine, remark
from config.settings import Settings
from lakehouse.definitions import PAYMENTS, RAW, VERSIONS
from lakehouse.query import run_query

_SEED = 11
_DAY = timedelta(days=1)
_BATCH = 50_000


@dataclass(frozen=True)
class Scale:
    """Events of the day that is exported, and rows of other days that stand beside it the second time."""

    day: int
    others: int


FULL = Scale(300_000, 10_000_000)
QUICK = Scale(5_000, 50_000)


@dataclass(frozen=True)
class Took:
    """What one export took: rows and bytes written, seconds, CPU seconds, and memory at its peak."""

    rows: int
    bytes: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    root: str


def main() -> int:
    """Fill a day, export it, fill many other days, export it again; exit 1 where the two are not the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look at few records")
    parser.add_argument("--day", type=int, help="events of the day")
    parser.add_argument("--others", type=int, help="rows of other days in each table")
    given = parser.parse_args()
    scale = QUICK if given.quick else FULL
    scale = Scale(given.day or scale.day, given.others or scale.others)
    where = machine()
    with running_lake() as lake:
        remark(f"{scale.day:,} events of a day through Kafka and the fold")
        lake.fill_raw(scale.day, _SEED, span=_DAY)
        lake.job(_BATCH).run(once=True)
        first, last = _range(lake)
        small = export(lake.settings, "small", first, last)
        remark(f"{scale.others:,} rows of other days into each table")
        fill(lake.spark, lake.catalog, scale.others, first - _DAY, (VERSIONS, PAYMENTS, RAW))
        large = export(lake.settings, "large", first, last)
        verified = _paywave(lake.settings, "audit", "verify", str(lake.settings.home / "exports"))[0]
    _print(where, scale, small, large)
    same = small.root == large.root
    print(
        f"the same rows: {'yes' if same else 'NO'}; verified: {'whole' if verified['whole'] else 'NOT WHOLE'}"
    )
    return 0 if same and verified["whole"] else 1


def export(settings: Settings, name: str, start: datetime, end: datetime) -> Took:
    """Export a range of event time in a process of its own."""
    remark(f"export {name}")
    began = time.monotonic()
    span = ("--from", start.isoformat(), "--to", end.isoformat())
    done, used = _paywave(
        settings, "audit", "export", "--scope", "all", *span, "--reason", "benchmark", "--name", name
    )
    seconds = time.monotonic() - began
    rows = sum(done["rows"].values())
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
    return Took(rows, done["bytes"], seconds, cpu, peak, done["root"])


def _paywave(settings: Settings, *arguments: str) -> tuple[dict[str, Any], Any]:
    """Run a command; return what it prints, and what it used of the machine."""
    out = settings.home / "bench.out"
    with out.open("wb") as stdout:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", *arguments, "--output", "json"],
            env={**os.environ, "PAYWAVE_HOME": str(settings.home)},
            stdout=stdout,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    text = Path(out).read_text()
    if not text:
        raise SystemExit(f"{' '.join(arguments[:2])} failed with {process.returncode}")
    found: dict[str, Any] = json.loads(text)
    return found, used


def _range(lake: Lake) -> tuple[datetime, datetime]:
    """Find the event times of the day, as whole hours."""
    sql = f"SELECT date_trunc('hour', min(event_ts)), date_trunc('hour', max(event_ts)) FROM {PAYMENTS}"  # noqa: S608
    first, last = run_query(lake.catalog, lake.settings.catalog_properties(), sql).rows[0]
    return first, last + timedelta(hours=1)


def _print(where: str, scale: Scale, small: Took, large: Took) -> None:
    print(where)
    print(f"{'':28}{'the day alone':>18}{f'and {scale.others:,} more':>22}{'ratio':>8}")
    for label, attribute, unit in (
        ("rows exported", "rows", 1),
        ("bytes written, MB", "bytes", 1e6),
        ("seconds", "seconds", 1),
        ("CPU seconds", "cpu_seconds", 1),
        ("memory at its peak, MB", "peak_bytes", 1e6),
    ):
        one, other = (getattr(took, attribute) / unit for took in (small, large))
        print(f"{label:28}{one:>18,.1f}{other:>22,.1f}{other / max(one, 1e-9):>8.2f}")


if __name__ == "__main__":
    sys.exit(main())
