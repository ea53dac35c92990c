"""Frames whose rows are kept because they are passed over more than once, and let go together.

Belongs here: that. Does not: deciding what is worth keeping.
"""

from __future__ import annotations

from types import TracebackType

from pyspark import StorageLevel
from pyspark.sql import DataFrame


class Frames:
    """Keeps frames until the block ends; call it with each frame to be kept."""

    def __init__(self) -> None:
        self._kept: list[DataFrame] = []

    def __call__(self, frame: DataFrame) -> DataFrame:
        frame.persist(StorageLevel.MEMORY_AND_DISK)
        self._kept.append(frame)
        return frame

    def __enter__(self) -> Frames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._kept:
            self._kept.pop().unpersist()
