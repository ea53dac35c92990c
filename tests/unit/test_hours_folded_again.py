"""What a run of Dagster makes of the hours it had folded again: by the command's word alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.backfill import curated_hours_asset
from assets.hours import hourly
from assets.lake import Lake
from assets.tables import key_of
from assets.work import Context, Work
from lakehouse.definitions import PAYMENTS, VERSIONS
from streaming.backfill.run import BackfillResult, HourOutcome
from streaming.backfill.state import Status

KEYS = ["2026-11-20T10", "2026-11-20T11", "2026-11-20T12"]
PARTITIONS = hourly(datetime(2026, 11, 20, tzinfo=UTC))
Changed = dict[str, int]


class SomeLake(Lake):
    """A lake of two tables at some snapshot."""

    def snapshots(self, names: Any) -> dict[str, int]:
        return dict.fromkeys(names, 77)


class Says(Work):
    """Work whose commands say what a test wants, one after another, and remember what was asked."""

    def run(self, context: Context, command: Any, may_fall_short: bool = False) -> dict[str, Any]:
        ASKED.append(list(command))
        found = SAID.pop(0)
        assert may_fall_short or not found["failed"], "the result would be lost"
        return found


ASKED: list[list[str]] = []
SAID: list[dict[str, Any]] = []


@pytest.fixture(autouse=True)
def _nothing_said() -> Iterator[None]:
    ASKED.clear()
    SAID.clear()
    yield
    assert not SAID, "not everything was asked for"


def said(*hours: tuple[str, Status, int, Changed, str | None], is_stopped: bool = False) -> dict[str, Any]:
    """What `paywave backfill run --output json` says: key, status, attempts, changed in all, error."""
    found = tuple(HourOutcome(h, status, n, {}, changed, error) for h, status, n, changed, error in hours)
    return BackfillResult("a plan", found, None, 1.0, is_stopped, is_done=False).as_json()


def folded(home: Path, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """A run of all three hours; Dagster's own home knows nothing of a backfill, as where pods do the work."""
    lake = SomeLake(home=str(home))
    return dg.materialize(
        [curated_hours_asset(PARTITIONS, most_hours=24, retry_seconds=0)],
        instance=instance,
        resources={"lake": lake, "work": Says(lake=lake)},
        tags={
            "dagster/asset_partition_range_start": KEYS[0],
            "dagster/asset_partition_range_end": KEYS[-1],
        },
        raise_on_error=False,
    )


def told(instance: dg.DagsterInstance, table: str) -> dict[str, dict[str, Any]]:
    """The newest materialization of each hour of a table."""
    found = instance.fetch_materializations(key_of(table), limit=100, ascending=True).records
    return {
        str(record.partition_key): {
            name: value.value for name, value in record.asset_materialization.metadata.items()
        }
        for record in found
        if record.asset_materialization is not None
    }


def test_rows_and_attempts_are_those_that_the_command_says(tmp_path: Path) -> None:
    changed = {f"{PAYMENTS}: added": 3, f"{PAYMENTS}: deleted": 1, f"{VERSIONS}: added": 2}
    SAID.append(
        said((KEYS[0], Status.DONE, 2, changed, None), *((k, Status.DONE, 1, {}, None) for k in KEYS[1:]))
    )
    with dg.DagsterInstance.ephemeral() as instance:
        assert folded(tmp_path, instance).success
        assert {**told(instance, PAYMENTS)[KEYS[0]]}.items() >= {
            "rows_added": 3, "rows_deleted": 1, "attempts": 2,
        }.items()  # fmt: skip
        assert told(instance, VERSIONS)[KEYS[0]]["rows_added"] == 2
        assert told(instance, VERSIONS)[KEYS[0]]["snapshot_id"] == "77"
        assert f"--snapshot {VERSIONS}=77" in told(instance, VERSIONS)[KEYS[0]]["time_travel"]
        assert told(instance, PAYMENTS)[KEYS[2]]["rows_added"] == 0
        assert set(told(instance, VERSIONS)) == {*KEYS}
    (command,) = ASKED
    assert [word for word in command if word in KEYS] == KEYS


def test_hours_that_are_done_are_reported_and_the_run_fails_for_the_others(tmp_path: Path) -> None:
    one = said(
        (KEYS[0], Status.DONE, 1, {f"{PAYMENTS}: added": 5}, None),
        (KEYS[1], Status.FAILED, 3, {}, "RuntimeError: no room on the device"),
        (KEYS[2], Status.DONE, 1, {}, None),
    )
    SAID.extend([one] * 3)  # the first try and two more
    with dg.DagsterInstance.ephemeral() as instance:
        done = folded(tmp_path, instance)
        assert not done.success
        assert set(told(instance, PAYMENTS)) == set(told(instance, VERSIONS)) == {KEYS[0], KEYS[2]}
        assert told(instance, PAYMENTS)[KEYS[0]]["rows_added"] == 5
        (failed,) = [event for event in done.all_events if event.is_step_failure]
    why = failed.step_failure_data.user_failure_data
    assert why is not None
    assert (
        why.description == f"1 of 3 hours are not done; first {KEYS[1]}: RuntimeError: no room on the device"
    )


def test_a_command_that_was_stopped_is_no_success(tmp_path: Path) -> None:
    pending = [(key, Status.PENDING, 1, {}, None) for key in KEYS[1:]]
    SAID.extend(
        [
            said((KEYS[0], Status.DONE, 1, {}, None), *pending, is_stopped=True),
            said(*((key, Status.DONE, 1, {}, None) for key in KEYS), is_stopped=True),
            said(*((key, Status.DONE, 2, {}, None) for key in KEYS)),
        ]
    )
    with dg.DagsterInstance.ephemeral() as instance:
        assert folded(tmp_path, instance).success, "the third try is whole"
        assert set(told(instance, PAYMENTS)) == {*KEYS}
