"""Dagster's parts on the real stack, in process: what they observe, find, state and tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from assets import hours, observe
from assets.breaks import breaks
from assets.checks.standing import SPECS
from assets.definitions import build_defs
from assets.lake import Lake
from assets.notify import Notifier
from assets.tables import TOPIC, key_of
from assets.work import Work
from config.settings import Settings, load_settings
from lakehouse.arrivals_sql import CLOSED_AFTER
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import BY_NAME, PAYMENTS, QUARANTINE, RAW, RECONCILIATION, VERSIONS
from lakehouse.log_keeper import keep_log
from lakehouse.refs import read_head
from tests.events import event_id, wire, wire_now
from tests.pipeline import Pipeline
from tests.streams import dirty

pytestmark = pytest.mark.integration
# Older than what `dirty` simulates (the last hours of two days ago), whenever the tests run.
OLD = (datetime.now(UTC) - timedelta(days=3)).replace(minute=30, second=0, microsecond=0)
OLD_KEY = OLD.strftime(hours.KEY_FORMAT)


class Told(Notifier):
    """Remembers what people would be told."""

    def tell(self, what: str, text: str, **details: str) -> None:
        TOLD.append((what, text, details))


class LakeOf(Lake):
    """The stack's lake, with the test's own topic."""

    topic: str

    def settings(self) -> Settings:
        return load_settings(home=self.home, kafka={"topic": self.topic})


TOLD: list[tuple[str, str, dict[str, str]]] = []


@dataclass
class Conductor:
    """Definitions over a pipeline's tables, an instance of their own, and what was told."""

    pipeline: Pipeline
    instance: dg.DagsterInstance
    cursors: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        TOLD.clear()
        self.lake = LakeOf(home=str(self.pipeline.settings.home), topic=self.pipeline.topic)
        self.resources = {"lake": self.lake, "notifier": Told(lake=self.lake)}
        self.defs = build_defs(self.resources)
        self.job = self.defs.resolve_implicit_global_asset_job_def()

    def tick(self, sensor: dg.SensorDefinition) -> Any:
        """Evaluate a sensor once, keep its cursor and report its events as the daemon does."""
        with dg.build_sensor_context(
            self.instance,
            cursor=self.cursors.get(sensor.name),
            resources=self.resources,
            definitions=self.defs,
        ) as context:
            result = sensor(context)
        if isinstance(result, dg.SensorResult):
            self.cursors[sensor.name] = result.cursor
            for event in result.asset_events:
                self.instance.report_runless_asset_event(event)
        return result

    def run(self, *keys: dg.AssetKey, partition: str | None = None) -> dg.ExecuteInProcessResult:
        return self.job.execute_in_process(
            instance=self.instance, asset_selection=list(keys), partition_key=partition, raise_on_error=False
        )

    def check(self) -> dict[str, dg.AssetCheckEvaluation]:
        """Run every standing check; by `table:check`."""
        job = self.job.get_subset(asset_selection=set(), asset_check_selection={s.key for s in SPECS})
        done = job.execute_in_process(instance=self.instance, raise_on_error=False)
        found = done.get_asset_check_evaluations()
        return {f"{'.'.join(e.asset_key.path)}:{e.check_name}": e for e in found}


@pytest.fixture(scope="module")
def pipeline(stack: Settings, catalog: RestCatalog, spark: SparkSession) -> Pipeline:
    """Filled once: only the last test spoils it."""
    filled = Pipeline(stack, catalog, spark)
    filled.send_lines(dirty(400, seed=7).lines())
    filled.run()
    return filled


@pytest.fixture
def conductor(pipeline: Pipeline) -> Iterator[Conductor]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Conductor(pipeline, instance)


