"""The `paywave` command as a process: run to its end, or kept running, stopped or killed with all it started.

Belongs here: processes of the command. Does not: what is asserted of them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAYWAVE = str(Path(sys.executable).with_name("paywave"))


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """Stdout, which must be exactly one JSON object."""
        value = json.loads(self.stdout)
        assert isinstance(value, dict), value
        return value


def paywave(*arguments: str, seconds: float = 200, **environment: str) -> Done:
    """Run a command to its end; `environment` says what differs from this process's own."""
    done = subprocess.run(
        [PAYWAVE, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",  # generated events may hold bytes that are no text
        timeout=seconds,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


class Running:
    """A command that runs in a session of its own, so that all it starts can be found: JVM and workers."""

    def __init__(self, *arguments: str, folder: Path, environment: Mapping[str, str]) -> None:
        name = f"{re.sub(r'[^A-Za-z0-9-]', '_', '-'.join(arguments))[:80]}-{time.monotonic_ns()}"
        self._stdout, self._stderr = folder / f"{name}.out", folder / f"{name}.err"
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [PAYWAVE, *arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def said(self) -> str:
        """What it wrote to stderr so far."""
        return self._stderr.read_text(errors="replace")

    @property
    def printed(self) -> str:
        """What it wrote to stdout so far."""
        return self._stdout.read_text()

    def command_lines(self) -> list[str]:
        """Command lines of it and of all that it started, as everybody on the machine may read them."""
        return [_read(pid, "cmdline").replace("\0", " ") for pid in self._session()]

    def pids_of(self, program: str) -> list[int]:
        """Those of its processes that run a program, told by its file's name."""
        return [pid for pid in self._session() if Path(_read(pid, "cmdline").split("\0")[0]).name == program]

    def pids_with(self, *words: str) -> list[int]:
        """Those of its processes that were called with these words, one after the other."""
        wanted = "\0".join(words) + "\0"
        return [pid for pid in self._session() if wanted in _read(pid, "cmdline")]

    @property
    def pid(self) -> int:
        """Of the command itself."""
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL it and all that it started, at once; returns when nothing of it is left."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._await_end()

    def terminate(self, seconds: float = 60) -> Done:
        """SIGTERM it, as a service manager does, and wait for its own end and that of all it started."""
        self.signal_end()
        return self.wait(seconds)

    def signal_end(self) -> None:
        """SIGTERM it, and do not wait."""
        self._process.terminate()

    def memory_bytes(self) -> int:
        """Resident memory of it and of all that it started."""
        resident = [re.search(r"VmRSS:\s+(\d+) kB", _read(pid, "status")) for pid in self._session()]
        return sum(int(found[1]) * 1024 for found in resident if found)

    def wait(self, seconds: float) -> Done:
        code = self._process.wait(seconds)
        self._await_end()
        return Done(code, self._stdout.read_text(), self.said)

    def end(self) -> None:
        """Leave nothing behind, however the test went."""
        for pid in self._session():
            with suppress(ProcessLookupError):  # it ended with one that was killed before
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _await_end(self, seconds: float = 30) -> None:
        # Python's workers have a group of their own; they end by themselves when their JVM is gone.
        deadline = time.monotonic() + seconds
        while left := self._session():
            assert time.monotonic() < deadline, [_read(pid, "cmdline") for pid in left]
            time.sleep(0.05)

    def _session(self) -> list[int]:
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [pid for pid in pids if _session_of(pid) == self._process.pid]


def parent_of(pid: int) -> int:
    """The process that started a live one."""
    return int(_read(pid, "stat").rpartition(")")[2].split()[1])


def _session_of(pid: int) -> int | None:
    """The session that a live process belongs to; None for one that is gone or waits to be reaped."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return int(fields[3]) if fields and fields[0] != "Z" else None


def _read(pid: int, what: str) -> str:
    try:
        return Path(f"/proc/{pid}/{what}").read_text(errors="replace")
    except OSError:
        return ""
