"""Which days of raw may go: whole ones, old enough, whatever the calendar does."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import AuditFailed, TooYoung
from lakehouse.maintenance.due import (
    KEPT_MONTHS,
    check_age,
    day_of,
    first_hour_of,
    latest_cut,
    months_before,
    start_of_day,
    trusted_now,
)
from lakehouse.maintenance.old_files import OldFile, check_counted
from lakehouse.maintenance.retention import RetentionSettings
from lakehouse.offsets import OffsetVector
from lakehouse.retired import NOTHING, Retired

DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
moments = st.integers(10_957 * 86_400, 47_482 * 86_400).map(lambda s: EPOCH + timedelta(seconds=s))
days = st.dates(date(1990, 1, 1), date(2100, 1, 1))
months = st.integers(KEPT_MONTHS, 240)
hours = st.integers(0, 1_200_000)


@pytest.mark.parametrize(
    ("now", "kept", "before"),
    [
        ("2026-11-26T00:00:00+00:00", 30, "2024-05-26"),
        ("2026-11-26T23:59:59+00:00", 30, "2024-05-26"),
        ("2026-08-31T12:00:00+00:00", 30, "2024-02-29"),
        ("2025-08-31T12:00:00+00:00", 30, "2023-02-28"),
        ("2026-11-26T01:00:00+05:00", 30, "2024-05-25"),  # still the 25th in UTC
        ("2026-01-15T00:00:00+00:00", 36, "2023-01-15"),
    ],
)
def test_the_last_cut_of_a_day(now: str, kept: int, before: str) -> None:
    moment, cut = datetime.fromisoformat(now), date.fromisoformat(before)
    assert latest_cut(moment, kept) == cut
    check_age(cut, moment, kept)
    with pytest.raises(TooYoung, match=f"{cut} is younger than {kept} months"):
        check_age(cut + DAY, moment, kept)


@given(moments, months)
def test_nothing_goes_that_was_kept_for_less(now: datetime, kept: int) -> None:
    """By the calendar, and so never under two years either."""
    cut = start_of_day(latest_cut(now, kept))
    last_record = cut - timedelta(microseconds=1)
    at_least = (now.year - last_record.year) * 12 + now.month - last_record.month
    assert at_least > kept or (at_least == kept and last_record.day <= now.day)
    assert now - last_record > timedelta(days=730)


@given(moments, months, days)
def test_a_day_is_refused_or_old_enough(now: datetime, kept: int, before: date) -> None:
    if before <= latest_cut(now, kept):
        check_age(before, now, kept)
    else:
        with pytest.raises(TooYoung):
            check_age(before, now, kept)


@given(moments, st.none() | hours)
def test_a_clock_that_runs_ahead_of_the_newest_record_is_not_believed(
    now: datetime, newest: int | None
) -> None:
    believed = trusted_now(now, newest)
    assert believed <= now
    if newest is not None:
        assert believed == now or believed == EPOCH + timedelta(hours=newest + 1)


def test_less_than_is_promised_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="promised"):
        RetentionSettings(KEPT_MONTHS - 1)


@given(moments, months)
def test_going_back_keeps_the_time_of_day(now: datetime, kept: int) -> None:
    then = months_before(now, kept)
    assert then.timetz() == now.timetz()
    assert (now.year - then.year) * 12 + now.month - then.month == kept
    assert then.day <= now.day


@given(days)
def test_a_day_begins_with_its_first_hour(day: date) -> None:
    hour = first_hour_of(day)
    assert day_of(hour) == day == day_of(hour + 23)
    assert day_of(hour - 1) == day - DAY
    assert EPOCH + timedelta(hours=hour) == start_of_day(day)


def test_what_is_retired_says_how_far_it_reaches() -> None:
    cut = datetime(2024, 1, 11, tzinfo=UTC)
    retired = Retired(cut, OffsetVector({"t": {0: 5}}))
    assert retired and not NOTHING
    assert retired.reaches(None) and retired.reaches(cut - DAY)
    assert not retired.reaches(cut) and not NOTHING.reaches(None)


def test_old_files_hold_just_the_rows_that_were_read_in_them() -> None:
    files = [OldFile(path, 7, 1000, records, True) for path, records in (("a", 3), ("b", 4))]
    check_counted("raw.t", files, 7)
    with pytest.raises(AuditFailed, match="say 8 rows, 7 were read there, and 0 of them delete rows"):
        check_counted("raw.t", [files[0], files[1]._replace(records=5)], 7)
    with pytest.raises(AuditFailed, match="say 7 rows, 7 were read there, and 1 of them delete rows"):
        check_counted("raw.t", [files[0], files[1]._replace(is_data=False)], 7)
