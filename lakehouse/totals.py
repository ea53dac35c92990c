"""Running counts that the stamps carry, and what they come to. Pure.

Belongs here: their names, adding them up. Does not: counting (the jobs), holding them against rows
(`conservation.py`, `streaming/reconcile/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

REDELIVERED, RELEASED, RETIRED = "redelivered", "released", "retired"


class ToldByNoRow(NamedTuple):
    """Records that have no row of their own in event_versions or quarantine.

    Args:
        redelivered: copies of a version that was there already, and what a replay judged anew and took out of
            quarantine, which is a version then or one more copy of one.
        retired: those whose row retention dropped.
    """

    redelivered: int
    retired: int

    @property
    def records(self) -> int:
        return self.redelivered + self.retired


def told_by_no_row(versions: Mapping[str, int], quarantine: Mapping[str, int]) -> ToldByNoRow:
    """Add up the records that no row tells.

    Args:
        versions, quarantine: the totals in the newest stamps of the two tables.
    """
    return ToldByNoRow(
        versions.get(REDELIVERED, 0) + quarantine.get(RELEASED, 0),
        versions.get(RETIRED, 0) + quarantine.get(RETIRED, 0),
    )
