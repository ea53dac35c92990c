"""Processes of `paywave` on the home of a benchmark, as people start them; none outlives the block.

Belongs here: starting, watching and ending them. Does not: what they are measured for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

_STOP_SECONDS = 300.0  # a batch is finished first
_GIVE_UP_SECONDS = 10.0  # where the benchmark has failed: nobody needs that batch
_POLL_SECONDS = 0.5
_TAIL = 2_000


class Job:
    """One process: its result goes to one file, what it says to another."""

    def __init__(self, words: tuple[str, ...], home: Path) -> None:
        self.name = " ".join(words[:2])
        stem = f"bench-{'-'.join(words[:2])}"
        self._result, self._log = home / f"{stem}.json", home / f"{stem}.log"
        command = [str(Path(sys.executable).with_name("paywave")), *words, "--output", "json"]
        environment = {**os.environ, "PAYWAVE_HOME": str(home)}
        with self._result.open("wb") as result, self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=result, stderr=log)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def result(self) -> dict[str, Any]:
        """Wait for its end and read its result; raises RuntimeError where it left none."""
        code = self._process.wait()
        try:
            found: dict[str, Any] = json.loads(self._result.read_text())
        except ValueError:
            raise RuntimeError(f"{self.name} ended with {code}: {self.said()}") from None
        return found

    def said(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-_TAIL:]

    def ask_to_stop(self) -> None:
        """Ask it to end after the batch at hand."""
        if self.is_running:
            self._process.terminate()

    def end(self, seconds: float) -> None:
        """Wait for its end, and kill it if that does not come."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Jobs:
    """The processes of one home; a context manager that ends them all."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._started: list[Job] = []
        self._services: list[Job] = []

    def serve(self, *words: str) -> None:
        """Start one that is to run until `stop`."""
        self._services.append(self.start(*words))

    def start(self, *words: str) -> Job:
        """Start one that ends by itself."""
        self._started.append(Job(words, self._home))
        return self._started[-1]

    def call(self, *words: str) -> dict[str, Any]:
        """Run one to its end and return its result."""
        return self.start(*words).result()

    def pause(self, seconds: float) -> None:
        """Let the services work; raises RuntimeError as soon as one has ended by itself."""
        until = time.monotonic() + seconds
        while True:
            for job in self._services:
                if not job.is_running:
                    raise RuntimeError(f"{job.name} ended by itself: {job.said()}")
            if (left := until - time.monotonic()) <= 0:
                return
            time.sleep(min(left, _POLL_SECONDS))

    def stop(self, seconds: float = _STOP_SECONDS) -> None:
        """End all of them, each after the batch at hand if that takes no longer."""
        running = [job for job in self._started if job.is_running]
        for job in running:
            job.ask_to_stop()
        for job in running:
            job.end(seconds)
        self._started, self._services = [], []

    def __enter__(self) -> Jobs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(_STOP_SECONDS if error is None else _GIVE_UP_SECONDS)
