"""The command line as people meet it: what a wrong step is answered with, and the demo from end to end.

Belongs here: exit codes, what stdout and stderr carry. Does not: what the rooms behind it do.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.context import topic_of
from config.settings import Settings, load_settings
from local.stack import down, up
from streaming.errors import SendError
from streaming.message import message_of
from streaming.producer import send
from streaming.topics import ensure_topics
from tests.commands import Done, paywave
from tests.pipeline import Pipeline
from tests.stacks import kill, quick_home
from tests.streams import dirty

pytestmark = pytest.mark.integration

JAVA = ("\n\tat ", "at org.apache.", "java.lang.", "Caused by:")
COUNTS = ("raw", "redelivered", "versions", "superseded", "events", "duplicates", "payments", "quarantined")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of these tests' own, with nothing in it; its servers may be killed."""
    path = quick_home(tmp_path_factory.mktemp("home"))
    try:
        yield path
    finally:
        down(load_settings(home=path))


def assert_refused(done: Done, code: int, *said: str) -> None:
    """It says what happened and what to do next, and keeps stdout and Java to itself."""
    assert done.code == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not [mark for mark in JAVA if mark in done.stderr], done.stderr
    for text in said:
        assert text in done.stderr
    if code == 1:
        assert "\nnext:  " in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["stream", "raw", "--twice"],
        ["stream", "silver"],
        ["events", "generate"],
        ["events", "generate", "--count", "ten"],
        ["events", "generate", "--count", "10", "--duplicates", "2"],
        ["events", "send"],
        ["events", "send", "x.jsonl", "--rate", "0"],
        ["demo", "--events", "-1"],
        ["up", "--brokers", "2"],
        ["query"],
        ["query", "SELECT 1", "--output", "yaml"],
        ["query", "SELECT 1", "--as-of", "yesterday"],
        ["query", "SELECT 1", "--snapshot", "curated.payments"],
        ["query", "SELECT 1", "--snapshot", "curated.payments=1", "--tag", "progress"],
        ["query", "SELECT 1", "--consistent", "--tag", "progress"],
        ["changes", "--hour", "2026-11-20T12:30:00Z"],
        ["replay", "verify"],
        ["replay", "apply", "--all", "--raw-snapshot", "1"],
        ["replay", "verify", "--partition", "2026-11-20T12/9"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(tmp_path: Path, arguments: list[str]) -> None:
    done = paywave(*arguments, PAYWAVE_HOME=str(tmp_path))
    assert_refused(done, 2)
    assert done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["stream", "raw", "--once"], ["stream", "curated", "--once"], ["query", "SELECT 1"]],
    ids=" ".join,
)
def test_without_a_stack_a_command_says_so(tmp_path: Path, arguments: list[str]) -> None:
    done = paywave(*arguments, "--output", "json", PAYWAVE_HOME=str(tmp_path))
    assert_refused(done, 1, "is not running", "paywave up")


def test_a_missing_setting_names_every_place(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"{}\n")
    done = paywave("events", "send", str(events), PAYWAVE_HOME=str(tmp_path))
    places = ("environment", str(tmp_path / "paywave.toml"), "embedded stack", "config/profiles/local.toml")
    assert_refused(done, 1, "kafka.bootstrap_servers is missing", *places, "PAYWAVE_KAFKA__BOOTSTRAP_SERVERS")


def test_a_wrong_setting_names_where_it_came_from(tmp_path: Path) -> None:
    home = {"PAYWAVE_HOME": str(tmp_path)}
    done = paywave("status", PAYWAVE_KAFKA__PARTITIONS="many", **home)
    assert_refused(done, 1, "kafka.partitions is wrong", "it came from: environment")
    (tmp_path / "paywave.toml").write_text('[s3]\nsecret_key = ["hush-hush"]\n')
    done = paywave("status", **home)
    assert_refused(done, 1, "s3.secret_key is wrong", str(tmp_path / "paywave.toml"))
    assert "hush-hush" not in done.stderr
    assert_refused(paywave("status", PAYWAVE_PROFILE="moon", **home), 1, "'moon'", "local, aws")


def test_files_that_cannot_be_sent(pipeline: Pipeline, tmp_path: Path) -> None:
    unknown = tmp_path / "unknown.csv"
    unknown.write_text("when,what\n2026-01-01,a\n")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('name = "half"\n')
    cases: list[tuple[list[str], str]] = [
        ([str(tmp_path / "absent.jsonl")], "No such file"),
        ([str(tmp_path)], "directory"),
        ([str(unknown)], "no profile fits"),
        ([str(unknown), "--profile", "card-transactions"], "TX_AMOUNT"),
        ([str(unknown), "--profile", "nobody"], "nobody"),
        ([str(unknown), "--profile", str(wrong)], "wrong.toml"),
    ]
    for arguments, said in cases:
        done = paywave("events", "send", *arguments, "--output", "json", **pipeline.environment())
        assert_refused(done, 1, said)
    done = paywave("demo", "--input", str(tmp_path / "absent.jsonl"), **pipeline.environment())
    assert_refused(done, 1, "absent.jsonl")


