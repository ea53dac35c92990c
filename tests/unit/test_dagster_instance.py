"""Dagster as settings say it: SQLite below the home, PostgreSQL by setting, no secret in a file."""

from __future__ import annotations

import json
from pathlib import Path

from dagster import DagsterInstance
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickStatus

from assets.instance import POSTGRES_ENV, environment, write_instance
from config.settings import load_settings

URL = "postgresql://dagster:s3cret@db:5432/dagster"


def test_a_laptop_keeps_runs_on_sqlite_in_its_home(tmp_path: Path) -> None:
    folder = write_instance(load_settings(home=tmp_path))
    assert folder == tmp_path / "dagster"
    with DagsterInstance.from_config(str(folder)) as instance:
        assert instance.run_storage.get_runs() == []
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
        for kind in InstigatorType:
            kept = instance.get_tick_retention_settings(kind)
            assert kept[TickStatus.SKIPPED] < kept[TickStatus.FAILURE] == 90, f"ticks of {kind} go"
    assert "sqlite" in json.loads((folder / "dagster.yaml").read_text())["storage"]


def test_postgresql_is_a_setting_and_its_password_is_in_no_file(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, conductor={"postgres_url": URL})
    folder = write_instance(settings)
    written = (folder / "dagster.yaml").read_text()
    assert "s3cret" not in written
    assert json.loads(written)["storage"] == {"postgres": {"postgres_url": {"env": POSTGRES_ENV}}}
    assert environment(settings, folder)[POSTGRES_ENV] == URL


def test_backfills_wait_for_each_other(tmp_path: Path) -> None:
    written = json.loads((write_instance(load_settings(home=tmp_path)) / "dagster.yaml").read_text())
    assert {"key": "dagster/backfill", "limit": 1} in written["concurrency"]["runs"]["tag_concurrency_limits"]


def test_writing_it_again_changes_nothing(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    file = write_instance(settings) / "dagster.yaml"
    before = file.stat().st_mtime_ns
    write_instance(settings)
    assert file.stat().st_mtime_ns == before
