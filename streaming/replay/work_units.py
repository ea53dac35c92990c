"""Which partitions a replay publishes next, and how many of them at once.

Belongs here: handing them out, fewer at once after a lost race. Does not: publishing them (`apply.py`).

Live writers are slower the longer a unit's attempt takes, and an attempt that takes longer than they may wait
for it is lost. How large a unit may be depends on the machine and on what else it does: so it is found out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping

from streaming.partitions import Partition

MOST_LOSSES = 10  # in a row


class WorkUnits:
    """The partitions that are left to publish, in their order, as units of at most so many rows."""

    def __init__(self, sizes: Mapping[Partition, int], most_rows: int) -> None:
        self._sizes = sizes
        self._most_rows = most_rows
        self._left = deque(sorted(sizes))
        self._alone: deque[list[Partition]] = deque()
        self._losses = 0

    def __bool__(self) -> bool:
        return bool(self._left or self._alone)

    def take(self) -> list[Partition]:
        """Take the next unit; a partition of more rows than a unit may have stands alone."""
        if self._alone:
            return self._alone.popleft()
        unit = [self._left.popleft()]
        rows = self._sizes[unit[0]]
        while self._left and rows + self._sizes[self._left[0]] <= self._most_rows:
            unit.append(self._left.popleft())
            rows += self._sizes[unit[-1]]
        return unit

    def won(self) -> None:
        """Note that the last unit is over: whatever was lost before does not count any more."""
        self._losses = 0

    def lost(self, unit: Collection[Partition]) -> bool:
        """Put a unit back that lost its races, and have units of half its rows from now on.

        Returns False where too many were lost in a row: then it is not put back.
        """
        self._losses += 1
        if self._losses >= MOST_LOSSES:
            self._losses = 0
            return False
        self._most_rows = max(1, sum(self._sizes[partition] for partition in unit) // 2)
        self._left.extendleft(sorted(unit, reverse=True))
        return True

    def put_back_alone(self, parts: Iterable[list[Partition]]) -> None:
        """Put partitions back in parts that are taken one by one: to find out which of them fails."""
        self._alone.extend(parts)
