"""What benchmarks say while they run, and of the machine that they ran on.

Belongs here: that, on stderr, so that stdout holds the results alone.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path


def remark(text: str) -> None:
    """Say something that is no result."""
    print(f"{datetime.now(UTC):%H:%M:%S}  {text}", file=sys.stderr, flush=True)


def machine() -> str:
    """Name the day, the machine, and what else it was doing."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    name = model[1] if model else platform.machine()
    load = f"load average {os.getloadavg()[0]:.1f} before"
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {name}, {load}, "
        f"Python {platform.python_version()}"
    )


class Eta:
    """Tells how long what is left will take, if it goes on as it went."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def left(self, done: float, total: float) -> str:
        """Say it in words, given how much of the whole is done."""
        if done <= 0:
            return "no telling yet how long"
        return f"about {(time.monotonic() - self._started) * (total - done) / done:,.0f} s left"