def test_the_graph_shows_what_the_streaming_jobs_publish(
    conductor: Conductor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {event.asset_key: event for event in conductor.tick(observe.new_snapshots).asset_events}
    assert set(seen) == {TOPIC, *map(key_of, BY_NAME)}
    for name in (RAW, VERSIONS, PAYMENTS, QUARANTINE):
        told = {n: m.value for n, m in seen[key_of(name)].metadata.items()}
        head = read_head(conductor.pipeline.catalog, name)
        assert told["snapshot_id"] == str(head.snapshot.snapshot_id)
        assert told["dagster/row_count"] == len(conductor.pipeline.rows(name))
        assert told["lag_records"] == 0
        assert told["offsets"] == json.loads(head.offsets.to_json())
        assert f"--snapshot {name}={head.snapshot.snapshot_id}" in told["time_travel"]
    assert not conductor.tick(observe.new_snapshots).asset_events
    monkeypatch.setattr(observe, "EVERY", timedelta(0))
    conductor.pipeline.send_lines([wire_now("one more")])
    (of_topic,) = conductor.tick(observe.new_snapshots).asset_events
    assert of_topic.asset_key == TOPIC
    assert of_topic.metadata["records_not_yet_in_raw"].value == 1
    conductor.pipeline.run_raw()
    lags = {e.asset_key: e.metadata for e in conductor.tick(observe.new_snapshots).asset_events}
    assert lags[key_of(RAW)]["lag_records"].value == 0


def test_a_gate_that_closes_is_looked_at_at_once(conductor: Conductor) -> None:
    first = conductor.tick(breaks)
    assert {key.name for key in first.run_requests[0].asset_check_keys} >= {"open_quarantine"}
    assert isinstance(conductor.tick(breaks), dg.SkipReason)
    conductor.pipeline.send_lines([b"no json"])
    conductor.pipeline.run()
    again = conductor.tick(breaks)
    assert {key.name for key in again.run_requests[0].asset_check_keys} == {"open_quarantine"}
    assert again.run_requests[0].run_key != first.run_requests[0].run_key


def test_late_data_make_a_closed_hour_due_again_however_old(
    conductor: Conductor, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {"event_ts": OLD.isoformat(), "ingest_ts": OLD.isoformat()}
    conductor.pipeline.send_lines([wire("old", **old)])
    conductor.pipeline.run()
    keep_log(conductor.pipeline.catalog, spark)
    conductor.tick(hours.hours_that_close)
    assert OLD_KEY in conductor.instance.get_materialized_partitions(hours.EVENT_HOURS)
    due = dg.evaluate_automation_conditions(conductor.defs, conductor.instance)
    assert OLD_KEY in _due(due)
    stated = conductor.run(hours.CLOSED_HOURS, partition=OLD_KEY)
    assert stated.success
    (state,) = stated.asset_materializations_for_node(stated.all_node_events[0].node_name)
    assert state.metadata["payments"].value == 1
    due = dg.evaluate_automation_conditions(conductor.defs, conductor.instance, cursor=due.cursor)
    assert OLD_KEY not in _due(due)

    conductor.pipeline.send_lines([wire("later", merchant_id="another", **old)])
    conductor.pipeline.run()
    assert isinstance(conductor.tick(hours.hours_that_close), dg.SkipReason), "not again within minutes"
    monkeypatch.setattr(hours, "QUIET", timedelta(0))
    (renewal,) = conductor.tick(hours.hours_that_close).run_requests
    assert renewal.run_config["ops"]["renew_exports"]["config"]["hours"] == [f"{OLD_KEY}:00:00Z"]
    renewed = conductor.defs.resolve_job_def(renewal.job_name).execute_in_process(
        run_config=renewal.run_config, instance=conductor.instance
    )
    assert renewed.success
    late = [text for what, text, _ in TOLD if what == "late_data"]
    assert late == [f"1 records came for 1 closed hours: {OLD_KEY}"]
    due = dg.evaluate_automation_conditions(conductor.defs, conductor.instance, cursor=due.cursor)
    assert OLD_KEY in _due(due)
    again = conductor.run(hours.CLOSED_HOURS, partition=OLD_KEY)
    (state,) = again.asset_materializations_for_node(again.all_node_events[0].node_name)
    assert state.metadata["payments"].value == 2


def test_maintenance_reports_what_it_did(conductor: Conductor) -> None:
    done = conductor.run(dg.AssetKey(["maintenance", "expiry"]))
    assert done.success
    (event,) = done.get_asset_materialization_events()
    rows = event.materialization.metadata["tables"].records
    assert {row.data["table"] for row in rows} == set(BY_NAME)
    ids = conductor.lake.snapshots(BY_NAME)
    assert {row.data["table"]: row.data["snapshot_id"] for row in rows} == {n: str(i) for n, i in ids.items()}


def test_a_command_that_fails_is_a_failed_run_and_says_why(conductor: Conductor, tmp_path: Path) -> None:
    lake = LakeOf(home=str(tmp_path), topic="none")
    defs = build_defs({"lake": lake})
    job = defs.resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(
        instance=conductor.instance,
        asset_selection=[key_of(RECONCILIATION)],
        raise_on_error=False,
    )
    assert not done.success
    assert not done.get_asset_materialization_events()
    logs = [entry.user_message for entry in conductor.instance.all_logs(done.run_id)]
    assert any("paywave up" in text for text in logs), "the run's log names the way out"


def test_a_command_that_ends_without_a_result_is_a_failed_run(conductor: Conductor) -> None:
    work = Work(lake=conductor.lake)

    @dg.asset
    def silent(context) -> None:  # type: ignore[no-untyped-def]  # Dagster reads its annotations
        work.run(context, ["--version"])

    with pytest.raises(dg.Failure, match="without reporting"):
        dg.materialize([silent], instance=conductor.instance)


@pytest.mark.slow
def test_an_hour_is_folded_again_from_its_page(conductor: Conductor, spark: SparkSession) -> None:
    old = {"event_ts": (OLD - timedelta(hours=5)).isoformat(), "ingest_ts": OLD.isoformat()}
    key = (OLD - timedelta(hours=5)).strftime(hours.KEY_FORMAT)
    conductor.pipeline.send_lines([wire("damaged", **old), wire("good", **old | {"account_id": "other"})])
    conductor.pipeline.run()
    before = conductor.pipeline.rows(PAYMENTS)
    damaged = f"array_contains(event_ids, '{event_id('damaged')}')"
    spark.sql(f"UPDATE {CATALOG_NAME}.{PAYMENTS} SET amount = 1 WHERE {damaged}")
    assert sorted(conductor.pipeline.rows(PAYMENTS), key=str) != sorted(before, key=str)
    done = conductor.run(key_of(VERSIONS), key_of(PAYMENTS), partition=key)
    assert done.success
    told = {event.asset_key: event for event in done.get_asset_materialization_events()}
    metadata = told[key_of(PAYMENTS)].materialization.metadata
    assert (metadata["rows_added"].value, metadata["rows_deleted"].value) == (1, 1)
    assert metadata["snapshot_id"].value == str(conductor.lake.snapshots([PAYMENTS])[PAYMENTS])
    assert f"--snapshot {PAYMENTS}={metadata['snapshot_id'].value}" in metadata["time_travel"].value
    assert sorted(conductor.pipeline.rows(PAYMENTS), key=str) == sorted(before, key=str)
    assert key in _materialized(conductor, PAYMENTS)


def test_checks_pass_and_then_name_what_broke(conductor: Conductor, spark: SparkSession) -> None:
    good = conductor.check()
    assert len(good) == len(SPECS)
    failed = {name for name, found in good.items() if not found.passed}
    # warnings: nobody has reconciled yet, and other tests had records come late
    assert f"{RECONCILIATION}:balanced" in failed
    assert failed <= {f"{RECONCILIATION}:balanced", f"{PAYMENTS}:completeness"}, failed
    assert not TOLD
    payments = f"{CATALOG_NAME}.{PAYMENTS}"
    spark.sql(f"INSERT INTO {payments} SELECT * FROM {payments} LIMIT 1")
    spark.sql(
        f"DELETE FROM {CATALOG_NAME}.{VERSIONS} WHERE event_id = (SELECT min(event_id) FROM {payments})"
    )
    bad = conductor.check()
    broken = {name for name, found in bad.items() if not found.passed} - failed
    assert {f"{PAYMENTS}:unique_key", f"{VERSIONS}:conservation", f"{PAYMENTS}:contract"} <= broken
    assert "not one of ours" in (bad[f"{PAYMENTS}:contract"].description or "")
    told = [text for what, text, _ in TOLD if what == "check_failed"]
    assert sum("payments:unique_key" in text for text in told) == 1
    conductor.check()
    assert [text for what, text, _ in TOLD if what == "check_failed"] == told, "people are told once"


def _materialized(conductor: Conductor, name: str) -> set[str]:
    return set(conductor.instance.get_materialized_partitions(key_of(name)))


def _due(evaluated: dg.EvaluateAutomationConditionsResult) -> set[str]:
    return set(evaluated.get_requested_partitions(hours.CLOSED_HOURS))


assert timedelta(days=2) > CLOSED_AFTER
