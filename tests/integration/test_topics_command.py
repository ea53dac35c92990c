"""`paywave topics` against the real broker, and who refuses a topic that could lose records."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka.admin import AdminClient

from cli.main import paywave
from config.settings import Settings
from streaming.errors import WeakTopic
from streaming.topic_plan import Topic
from streaming.topics import describe, ensure_topics, payments_topic, require_durable
from tests.pipeline import Pipeline

pytestmark = pytest.mark.integration


@pytest.fixture
def topic(stack: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a topic that does not exist yet, for which the commands are set."""
    name = f"code-{uuid.uuid4()}"
    monkeypatch.setenv("PAYWAVE_HOME", str(stack.home))
    monkeypatch.setenv("PAYWAVE_KAFKA__TOPIC", name)
    return name


def run(*arguments: str) -> tuple[Result, Any]:
    result = CliRunner().invoke(paywave, [*arguments, "--output", "json"])
    return result, json.loads(result.stdout) if result.stdout else None


def in_production(patch: pytest.MonkeyPatch, home: Path, stack: Settings, **more: str) -> None:
    """Point the profile `aws` at the embedded servers."""
    settings = {
        "PROFILE": "aws",
        "HOME": str(home),
        "KAFKA__BOOTSTRAP_SERVERS": str(stack.need("kafka", "bootstrap_servers")),
        "KAFKA__SECURITY": "plaintext",
        "CATALOG__URI": str(stack.need("catalog", "uri")),
        "CATALOG__WAREHOUSE": "s3://warehouse",
    }
    for name, value in (settings | more).items():
        patch.setenv(f"PAYWAVE_{name}", value)


def look(stack: Settings, name: str) -> Topic | None:
    return describe(AdminClient({**stack.kafka_properties(), "log_level": 0}), name)


def test_a_plan_is_shown_and_carried_out(stack: Settings, topic: str) -> None:
    result, shown = run("topics", "plan")
    assert (result.exit_code, [c["action"] for c in shown["changes"]]) == (1, ["create"])
    result, shown = run("topics", "apply", "--dry-run")
    assert (result.exit_code, shown["applied"], look(stack, topic)) == (0, False, None)

    ensure_topics(stack.kafka_properties(), Topic(topic, 2, 1, {"compression.type": "lz4"}))
    result, shown = run("topics", "plan")
    assert [c["action"] for c in shown["changes"]] == ["grow", "configure"]
    assert "compression.type lz4 -> zstd" in shown["changes"][1]["what"]

    result, shown = run("topics", "apply")
    assert (result.exit_code, shown["applied"]) == (0, True)
    found = look(stack, topic)
    assert found is not None
    assert (found.partitions, found.config["compression.type"]) == (stack.kafka.partitions, "zstd")
    result, shown = run("topics", "plan")
    assert (result.exit_code, shown["changes"]) == (0, [])


def test_a_topic_is_never_shrunk(stack: Settings, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run("topics", "apply")
    monkeypatch.setenv("PAYWAVE_KAFKA__PARTITIONS", "1")
    for arguments in (["topics", "apply"], ["topics", "apply", "--dry-run"]):
        result, _ = run(*arguments)
        assert result.exit_code == 1
        assert "partitions is 4, the settings say 1" in str(result.exception)
    found = look(stack, topic)
    assert found is not None
    assert found.partitions == 4


def test_production_refuses_a_topic_that_could_lose_records(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kafka = pipeline.settings.kafka_properties()
    ensure_topics(kafka, payments_topic(pipeline.topic, 4, 1, 1, 7))
    with pytest.raises(
        WeakTopic, match=r"replication factor is 1(.|\n)*min.insync.replicas is 1(.|\n)*retention"
    ):
        require_durable(kafka, pipeline.topic)

    in_production(monkeypatch, tmp_path, pipeline.settings, KAFKA__TOPIC=pipeline.topic)
    lines = tmp_path / "events.jsonl"
    lines.write_bytes(b"{}\n")
    result, _ = run("events", "send", str(lines))
    assert isinstance(result.exception, WeakTopic)
    job = pipeline.raw_job(needs_durable=True)
    with pytest.raises(WeakTopic):
        job.run(once=True)


def test_production_refuses_settings_that_ask_for_such_a_topic(
    stack: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_production(monkeypatch, tmp_path, stack, KAFKA__MIN_INSYNC_REPLICAS="1")
    result, _ = run("topics", "apply")
    assert isinstance(result.exception, WeakTopic)
    assert "min.insync.replicas is 1" in str(result.exception)
