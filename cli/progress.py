"""Progress of long work: a bar with an ETA on a terminal, a plain line now and then elsewhere; on stderr.

Belongs here: how progress looks. Does not: what is counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from cli.output import Output
from cli.pipes import tell_progress

_EVERY_SECONDS = 5.0


class Meter(Protocol):
    """Told how far the work is: `done` of the total, and a few words. Cheap to call often."""

    def __call__(self, done: float, note: str = "") -> None: ...


@contextmanager
def progress(out: Output, label: str, total: float | None) -> Iterator[Meter]:
    """Show the progress of work of `total` units (None: unknown) while the block runs."""
    console = out.log
    if console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task(label, total=total, note="")
            yield lambda done, note="": bar.update(task, completed=done, note=note)
    else:
        yield _Lines(console, label, total)


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    return Progress(*columns, console=console, transient=True)


class _Lines:
    """A plain line every few seconds; none for work that is over before the first is due."""

    def __init__(self, console: Console, label: str, total: float | None) -> None:
        self._console, self._label, self._total = console, label, total
        self._started = self._said = time.monotonic()

    def __call__(self, done: float, note: str = "") -> None:
        now = time.monotonic()
        if now - self._said < _EVERY_SECONDS:
            return
        self._said = now
        parts = [part for part in (self._share(done, now - self._started), note) if part]
        said = f"{self._label}: {', '.join(parts)}"
        self._console.print(said, markup=False, soft_wrap=True)
        tell_progress(said)

    def _share(self, done: float, seconds: float) -> str:
        if not self._total or done <= 0:
            return ""
        left = seconds * max(0.0, self._total / done - 1)
        return f"{min(1.0, done / self._total):.0%}, about {left:.0f} s left"
