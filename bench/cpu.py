"""CPU seconds of this job (Python, the JVM, Python workers) and, apart from it, of the servers beside it.

Belongs here: reading /proc. Does not: what is measured. Linux only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.background import Background

_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE_SECONDS = 1.0
_Key = tuple[int, int]


@dataclass(frozen=True)
class Spent:
    """CPU seconds, user and system."""

    job: float
    servers: float

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.job - other.job, self.servers - other.servers)


class CpuMeter(Background):
    """Adds up what every process of the job ever spent, those included that have ended; a context manager.

    A process that ends is counted as of the last sample: what it spent in its last moments is missed.
    """

    def __init__(self, servers: Iterable[int]) -> None:
        super().__init__()
        self._servers = frozenset(servers)
        self._job: dict[_Key, float] = {}
        self._lock = threading.Lock()

    def spent(self) -> Spent:
        """Return what was spent so far."""
        with self._lock:
            found = {pid: _stat(pid) for pid in _pids()}
            known = {pid: stat for pid, stat in found.items() if stat is not None}
            for pid in _descendants(os.getpid(), {pid: stat[0] for pid, stat in known.items()}):
                _, started, seconds = known[pid]
                self._job[pid, started] = seconds
            servers = sum(known[pid][2] for pid in self._servers if pid in known)
            return Spent(sum(self._job.values()), servers)

    def _run(self) -> None:
        while not self._stopping.wait(_SAMPLE_SECONDS):
            self.spent()


def _pids() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]


def _stat(pid: int) -> tuple[int, int, float] | None:
    """Return parent, start and CPU seconds of a process; None if it is gone."""
    try:
        # The second field is the command in brackets, which may contain anything: read from behind it.
        fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), int(fields[19]), (int(fields[11]) + int(fields[12])) / _TICKS


def _descendants(root: int, parents: dict[int, int]) -> set[int]:
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found & parents.keys()


def tree_seconds(root: int) -> float:
    """CPU seconds of a process and of all that it started and that still lives."""
    known = {pid: stat for pid in _pids() if (stat := _stat(pid)) is not None}
    return sum(known[pid][2] for pid in _descendants(root, {pid: stat[0] for pid, stat in known.items()}))
