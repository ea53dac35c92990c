"""Progress of long work: a bar with an ETA on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.output import Output

_LINE_SECONDS = 5.0


class BatchProgress:
    """Progress of a job that works in batches; `left` may be unknown (None)."""

    def __init__(self, out: Output, name: str) -> None:
        self._name = name
        self._log = out.log
        self._bar: Progress | None = None
        self._last_line = 0.0

    def __enter__(self) -> BatchProgress:
        if self._log.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._bar = Progress(*columns, TimeRemainingColumn(), console=self._log, transient=True)
            self._task = self._bar.add_task(self._name, total=None)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance_to(self, done: int, left: int | None = None) -> None:
        """Show that `done` records are done and `left` are to come."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=None if left is None else done + left)
        elif left == 0 or time.monotonic() - self._last_line >= _LINE_SECONDS:
            self._last_line = time.monotonic()
            to_come = "" if left is None else f", {left:,} to come"
            self._log.print(f"{self._name}: {done:,} records{to_come}")
