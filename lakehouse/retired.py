"""What retention has dropped from raw: a time, and the offsets below which raw has nothing any more. Pure.

Belongs here: that pair. Does not: dropping (`maintenance/retention.py`), where it is kept (`stamp.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from lakehouse.offsets import OffsetVector


@dataclass(frozen=True)
class Retired:
    """All of Kafka time before `before` was dropped, which is every record below `below` and no other."""

    before: datetime | None = None
    below: OffsetVector = field(default_factory=OffsetVector)

    def __bool__(self) -> bool:
        return self.before is not None

    def reaches(self, moment: datetime | None) -> bool:
        """Tell whether records of this Kafka time were dropped; None: of the first ones."""
        return self.before is not None and (moment is None or moment < self.before)


NOTHING = Retired()
