"""Which days retention may drop: whole days (UTC), none of them too young. Pure.

Belongs here: the calendar. Does not: what the days hold, whether their readers are done (`retention.py`).
"""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, time, timedelta

from lakehouse.errors import TooYoung

# Raw is promised for two years, and kept for half a year more. Nobody may ask for less.
KEPT_MONTHS = 30
_EPOCH = date(1970, 1, 1)


def months_before(moment: datetime, months: int) -> datetime:
    """Return the same time of day so many months earlier; of a month that is too short, its last day."""
    year, month = divmod(moment.year * 12 + moment.month - 1 - months, 12)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


def latest_cut(now: datetime, kept_months: int) -> date:
    """Find the last day before which everything has been kept for so many months."""
    return months_before(now.astimezone(UTC), kept_months).date()


def trusted_now(now: datetime, newest_hour: int | None) -> datetime:
    """Return the time to judge ages by: a clock that runs ahead is not believed, the newest record is.

    Args:
        newest_hour: of Kafka time that raw has a record of, in hours since 1970-01-01 UTC; brokers set it.
    """
    if newest_hour is None:
        return now
    return min(now, start_of_day(_EPOCH) + timedelta(hours=newest_hour + 1))


def check_age(before: date, now: datetime, kept_months: int, what: str = "raw") -> None:
    """Check that every day before `before` is old enough. Raises `TooYoung`, saying how far one may go.

    Args:
        what: the store that is spoken of, for people.
    """
    latest = latest_cut(now, kept_months)
    if before > latest:
        raise TooYoung(
            f"days before {before} are asked for, but {before - timedelta(days=1)} is younger than "
            f"{kept_months} months",
            f"{what}: kept for {kept_months} months, so before {latest} is the most that can go today",
        )


def start_of_day(day: date) -> datetime:
    """Return the moment at which a day begins, in UTC."""
    return datetime.combine(day, time(), UTC)


def first_hour_of(day: date) -> int:
    """Count the hours from 1970-01-01 UTC to the first one of a day: the partition of raw that it begins."""
    return (day - _EPOCH).days * 24


def day_of(hour: int) -> date:
    """Return the day that an hour, counted from 1970-01-01 UTC, lies in."""
    return _EPOCH + timedelta(days=hour // 24)
