"""What retention has dropped from a table: all of before a time that records below some offsets tell. Pure.

Belongs here: that pair. Does not: dropping (`maintenance/retention.py`), where it is kept (`stamp.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from lakehouse.offsets import OffsetVector


@dataclass(frozen=True)
class Retired:
    """What a table has no more.

    Raw, by Kafka time: every record before `before` was dropped, which is every record below `below` and no
    other. Event_versions and payments, by event time: every row of before `before` was dropped that a record
    below `below` tells. A record that came later and is of that time has its row: nothing else would say it.
    """

    before: datetime | None = None
    below: OffsetVector = field(default_factory=OffsetVector)

    def __bool__(self) -> bool:
        return self.before is not None

    def reaches(self, moment: datetime | None) -> bool:
        """Tell whether records of this Kafka time were dropped; None: of the first ones."""
        return self.before is not None and (moment is None or moment < self.before)


NOTHING = Retired()
