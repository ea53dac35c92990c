"""How late records arrived, per event hour: what a publish notes about its batch. Pure.

Belongs here: the figures and how the stamp writes them. Does not: measuring them (`streaming/`), what
follows from them; nothing is ever dropped for being late.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

# Every load of a table's metadata carries the stamps of all its snapshots: keep one from growing without end.
MAX_HOURS = 200


class Arrivals(NamedTuple):
    """Valid records of one event hour in one batch. The delay is Kafka time less event time.

    `hour`: hours since 1970-01-01 UTC; None for all the hours before those that are named.
    """

    hour: int | None
    records: int
    max_delay_ms: int
    p99_delay_ms: int


def to_json(arrivals: Iterable[Arrivals]) -> str:
    """Render the newest `MAX_HOURS` hours by themselves, what is older as one."""
    newest_first = sorted(arrivals, key=lambda a: a.hour or 0, reverse=True)
    named, older = newest_first[:MAX_HOURS], newest_first[MAX_HOURS:]
    return json.dumps([*named, *_as_one(older)], separators=(",", ":"))


def from_json(text: str) -> tuple[Arrivals, ...]:
    """Read what `to_json` wrote. Raises ValueError or TypeError for anything else."""
    return tuple(Arrivals(*values) for values in json.loads(text))


def _as_one(older: list[Arrivals]) -> list[Arrivals]:
    if not older:
        return []
    # of 99th percentiles only the greatest can be told: an upper bound of that of all
    return [
        Arrivals(
            None,
            sum(a.records for a in older),
            max(a.max_delay_ms for a in older),
            max(a.p99_delay_ms for a in older),
        )
    ]
