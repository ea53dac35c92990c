"""The embedded stack as people meet it: real servers, killed and started again, side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.errors import MissingSetting
from config.settings import Settings, load_settings
from local.doctor import examine
from local.errors import StackDown, StackError
from local.stack import down, find, require_up, status, up
from local.state import remembered_ports
from streaming.client import EventProducer, Failure
from streaming.errors import WeakTopic
from streaming.topic_plan import Topic
from streaming.topics import ensure_topics, payments_topic, require_durable
from tests.events import wire_now
from tests.stacks import TOPIC, assert_there, consume, kill, leave_traces, produce

pytestmark = pytest.mark.integration

SERVERS = ("kafka-1", "s3", "catalog")
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1 as /proc writes it, in v4 and v6


def start(home: Path, brokers: int = 1, **ports: int) -> Settings:
    up(load_settings(home=home, stack=ports), brokers)
    settings = load_settings(home=home)
    kafka = settings.kafka
    config = {"min.insync.replicas": str(kafka.min_insync_replicas)}
    ensure_topics(settings.kafka_properties(), Topic(TOPIC, 1, kafka.replication_factor, config))
    return settings


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose stack the tests of this file may kill; its path has a blank, as people's do."""
    path = tmp_path_factory.mktemp("a home")
    try:
        yield path
    finally:
        down(load_settings(home=path))


def test_up_twice_changes_nothing(home: Path) -> None:
    settings = start(home)
    before = [find(home, name) for name in SERVERS]
    assert up(settings).started == ()
    assert [find(home, name) for name in SERVERS] == before
    assert all(service.state == "running" and service.memory_bytes for service in status(settings))


def test_nothing_listens_beyond_the_loopback(home: Path) -> None:
    start(home)
    for name in SERVERS:
        running = find(home, name)
        assert running is not None
        listening = running.listens_on()
        assert listening
        assert {address for address, _ in listening} <= LOOPBACK


def test_data_survives_down_and_up(home: Path) -> None:
    settings = start(home)
    traces = leave_traces(settings)
    assert set(down(settings)) == set(SERVERS)
    assert down(settings) == ()
    assert_there(start(home), traces)


@pytest.mark.parametrize("name", SERVERS)
def test_a_killed_server_comes_back_alone_with_its_data(home: Path, name: str) -> None:
    settings = start(home)
    traces = leave_traces(settings)
    kill(settings, name)
    with pytest.raises(StackDown, match=name):
        require_up(settings)
    assert up(settings).started == (name,)
    assert_there(load_settings(home=home), traces)


def test_a_service_gets_back_what_a_stopped_broker_did_not_acknowledge(home: Path) -> None:
    settings = start(home)
    failures: list[Failure] = []
    told = {"source": "ledger", "topic": TOPIC, "on_failure": failures.append, "delivery_seconds": 10}
    kafka = settings.kafka_properties()
    with pytest.raises(WeakTopic, match="replication factor is 1"):
        EventProducer(kafka, **told)
    with EventProducer(kafka, **told, needs_durable=False) as events:
        kept = {events.send(wire_now(f"k{n}")) for n in range(50)}
        assert events.flush(30) == 0
        kill(settings, "kafka-1")
        lost = {events.send(wire_now(f"l{n}")) for n in range(50)}
    assert {failure.event_id for failure in failures} == lost
    assert up(settings).started == ("kafka-1",)
    patient = {**told, "delivery_seconds": 60}  # the broker may take its time to be whole again
    with EventProducer(load_settings(home=home).kafka_properties(), **patient, needs_durable=False) as events:
        for failure in tuple(failures):
            events.send(failure.value)
        assert events.flush(60) == 0
    ids = [json.loads(record).get("event_id") for record in consume(settings) if record.startswith(b"{")]
    assert kept | lost <= set(ids)


def test_a_server_without_its_pid_file_is_recognised(home: Path) -> None:
    settings = start(home)
    (home / "run" / "catalog.pid").unlink()
    assert up(settings).started == ()


def test_a_stopped_stack_is_not_mistaken_for_one_that_took_its_ports(home: Path, tmp_path: Path) -> None:
    first = start(home)
    down(first)
    ports = remembered_ports(home)
    try:
        second = start(tmp_path, kafka_port=ports["kafka-1"], catalog_port=ports["catalog"])
        assert second.catalog.uri == first.catalog.uri
        with pytest.raises(MissingSetting, match="stopped"):
            load_settings(home=home).catalog_properties()
        third = start(home)
        assert third.catalog.uri != second.catalog.uri
        traces = leave_traces(second)
        assert_there(second, traces)
        assert traces.record not in consume(third)
    finally:
        down(load_settings(home=tmp_path))
    assert all(service.state == "running" for service in status(third))


def test_unsigned_requests_are_refused(home: Path) -> None:
    settings = start(home)
    traces = leave_traces(settings)
    for path in ("warehouse", traces.path):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{settings.s3.endpoint}/{path}")


def test_secrets_stay_out_of_logs_command_lines_and_other_hands(home: Path) -> None:
    settings = start(home)
    secret = settings.catalog_properties()["s3.secret-access-key"]
    assert secret not in repr(settings)
    for name in SERVERS:
        running = find(home, name)
        assert running is not None
        assert secret.encode() not in Path(f"/proc/{running.pid}/cmdline").read_bytes()
    holders = [
        path for path in home.rglob("*") if path.is_file() and secret in path.read_text(errors="replace")
    ]
    assert holders
    assert all(path.stat().st_mode & 0o077 == 0 and path.parent.name == "run" for path in holders)


def test_the_doctor_finds_a_well_stack_well_and_a_killed_server(home: Path) -> None:
    settings = start(home)
    assert [check for check in examine(settings) if not check.ok] == []
    kill(settings, "s3")
    (finding,) = [check for check in examine(settings) if not check.ok]
    assert (finding.name, finding.hint) == ("s3", "run `paywave up`")


def test_two_ups_at_once_start_one_stack(tmp_path: Path) -> None:
    environment = {**os.environ, "PAYWAVE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", "from cli.main import main; main()", "up", "--output", "json"]
    try:
        ups = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(2)]
        answers = [json.loads(one.communicate(timeout=200)[0]) for one in ups]
        assert [one.returncode for one in ups] == [0, 0]
        assert sorted(len(answer["started"]) for answer in answers) == [0, 3]
        assert answers[0]["kafka"] == answers[1]["kafka"]
    finally:
        down(load_settings(home=tmp_path))


@pytest.mark.slow
def test_three_brokers_acknowledge_while_one_is_dead(tmp_path: Path) -> None:
    try:
        settings = start(tmp_path, brokers=3)
        assert (settings.kafka.replication_factor, settings.kafka.min_insync_replicas) == (3, 2)
        ensure_topics(settings.kafka_properties(), payments_topic("production", 4, 3, 2, 30))
        require_durable(settings.kafka_properties(), "production")
        produce(settings, b"before")
        kill(settings, "kafka-2")
        produce(settings, b"without")
        assert up(settings).started == ("kafka-2",)
        assert consume(load_settings(home=tmp_path)) == [b"before", b"without"]
        with pytest.raises(StackError, match="cluster of 3"):
            up(settings, brokers=1)
    finally:
        down(load_settings(home=tmp_path))
