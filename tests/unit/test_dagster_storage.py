"""Runs whose code server is gone are given up when Dagster starts again; those not begun are left alone."""

from __future__ import annotations

from pathlib import Path

from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.test_utils import create_run_for_test

from assets.instance import write_instance
from assets.storage import prepare
from config.settings import load_settings


def test_runs_that_nobody_runs_any_more_have_failed(tmp_path: Path) -> None:
    becomes = {
        DagsterRunStatus.NOT_STARTED: DagsterRunStatus.NOT_STARTED,
        DagsterRunStatus.STARTING: DagsterRunStatus.FAILURE,
        DagsterRunStatus.STARTED: DagsterRunStatus.FAILURE,
        DagsterRunStatus.CANCELING: DagsterRunStatus.CANCELED,
        DagsterRunStatus.SUCCESS: DagsterRunStatus.SUCCESS,
    }
    folder = write_instance(load_settings(home=tmp_path))
    with DagsterInstance.from_config(str(folder)) as instance:
        runs = {create_run_for_test(instance, "idle", status=status).run_id: status for status in becomes}
        prepare(instance)
        found = {status: instance.get_run_by_id(run) for run, status in runs.items()}
    assert {status: run.status for status, run in found.items() if run is not None} == becomes
