"""Work in a thread of its own for as long as a block runs.

Belongs here: starting and ending it. Does not: any such work (`sender.py`, `posting.py`, `compaction.py`,
`cpu.py`).
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Background(ABC):
    """A context manager that runs `_run` in a thread, which is to end soon after `_stopping` is set."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @abstractmethod
    def _run(self) -> None:
        """Work until `_stopping` is set."""

    def _end(self) -> None:
        self._stopping.set()
        self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
