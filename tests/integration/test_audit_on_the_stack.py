"""Audit exports on the real stack: compaction, replay, new data, expiry and a kill change no byte."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from config.settings import Settings
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.errors import UnknownMoment
from lakehouse.exports.pins import EXPORTED, tag_of
from lakehouse.log_keeper import keep_log
from lakehouse.maintenance.compact import Compactor
from lakehouse.maintenance.expire import Expirer, ExpireSettings
from streaming.replay.apply import Applier
from streaming.replay.scope import ALL
from streaming.replay.verify import ReplaySettings
from tests.commands import Running, paywave
from tests.offices import Desk, files_of
from tests.pipeline import ANY_HOUR, Pipeline
from tests.streams import dirty

pytestmark = pytest.mark.integration
LINES = list(dirty(360, 21, timedelta(hours=6)).lines())
REASON = "case 4711"


@pytest.fixture(scope="module")
def filled(stack: Settings, catalog: RestCatalog, spark: SparkSession) -> Pipeline:
    """Tables after two batches: corrections and reversals have left deletes behind."""
    pipeline = Pipeline(stack, catalog, spark)
    for lines in (LINES[:120], LINES[120:240]):
        pipeline.send_lines(lines)
        pipeline.run()
    return pipeline


# Beside `test_new_data_other_files_and_expiry_change_no_byte` on a small lake, and the one below on this.
@pytest.mark.slow
def test_compaction_replay_new_data_and_expiry_change_no_byte(filled: Pipeline, tmp_path: Path) -> None:
    catalog, spark = filled.catalog, filled.spark.newSession()
    office = Desk(filled.catalog, tmp_path)
    first = office.export(name="first")
    exported = first.manifest.value["reconciliation"]
    assert exported["exported"]["breaks"] == exported["lake"]["breaks"] == []
    stock = filled.stock()
    assert first.manifest.value["rows"] == {
        PAYMENTS: stock.payments,
        VERSIONS: stock.versions,
        QUARANTINE: stock.quarantined,
        RAW: stock.versions + stock.quarantined,
    }
    account, *_ = filled.query(
        f"SELECT account_id FROM {PAYMENTS} GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    )[0]
    of_account = office.export(f"account:{account}", "of-account")
    moment = datetime.now(UTC)

    properties = filled.settings.catalog_properties()
    for table in (VERSIONS, PAYMENTS):
        assert Compactor(catalog, lambda: spark, properties, ANY_HOUR).run(table).done > 0
    assert files_of(office.export(name="compacted")) == files_of(first)
    spark.sql(f"DELETE FROM {CATALOG_NAME}.{PAYMENTS} WHERE account_id = '{account}'")
    replay = ReplaySettings(filled.settings.tables.buckets, tmp_path / "replay", 250, 200)
    assert Applier(catalog, spark, replay, lambda *_: None).run(ALL).changed
    assert files_of(office.export(name="replayed")) == files_of(first)
    filled.send_lines(LINES[240:])
    filled.run()
    assert files_of(office.export(name="later")) != files_of(first)
    assert files_of(office.export(name="as-of", as_of=moment)) == files_of(first)

    expirer = Expirer(catalog, lambda: keep_log(catalog, spark), ExpireSettings(1, timedelta(0)))
    assert any(found.snapshots for found in expirer.run(EXPORTED, False))
    by_tag = {"tag": tag_of(first.manifest.id)}
    assert files_of(office.export(name="by-tag", **by_tag)) == files_of(first)
    assert files_of(office.export(f"account:{account}", "account-by-tag", **by_tag)) == files_of(of_account)
    with pytest.raises(UnknownMoment) as unknown:
        office.export(name="too-old", as_of=moment - timedelta(days=2))
    assert "oldest moment" in unknown.value.hint
    assert office.against_lake() == []
    done = office.independent(first)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_export_that_was_killed_goes_on_and_comes_to_the_same(filled: Pipeline, tmp_path: Path) -> None:
    environment = filled.environment()
    arguments = ("audit", "export", "--scope", "all", "--reason", REASON, "--to-dir", str(tmp_path))
    whole = paywave(*arguments, "--name", "whole", "--output", "json", **environment)
    assert whole.code == 0, whole.stderr
    assert whole.json["reconciliation"]["exported"]["breaks"] == []
    running = Running(*arguments, "--name", "killed", folder=tmp_path, environment=environment)
    journal = tmp_path / ".partial-killed" / "journal.jsonl"
    try:
        deadline = time.monotonic() + 60
        while not (journal.exists() and b'"part"' in journal.read_bytes()):
            assert running.is_alive and time.monotonic() < deadline, running.said
            time.sleep(0.005)
        running.kill()
    finally:
        running.end()
    assert not (tmp_path / "killed").exists(), "it was finished before it was killed"
    listed = paywave("audit", "list", "--to-dir", str(tmp_path), "--output", "json", **environment)
    assert [one["state"] for one in listed.json["exports"]] == ["done", "begun"]
    tag = tag_of(whole.json["id"])
    assert tag in filled.catalog.load_table(PAYMENTS).metadata.refs
    again = paywave(*arguments, "--name", "killed", "--output", "json", **environment)
    assert again.json["went_on"]
    for path in (tmp_path / "whole").rglob("*.*"):
        name = path.relative_to(tmp_path / "whole")
        if path.is_file() and not name.name.startswith("manifest.json"):
            assert (tmp_path / "killed" / name).read_bytes() == path.read_bytes(), name
    verified = paywave(
        "audit", "verify", str(tmp_path), "--against-lakehouse", "--output", "json", **environment
    )
    assert (verified.code, verified.json["findings"]) == (0, [])
    part = next((tmp_path / "killed" / PAYMENTS).glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-1])
    verified = paywave("audit", "verify", str(tmp_path), "--output", "json", **environment)
    assert verified.code == 1
    assert [f["where"] for f in verified.json["findings"]] == [part.relative_to(tmp_path).as_posix()]
