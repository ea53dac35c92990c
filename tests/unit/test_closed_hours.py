"""Which closed hours are told of: each once, and again when late records came, but not every minute.

And what people are told of one that is stated.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets import hours
from assets.hours import QUIET, _Cursor, _Hour, _Stated
from assets.lake import Lake
from assets.notify import Notifier
from config.settings import Settings, load_settings
from lakehouse.definitions import PAYMENTS

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


# -- the sensor and the asset --------------------------------------------------------------------------------

FIRST_HOUR = datetime(2026, 11, 1, tzinfo=UTC)
PARTITIONS = hours.hourly(FIRST_HOUR)
KEY = "2026-11-24T10"


class Told(Notifier):
    """Remembers what people would be told."""

    def tell(self, what: str, text: str, **details: str) -> None:
        TOLD.append((what, text, details))


class SomeLake(Lake):
    """A lake of the settings alone."""

    def settings(self) -> Settings:
        return load_settings(home=self.home, conductor={"first_hour": FIRST_HOUR.isoformat()})


TOLD: list[tuple[str, str, dict[str, str]]] = []


@pytest.fixture
def resources(tmp_path: Path) -> Iterator[dict[str, Any]]:
    TOLD.clear()
    lake = SomeLake(home=str(tmp_path))
    yield {"lake": lake, "notifier": Told(lake=lake)}


def tick(resources: dict[str, Any], cursor: str | None) -> Any:
    with dg.build_sensor_context(cursor=cursor, resources=resources) as context:
        return hours.hours_that_close(context)


def test_late_data_before_the_first_partition_are_told_of_and_exports_renewed(
    resources: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [_Hour(f"2026-10-{day:02}T{hour:02}", 9, 1) for day in range(1, 31) for hour in range(24)]
    closed = [*old, _Hour(KEY, 5, 0)]
    monkeypatch.setattr(hours, "_closed", lambda _lake: closed)
    first = tick(resources, None)
    assert [event.partition for event in first.asset_events] == [KEY], "an older hour is no partition"
    assert not TOLD, "what was there before the first look is not late"
    assert isinstance(tick(resources, first.cursor), dg.SkipReason)
    monkeypatch.setattr(hours, "QUIET", QUIET * 0)
    closed[3] = _Hour(closed[3].key, 11, 3)
    closed[-1] = _Hour(KEY, 6, 1)
    second = tick(resources, first.cursor)
    assert [event.partition for event in second.asset_events] == [KEY]
    (request,) = second.run_requests
    asked = request.run_config["ops"]["renew_exports"]["config"]["hours"]
    assert asked == [f"{closed[3].key}:00:00Z", f"{KEY}:00:00Z"]
    ((what, text, _),) = TOLD
    assert what == "late_data"
    assert text.startswith(
        f"3 records came for 2 closed hours: {closed[3].key}, {KEY}; 1 of these are before"
    )
    assert isinstance(tick(resources, second.cursor), dg.SkipReason)


@pytest.mark.parametrize("doubled", [[("CAPTURE", "a1")], []])
def test_people_are_told_of_a_closed_hour_whose_payments_stand_twice(
    resources: dict[str, Any], monkeypatch: pytest.MonkeyPatch, doubled: list[tuple[Any, ...]]
) -> None:
    stated = _Stated(77, 3, "abc", [("CAPTURE", "EUR", 3, 12)], doubled, (1, 0))
    monkeypatch.setattr(hours, "_state", lambda _lake, _hour: stated)
    done = dg.materialize([hours.closed_hours_asset(PARTITIONS)], partition_key=KEY, resources=resources)
    assert done.success, "the run has stated what there is"
    (check,) = done.get_asset_check_evaluations()
    assert check.passed == (not doubled)
    assert [(what, KEY in text) for what, text, _ in TOLD] == ([("closed_hours", True)] if doubled else [])
    (event,) = done.get_asset_materialization_events()
    metadata = {name: value.value for name, value in event.materialization.metadata.items()}
    assert metadata["snapshot_id"] == "77"
    assert metadata["time_travel"] == (
        f"`paywave query \"SELECT count(*) FROM {PAYMENTS} WHERE event_ts >= TIMESTAMPTZ '2026-11-24 "
        "10:00:00+00:00' AND event_ts < TIMESTAMPTZ '2026-11-24 11:00:00+00:00'\" "
        f"--snapshot {PAYMENTS}=77`"
    )