@pytest.mark.slow
def test_sending_and_both_jobs_give_one_json_object_each(pipeline: Pipeline, tmp_path: Path) -> None:
    environment, file, wanted = pipeline.environment(), tmp_path / "events.jsonl", tmp_path / "wanted.json"
    generated = paywave(
        "events", "generate", "--count", "300", "--seed", "6", "--preset", "demo", "--malformed", "0.05",
        "--span", "1h", "--expect", str(wanted), **environment,
    )  # fmt: skip
    assert generated.code == 0, generated.stderr
    file.write_text(generated.stdout, encoding="utf-8", errors="surrogateescape")
    sent = paywave("events", "send", str(file), "--output", "json", **environment)
    assert (sent.code, sent.json["sent"], sent.json["failed"], sent.json["format"]) == (0, 300, 0, "jsonl")
    for job in ("raw", "curated"):
        done = paywave("stream", job, "--once", "--output", "json", **environment)
        assert (done.code, done.json) == (0, {"records": 300}), done.stderr
        assert not [mark for mark in (*JAVA, "Traceback") if mark in done.stderr]
    stock, expected = pipeline.stock().as_json(), json.loads(wanted.read_text())
    assert {name: stock[name] for name in COUNTS[1:]} == {name: expected[name] for name in COUNTS[1:]}
    assert stock["conserved"]
    assert stock["readers"]["pyiceberg"]["amount"] == expected["amount"]


def test_a_topic_that_is_gone_is_told_in_words(pipeline: Pipeline) -> None:
    environment = pipeline.environment() | {"PAYWAVE_KAFKA__TOPIC": "never-created"}
    done = paywave("stream", "raw", "--once", "--output", "json", **environment)
    assert_refused(done, 1, "never-created")


def test_the_demo_is_exact_through_the_front_door(home: Path) -> None:
    said = demo(home, "--front-door", sent=2000 + 511)  # a file of 500 rows, 10 charged back, one broken
    assert said["raw"] == 2511
    secret = load_settings(home=home).catalog_properties()["s3.secret-access-key"]
    assert not [path for path in (home / "logs").iterdir() if secret in path.read_text(errors="replace")]


@pytest.mark.slow
def test_the_demo_is_exact_again_on_what_the_first_one_left(home: Path) -> None:
    first = demo(home)
    second = demo(home, "--front-door", sent=2000 + 511)
    assert second["raw"] == first["raw"] + 2511
    assert second["payments"] > first["payments"]


def demo(home: Path, *options: str, sent: int = 2000) -> dict[str, Any]:
    """One run of the demo, checked by itself; returns what it says."""
    done = paywave("demo", *options, "--output", "json", "--events", "2000", PAYWAVE_HOME=str(home))
    assert done.code == 0, done.stderr
    assert not [mark for mark in (*JAVA, "Traceback") if mark in done.stderr]
    said = done.json
    assert load_settings(home=home).catalog_properties()["s3.secret-access-key"] not in str(done)
    assert said["sent"] == sent
    assert said["conserved"] is True
    assert said["as_expected"] is True
    assert said["raw"] == said["redelivered"] + said["versions"] + said["quarantined"]
    assert said["versions"] == said["superseded"] + said["events"]
    assert said["events"] == said["duplicates"] + said["payments"]
    assert said["readers"]["duckdb"] == said["readers"]["pyiceberg"]
    assert said["readers"]["duckdb"]["payments"] == said["payments"]
    assert said["seconds"] > 0
    return said


def test_a_send_that_loses_kafka_ends_and_says_how_many_are_safe(home: Path) -> None:
    settings = _started(home)
    topic, kafka = settings.kafka.topic, settings.kafka_properties()
    messages = [message_of(line, "bank") for line in dirty(5000, 3).lines()]
    is_killed = threading.Event()

    def kill_in_between(acknowledged: int) -> None:
        if acknowledged > 100 and not is_killed.is_set():
            is_killed.set()
            kill(settings, "kafka-1")

    with pytest.raises(SendError, match="lost Kafka") as lost:
        send(messages, topic, kafka, rate=500, on_sent=kill_in_between, delivery_seconds=5)
    assert 100 < lost.value.acknowledged < len(messages)
    assert f"{lost.value.acknowledged:,} acknowledged" in str(lost.value)


def test_without_kafka_commands_end_and_say_so(home: Path, tmp_path: Path) -> None:
    settings = _started(home)
    kill(settings, "kafka-1")
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"{}\n")
    done = paywave("events", "send", str(events), "--output", "json", PAYWAVE_HOME=str(home))
    assert_refused(done, 1, "no Kafka at", "nothing was sent")
    done = paywave("stream", "raw", "--once", PAYWAVE_HOME=str(home))
    assert_refused(done, 1, "not running: kafka-1")


def _started(home: Path) -> Settings:
    up(load_settings(home=home))
    settings = load_settings(home=home)
    ensure_topics(settings.kafka_properties(), topic_of(settings))
    return settings
