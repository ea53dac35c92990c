"""Compaction and expiry as a process of its own, beside the benchmark's live batches.

Belongs here: one round per line on stdin, told as one JSON object on stdout. Does not: what is measured
(`compaction.py`), the work (`lakehouse/maintenance/`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from cli.context import catalog_of, spark_of
from cli.logs import start_logs
from config.settings import load_settings
from lakehouse.definitions import PAYMENTS, VERSIONS
from lakehouse.log_keeper import keep_log
from lakehouse.maintenance.compact import Compactor, CompactSettings
from lakehouse.maintenance.expire import Expirer, ExpireSettings
from lakehouse.maintenance.need import PartitionKey, Usage
from lakehouse.refs import Head

# What a query may be reading is kept for a minute.
_EXPIRE = ExpireSettings(newest=10, older_than=timedelta(minutes=1))
_TABLES = (VERSIONS, PAYMENTS)
_STOP_SECONDS = 60.0


class _ColdAtOnce(Compactor):
    """Takes no partition for too young: rewrites are to meet the live batches, which no rule lets them do."""

    def _is_cold(self, head: Head) -> Callable[[PartitionKey, Usage], bool]:  # noqa: ARG002
        return lambda _key, _usage: True


class Compacting:
    """The process, from the side of the benchmark; a context manager that ends it."""

    def __init__(self, home: Path) -> None:
        environment = {**os.environ, "PAYWAVE_HOME": str(home)}
        with (home / "bench-compactor.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.compactor"],
                env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        self._is_working = False
        self.rounds: list[dict[str, Any]] = []

    def begin(self) -> None:
        """Ask for a round; it goes on beside whatever comes next."""
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self._is_working = True

    def finish(self) -> None:
        """Wait for the round's end, if one was asked for."""
        if self._is_working:
            assert self._process.stdout
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeError(f"compaction ended with {self._process.wait()}; its log is in the home")
            self.rounds.append(json.loads(line))
            self._is_working = False

    def __enter__(self) -> Compacting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main() -> None:
    """Do a round for each line."""
    start_logs()
    settings = load_settings()
    catalog = catalog_of(settings)
    spark = cache(lambda: spark_of(settings, "maintain"))
    compactor = _ColdAtOnce(catalog, spark, settings.catalog_properties(), CompactSettings())
    expirer = Expirer(catalog, lambda: keep_log(catalog, spark()), _EXPIRE)
    for _ in sys.stdin:
        started = time.monotonic()
        compacted = [compactor.run(name) for name in _TABLES]
        expired = expirer.run(_TABLES)
        told = {
            "rewritten": sum(c.done for c in compacted),
            "commits": sum(c.commits for c in compacted),
            "lost": sum(c.lost for c in compacted),
            "snapshots": sum(e.snapshots for e in expired),
            "files": sum(e.files for e in expired),
            "seconds": round(time.monotonic() - started, 1),
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
