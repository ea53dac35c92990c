"""The daily sample: which hour it has verified, what it makes of the answer, whom it tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.checks import sample
from assets.lake import Lake
from assets.notify import Notifier
from assets.work import Context, Work

HOUR = "2026-11-24T10"
FOUND: dict[str, Any] = {
    "equal": True,
    "records": 1200,
    "payments": 900,
    "snapshots": {"curated.payments": 7},
    "differences": {},
    "first": [],
}


class Told(Notifier):
    """Remembers what people would be told."""

    def tell(self, what: str, text: str, **details: str) -> None:
        TOLD.append((what, text))


class Says(Work):
    """Work that says whether the hour is the fold of raw."""

    equal: bool

    def run(self, context: Context, command: Any, may_fall_short: bool = False) -> dict[str, Any]:
        ASKED.append(list(command))
        assert may_fall_short, "a difference is a result too"
        return FOUND | {"equal": self.equal}


TOLD: list[tuple[str, str]] = []
ASKED: list[list[str]] = []


@pytest.fixture(autouse=True)
def _nothing_yet() -> Iterator[None]:
    TOLD.clear()
    ASKED.clear()
    yield


def sampled(home: Path, equal: bool = True, hour: str = "") -> dg.AssetCheckEvaluation | None:
    """Run the check; None where it failed to look."""
    lake = Lake(home=str(home))
    resources = {"lake": lake, "work": Says(lake=lake, equal=equal), "notifier": Told(lake=lake)}
    config = {"ops": {sample.replay_sample.op.name: {"config": {"hour": hour}}}} if hour else {}
    defs = dg.Definitions(asset_checks=[sample.replay_sample], resources=resources)
    job = defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection={spec.key for spec in sample.replay_sample.check_specs}
    )
    with dg.DagsterInstance.ephemeral() as instance:
        done = job.execute_in_process(run_config=config, instance=instance, raise_on_error=False)
        found = done.get_asset_check_evaluations()
    return found[0] if found else None


@pytest.fixture
def one_closed_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "_any_closed_hour", lambda _lake: HOUR)


@pytest.mark.usefixtures("one_closed_hour")
def test_every_bucket_of_the_hour_is_verified(tmp_path: Path) -> None:
    found = sampled(tmp_path)
    assert found is not None
    assert found.passed
    assert found.metadata["hour"].value == HOUR
    (command,) = ASKED
    named = [f"{HOUR}/{bucket}" for bucket in range(Lake(home=str(tmp_path)).settings().tables.buckets)]
    assert command[:2] == ["replay", "verify"]
    assert command[3::2] == named
    assert not TOLD


@pytest.mark.usefixtures("one_closed_hour")
def test_people_are_told_of_an_hour_that_is_not_the_fold_of_raw(tmp_path: Path) -> None:
    found = sampled(tmp_path, equal=False)
    assert found is not None
    assert not found.passed
    ((what, text),) = TOLD
    assert what == "replay_sample"
    assert text.startswith(f"{HOUR} is not the fold of raw")


def test_without_a_closed_hour_there_is_nothing_to_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "_any_closed_hour", lambda _lake: None)
    found = sampled(tmp_path)
    assert found is not None
    assert found.passed
    assert not ASKED


def test_an_hour_can_be_named_and_what_is_none_is_refused(tmp_path: Path) -> None:
    found = sampled(tmp_path, hour="2026-11-20T03")
    assert found is not None
    assert found.metadata["hour"].value == "2026-11-20T03"
    assert sampled(tmp_path, hour="yesterday") is None
    assert len(ASKED) == 1, "nothing was started for a name that is no hour"
