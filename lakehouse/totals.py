"""Running counts that the stamps carry, and what they come to. Pure.

Belongs here: their names, adding them up. Does not: counting (the jobs), holding them against rows
(`conservation.py`, `streaming/reconcile/`).
"""

from __future__ import annotations

from collections.abc import Mapping

REDELIVERED, RELEASED, RETIRED = "redelivered", "released", "retired"


def told_by_no_row(versions: Mapping[str, int], quarantine: Mapping[str, int]) -> int:
    """Count the records that have no row of their own in event_versions or quarantine.

    Copies of a version that was there already; what a replay judged anew and took out of quarantine, which is
    a version then or one more copy of one; and those whose row retention dropped.

    Args:
        versions, quarantine: the totals in the newest stamps of the two tables.
    """
    kept_no_more = versions.get(RETIRED, 0) + quarantine.get(RETIRED, 0)
    return versions.get(REDELIVERED, 0) + quarantine.get(RELEASED, 0) + kept_no_more
