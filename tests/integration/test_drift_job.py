"""Partners that add fields, and one that changes a type: kept and counted once, one slice quarantined."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import paywave
from lakehouse.definitions import DRIFT, PAYMENTS, QUARANTINE, RAW, VERSIONS
from quality.drift import unknown_fields
from streaming.counting_job import CountingSettings
from streaming.message import message_of
from streaming.schemas.drift_job import DriftJob
from streaming.schemas.drift_report import report_drift
from streaming.simulate import Mix, Plan
from tests.pipeline import Pipeline
from tests.streams import steady

pytestmark = pytest.mark.integration


def lines(seed: int, count: int = 60) -> list[bytes]:
    return list(steady(Plan.recent(count, seed, Mix(), timedelta(hours=1))).lines())


def edited(line: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(line), **changes}).encode()


def expected(pipeline: Pipeline) -> Counter[tuple[str, str, str]]:
    """By source, field and type: read from raw, record by record."""
    found: Counter[tuple[str, str, str]] = Counter()
    for row in pipeline.rows(RAW):
        source = next(h["value"].decode() for h in row["headers"] if h["key"] == "ce_source")
        found.update((source, *unknown) for unknown in unknown_fields(row["value"]))
    return found


def as_counted(pipeline: Pipeline) -> Counter[tuple[str, str, str]]:
    found: Counter[tuple[str, str, str]] = Counter()
    for row in pipeline.rows(DRIFT):
        found[row["source"], row["field"], row["json_type"]] += row["records"]
    return found


def drift(pipeline: Pipeline, max_records: int) -> int:
    return DriftJob(pipeline.catalog, pipeline.spark, CountingSettings(max_records)).run(once=True)


def test_what_partners_change_without_notice(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, shop = lines(1), lines(2)
    broken = [
        edited(line, account_id=4711) for line in shop[30:]
    ]  # a number where a text was: a breaking change
    pipeline.send(message_of(edited(line, loyalty_tier="gold", score=7), "bank") for line in bank)
    pipeline.send(message_of(line, "shop") for line in shop[:30])
    pipeline.send(message_of(line, "shop") for line in broken)
    pipeline.send(message_of(edited(line, loyalty_tier=3), "bank") for line in bank[:5])
    pipeline.run_raw()
    behind = report_drift(pipeline.catalog, None, None).behind
    assert (behind, drift(pipeline, max_records=70)) == (125, 125)

    # every record counted once, over two batches that share an hour
    assert as_counted(pipeline) == expected(pipeline)
    assert as_counted(pipeline)["bank", "loyalty_tier", "number"] == 5
    keys = [(r["kafka_hour"], r["source"], r["field"], r["json_type"]) for r in pipeline.rows(DRIFT)]
    assert len(keys) == len(set(keys))
    before = pipeline.rows(DRIFT)
    assert drift(pipeline, max_records=10) == 0
    assert pipeline.rows(DRIFT) == before

    # the fields are kept, and only the slice that broke is quarantined
    pipeline.run_curated()
    quarantined = pipeline.rows(QUARANTINE)
    assert {(row["source"], v["rule"], v["field"]) for row in quarantined for v in row["violations"]} == {
        ("shop", "type", "account_id")
    }
    assert len(quarantined) == len(broken)
    events = {json.loads(line)["event_id"] for line in [*bank, *shop[:30]]}
    assert {row["event_id"] for row in pipeline.rows(VERSIONS)} == events
    kept = [json.loads(row["attributes"]) for row in pipeline.rows(PAYMENTS) if row["source"] == "bank"]
    assert kept and all("loyalty_tier" in attributes for attributes in kept)

    # and the command tells
    for name, value in pipeline.environment().items():
        if name.startswith("PAYWAVE_"):
            monkeypatch.setenv(name, value)
    shown = CliRunner().invoke(paywave, ["schemas", "drift", "--output", "json"], catch_exceptions=False)
    fields = {(f["source"], f["field"], f["json_type"]): f for f in json.loads(shown.stdout)["fields"]}
    assert {key: f["records"] for key, f in fields.items()} == dict(expected(pipeline))
    sent = [row["kafka_ts"] for row in pipeline.rows(RAW) if b'"loyalty_tier": "gold"' in row["value"]]
    tier = fields["bank", "loyalty_tier", "string"]
    assert (tier["first_seen"], tier["last_seen"]) == (min(sent).isoformat(), max(sent).isoformat())
    nothing = ["schemas", "drift", "--to", "2026-01-01T00:00Z", "--output", "json"]
    shown = CliRunner().invoke(paywave, nothing, catch_exceptions=False)
    assert json.loads(shown.stdout) == {"fields": [], "behind_raw": 0}
    refused = CliRunner().invoke(paywave, ["schemas", "drift", "--from", "2026-01-01T00:30Z"])
    assert refused.exit_code == 2
