"""Event hours as people write them, `2026-11-22T14` in UTC, and ranges of them. Pure.

Belongs here: reading and writing hours. Does not: what is in them (`measure.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from streaming.backfill.errors import WrongPlan

_HOUR = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE = timedelta(hours=1)


def write_hour(hour: int) -> str:
    """Write an hour, counted from 1970-01-01 UTC."""
    return f"{_EPOCH + hour * _ONE:%Y-%m-%dT%H}"


def read_hour(text: str) -> int:
    """Read what `write_hour` writes. Raises `WrongPlan` for anything else."""
    try:
        if _HOUR.fullmatch(text):
            return _hour_of(datetime.fromisoformat(f"{text}:00:00+00:00"))
    except ValueError:
        pass
    raise WrongPlan(f"{text!r} is no event hour", "write the hour in UTC, e.g. 2026-11-22T14")


def hours_between(start: datetime, end: datetime) -> list[str]:
    """List the hours from `start` (inclusive) to `end` (exclusive), both at full hours of UTC."""
    for moment in (start, end):
        if (moment - _EPOCH) % _ONE:
            raise WrongPlan(
                f"{moment.isoformat()} is within an hour (UTC), and a backfill takes whole ones",
                f"write {write_hour(_hour_of(moment))}:00:00Z or {write_hour(_hour_of(moment) + 1)}:00:00Z",
            )
    if end <= start:
        raise WrongPlan(
            f"{end.astimezone(UTC).isoformat()} is not later than {start.astimezone(UTC).isoformat()}",
            "give the first hour and the end of the last one",
        )
    return [write_hour(hour) for hour in range(_hour_of(start), _hour_of(end))]


def in_order(hours: Iterable[str]) -> list[str]:
    """Sort hours, each once; as text they sort by time. Raises `WrongPlan` for what is none, or no hours."""
    found = sorted({write_hour(read_hour(hour)) for hour in hours})
    if not found:
        raise WrongPlan("a backfill of no hours", "name the hours, e.g. 2026-11-22T14")
    return found


def _hour_of(moment: datetime) -> int:
    return (moment - _EPOCH) // _ONE
