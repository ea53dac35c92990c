"""What partners' hours look like: counted once whatever the batches, and compared with the weeks before."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import paywave
from lakehouse.arrivals_sql import CLOSED_AFTER
from lakehouse.definitions import PARTNER_HOURS, QUARANTINE, RAW, VERSIONS
from quality.contract import Event, in_force
from quality.judge import judge
from quality.partner_hour import VOLUME, WEEK
from quality.profile import of_record
from streaming.counting_job import CountingJob, CountingSettings
from streaming.message import message_of
from streaming.profile.anomalies import find_anomalies
from streaming.profile.count import TALLY
from tests.partner_hours import plant
from tests.pipeline import Pipeline
from tests.streams import dirty

pytestmark = pytest.mark.integration
Key = tuple[datetime, str, str, str]


def profile(pipeline: Pipeline, max_records: int) -> int:
    return CountingJob(pipeline.catalog, pipeline.spark, TALLY, CountingSettings(max_records)).run(once=True)


def expected(pipeline: Pipeline) -> Counter[Key]:
    """Counted from raw, record by record."""
    found: Counter[Key] = Counter()
    for row in pipeline.rows(RAW):
        source = next(h["value"].decode() for h in row["headers"] if h["key"] == "ce_source")
        hour = row["kafka_ts"].replace(minute=0, second=0, microsecond=0)
        by = in_force(row["kafka_ts"])
        verdict = judge(row["value"], row["kafka_ts"], by)
        event = verdict if isinstance(verdict, Event) else None
        found.update((hour, source, *one) for one in of_record(event, row["kafka_ts"], CLOSED_AFTER, by))
    return found


def as_counted(pipeline: Pipeline) -> dict[Key, int]:
    rows = pipeline.rows(PARTNER_HOURS)
    found = {(r["kafka_hour"], r["source"], r["measure"], r["value"]): r["records"] for r in rows}
    assert len(found) == len(rows), "a key stands twice"
    return found


def show(*arguments: str) -> dict[str, Any]:
    command = ["quality", "anomalies", *arguments, "--output", "json"]
    shown = CliRunner().invoke(paywave, command, catch_exceptions=False)
    assert shown.exit_code == 0
    value: dict[str, Any] = json.loads(shown.stdout)
    return value


def test_hours_are_counted_once_and_compared_with_the_weeks_before(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("bank", 1), ("shop", 2)):
        pipeline.send(message_of(line, name) for line in dirty(150, seed).lines())
    pipeline.run()
    assert profile(pipeline, max_records=110) == 300
    assert as_counted(pipeline) == expected(pipeline)
    assert profile(pipeline, max_records=110) == 0
    assert as_counted(pipeline) == expected(pipeline)

    # what is neither a version nor in quarantine was redelivered: the same from raw and from the tables
    counted = as_counted(pipeline)
    broken = sum(n for (_, _, measure, _), n in counted.items() if measure == "broken")
    assert broken == len(pipeline.rows(QUARANTINE)) > 0
    assert 300 - broken > len(pipeline.rows(VERSIONS))

    for name, value in pipeline.environment().items():
        if name.startswith("PAYWAVE_"):
            monkeypatch.setenv(name, value)
    this_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    assert show("--hour", (this_hour + timedelta(hours=1)).isoformat())["hours"] == []

    # six weeks of history, and an hour in which one partner sends three times as much, half of it broken
    hour = this_hour - timedelta(hours=2)  # complete for sure, though the test began at the turn of an hour
    weeks = [hour - week * WEEK for week in range(7)]
    plant(pipeline, {(at, "bank"): (300, 3) for at in weeks})
    plant(pipeline, {(at, "shop"): (300 + at.day, 3) for at in weeks[1:]} | {(hour, "shop"): (900, 450)})
    found = find_anomalies(pipeline.catalog, pipeline.settings.catalog_properties(), [hour])
    assert {(a.source, a.metric) for a in found.found} == {("shop", VOLUME), ("shop", "quarantined share")}
    assert [a.comparison.off for a in found.found] == sorted(
        (a.comparison.off for a in found.found), reverse=True
    )
    assert found.hours == (hour,)

    value = show("--hour", hour.isoformat(), "--partner", "shop")
    assert {row["metric"] for row in value["anomalies"]} == {VOLUME, "quarantined share"}
    assert {row["history"] for row in value["anomalies"]} == {6}
    assert show("--hour", hour.isoformat(), "--partner", "bank")["anomalies"] == []
    text = CliRunner().invoke(paywave, ["quality", "anomalies", "--hour", hour.isoformat()])
    assert "shop" in text.stdout and "volume" in text.stdout and "900" in text.stdout, text.output
    young = show("--hour", (hour - 4 * WEEK).isoformat())
    assert (young["anomalies"], young["compared"]) == ([], 0)
    assert young["not_known_yet"] > 0
    refused = CliRunner().invoke(paywave, ["quality", "anomalies", "--hour", "2026-01-01T00:30Z"])
    assert refused.exit_code == 2
