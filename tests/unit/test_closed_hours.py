"""Which closed hours are told of: each once, and again when late records came, but not every minute."""

from __future__ import annotations

from datetime import UTC, datetime

from assets.hours import QUIET, _Cursor, _Hour

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
START = _Cursor.of(None)


def test_an_hour_is_told_of_once() -> None:
    hour = _Hour("2026-11-24T10", 5, 0)
    assert START.is_news(hour, NOW)
    assert not _Cursor.of(START.after([hour], NOW.timestamp()).text()).is_news(hour, NOW)


def test_late_records_are_told_of_after_a_pause() -> None:
    seen = START.after([_Hour("2026-11-24T10", 5, 0)], NOW.timestamp())
    late = _Hour("2026-11-24T10", 7, 2)
    assert seen.is_news(late, NOW), "the first of them at once"
    seen = _Cursor.of(seen.after([late], NOW.timestamp()).text())
    later = _Hour("2026-11-24T10", 8, 3)
    assert seen.more(later) == 1
    assert not seen.is_news(later, NOW + QUIET / 2)
    assert seen.is_news(later, NOW + QUIET)
    assert not seen.is_news(late, NOW + QUIET), "nothing more came"


def test_an_old_hour_that_gets_its_first_records_is_late() -> None:
    seen = START.after([_Hour("2026-11-24T10", 5, 0)], NOW.timestamp())
    old = _Hour("2025-01-01T00", 3, 3)
    assert seen.is_news(old, NOW)
    assert seen.after([old], NOW.timestamp()).newest == "2026-11-24T10"
