"""The quality page of a dirty lake on the real stack, and in a real browser where there is one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import paywave
from lakehouse.conservation import Stock
from lakehouse.definitions import QUARANTINE, RAW
from streaming.counting_job import CountingJob, CountingSettings
from streaming.message import message_of
from streaming.profile.count import TALLY
from streaming.quality_page.model import page_of
from streaming.quality_page.read import read_material
from streaming.schemas.drift_job import DriftJob
from tests.pages import HOSTILE
from tests.pipeline import Pipeline
from tests.streams import dirty

pytestmark = pytest.mark.integration


def test_the_page_shows_what_became_of_every_record(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in pipeline.environment().items():
        if name.startswith("PAYWAVE_"):
            monkeypatch.setenv(name, value)
    empty = tmp_path / "empty.html"
    run = CliRunner().invoke(paywave, ["quality", "report", "--out", str(empty)], catch_exceptions=False)
    assert run.exit_code == 0, run.output
    assert "No records in these hours" in empty.read_text()

    partners = ["bank", HOSTILE[0], HOSTILE[3]]
    for seed, name in enumerate(partners):
        pipeline.send(message_of(line, name) for line in dirty(120, seed).lines())
    pipeline.run()
    CountingJob(pipeline.catalog, pipeline.spark, TALLY, CountingSettings()).run(once=True)
    DriftJob(pipeline.catalog, pipeline.spark, CountingSettings()).run(once=True)

    file = tmp_path / "quality.html"
    command = ["quality", "report", "--out", str(file), "--output", "json"]
    value = json.loads(CliRunner().invoke(paywave, command, catch_exceptions=False).stdout)
    stock: Stock = pipeline.stock()
    assert value["totals"]["records"] == stock.raw == 360
    assert value["totals"]["accepted"] == stock.versions
    assert value["totals"]["redelivered"] == stock.redelivered > 0
    assert value["totals"]["quarantined"] == stock.quarantined > 0
    assert value["totals"]["duplicates"] == stock.duplicates > 0
    html = file.read_text()
    assert "<script" not in html and "&lt;script&gt;" in html
    quarantined = pipeline.rows(QUARANTINE)
    assert f"{len(quarantined):,} records are open in quarantine" in html
    rules = {violation["rule"] for row in quarantined for violation in row["violations"]}
    assert all(f">{rule}<" in html for rule in rules)

    # by partner, each as raw has it
    properties, now = pipeline.settings.catalog_properties(), datetime.now(UTC)
    page = page_of(read_material(pipeline.catalog, properties, None, None, now))
    assert {(p.records, p.accepted + p.redelivered + p.quarantined) for p in page.partners} == {(120, 120)}
    assert [p.name for p in page.partners].count("bank") == 1
    late = [r for r in pipeline.rows(RAW) if r["event_ts"] is not None]
    assert sum(p.late for p in page.partners) <= len(late)
    assert page.material.made_from.not_counted == 0
    assert page.material.start <= min(r["kafka_ts"] for r in pipeline.rows(RAW))

    # a range without records is an empty page, a range that ends before it begins is wrong usage
    past = ["--from", "2026-01-01T00:00Z", "--to", "2026-01-02T00:00Z"]
    value = json.loads(CliRunner().invoke(paywave, [*command, *past], catch_exceptions=False).stdout)
    assert value["totals"]["records"] == 0
    assert CliRunner().invoke(paywave, [*command, "--from", past[3], "--to", past[1]]).exit_code == 2
    assert CliRunner().invoke(paywave, [*command, "--from", "2026-01-01T00:30Z"]).exit_code == 2
