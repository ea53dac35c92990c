"""Detached processes and how to recognise them later. Belongs here: /proc, pid files, signals.

A process is known by pid, start time and boot: a pid that was given to another process is never touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from local.services.base import write_private

_PROC = Path("/proc")
_LISTEN = "0A"
_ROTATE_AT = 10 * 1024 * 1024


@dataclass(frozen=True)
class Process:
    """A process and what tells it from a later one with the same pid."""

    pid: int
    start_ticks: int
    boot_id: str

    @property
    def alive(self) -> bool:
        """Whether this very process still runs. One that ended but was not yet waited for does not."""
        now = identify(self.pid)
        if now is None:  # if it was our child, let the system forget it
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
        return now == self

    def was_told(self, *arguments: str) -> bool:
        """Whether its command line holds all these arguments."""
        with contextlib.suppress(OSError):
            told = (_PROC / str(self.pid) / "cmdline").read_bytes().split(b"\0")
            return {argument.encode() for argument in arguments} <= set(told)
        return False

    def listens_on(self) -> set[tuple[str, int]]:
        """The addresses (in hex, as /proc has them) and ports that it listens on."""
        sockets = {link for link in self._links() if link.startswith("socket:")}
        listening = set()
        for table in ("tcp", "tcp6"):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and f"socket:[{fields[9]}]" in sockets:
                    address, port = fields[1].split(":")
                    listening.add((address, int(port, 16)))
        return listening

    def _links(self) -> list[str]:
        links = []
        with contextlib.suppress(OSError):
            for descriptor in (_PROC / str(self.pid) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    links.append(str(descriptor.readlink()))
        return links

    @property
    def uptime_s(self) -> float:
        """Seconds since it started."""
        now = float((_PROC / "uptime").read_text().split()[0])
        return max(0.0, now - self.start_ticks / os.sysconf("SC_CLK_TCK"))

    @property
    def memory_bytes(self) -> int:
        """Resident memory; 0 when it is gone."""
        with contextlib.suppress(OSError):
            return int((_PROC / str(self.pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return 0


def identify(pid: int) -> Process | None:
    """The running process with this pid, or None if there is none or it has ended."""
    try:
        # The second field is the command in brackets, which may contain anything: read from behind it.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if fields[0] in "ZX" else Process(pid, int(fields[19]), boot)


def read_pid_file(path: Path) -> Process | None:
    """The live process that a pid file names; None if it is gone or its pid is another process now."""
    try:
        process = Process(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return process if process.alive else None


def find_marked(marks: Sequence[str]) -> Process | None:
    """A live process whose command line holds all `marks`: its starter may have died before the pid file."""
    processes = (identify(int(folder.name)) for folder in _PROC.glob("[0-9]*"))
    return next((process for process in processes if process and process.was_told(*marks)), None)


def start(command: Sequence[str], env: Mapping[str, str], log: Path, pid_file: Path) -> Process:
    """Start a process that outlives this one, with its output appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _ROTATE_AT:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,  # data is for its owner; S3Proxy would even serve what others may read unsigned
            cwd=log.parent,
        )
    child.returncode = 0  # it is meant to outlive us: no warning when the handle goes
    process = identify(child.pid) or Process(child.pid, 0, "")
    write_private(pid_file, json.dumps(asdict(process)))
    return process


def stop(process: Process, timeout_s: float) -> None:
    """End a process: SIGTERM, wait, SIGKILL. Returns when it is gone."""
    for sent, patience in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 10.0)):
        if not process.alive:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, sent)
        deadline = time.monotonic() + patience
        while process.alive and time.monotonic() < deadline:
            time.sleep(0.05)
