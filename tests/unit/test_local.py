"""The parts of the stack that need no server: ports, pid files, state files, the start of a process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from config.settings import load_settings
from local import process, stack, state
from local.errors import JavaMissing, ServiceFailed, StackError
from local.java import find_java, parse_version
from local.ports import can_bind, choose_ports
from local.services.base import Runtime, Service, java_properties, write_private
from local.services.kafka import Broker, server_properties


def free(*ports: int):
    return lambda port: port in ports


@pytest.mark.parametrize(
    ("remembered", "open_ports", "expected"),
    [
        ({}, (1, 2), {"a": 1, "b": 2}),
        ({"a": 7}, (1, 2, 7), {"a": 7, "b": 2}),
        ({"a": 7}, (1, 2), {"a": 1, "b": 2}),
        ({"b": 1}, (1,), {"a": 1, "b": 50}),
        ({}, (), {"a": 50, "b": 51}),
    ],
)
def test_ports(remembered: dict[str, int], open_ports: tuple[int, ...], expected: dict[str, int]) -> None:
    others = iter(range(50, 60))
    chosen = choose_ports(
        {"a": 1, "b": 2}, remembered, is_free=free(*open_ports), any_free=lambda: next(others)
    )
    assert chosen == expected


def test_a_port_in_use_is_not_chosen() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert not can_bind(port)
        assert choose_ports({"a": port}, {})["a"] != port
    assert choose_ports({"a": 1}, {}, taken=frozenset({1}), is_free=free(1), any_free=lambda: 2) == {"a": 2}


def test_a_pid_file_names_this_very_process(tmp_path: Path) -> None:
    me = process.identify(os.getpid())
    assert me is not None
    path = tmp_path / "x.pid"
    path.write_text(json.dumps(asdict(me)))
    assert process.read_pid_file(path) == me


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another boot"}, {"pid": 2**22 - 1}])
def test_a_reused_pid_is_not_taken_for_the_server(tmp_path: Path, change: dict[str, object]) -> None:
    me = process.identify(os.getpid())
    assert me is not None
    path = tmp_path / "x.pid"
    path.write_text(json.dumps({**asdict(me), **change}))
    assert process.read_pid_file(path) is None


@pytest.mark.parametrize("text", ["", "{", "12", '{"pid": 1}', "[]"])
def test_a_broken_pid_file_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.pid").write_text(text)
    assert process.read_pid_file(tmp_path / "x.pid") is None


def test_a_process_is_found_by_its_marks_and_stopped(tmp_path: Path) -> None:
    mark = f"-mark-{tmp_path}"
    command = ["/bin/sh", "-c", 'trap "" TERM; echo started; while :; do sleep 0.1; done', mark]
    started = process.start(command, {}, tmp_path / "logs" / "x.log", tmp_path / "x.pid")
    try:
        assert started.alive
        assert process.find_marked([mark]) == started == process.read_pid_file(tmp_path / "x.pid")
        assert os.getsid(started.pid) == started.pid  # no signal of our terminal reaches it
        assert (tmp_path / "x.pid").stat().st_mode & 0o077 == 0
    finally:
        process.stop(started, timeout_s=0.2)  # it ignores SIGTERM
    assert not started.alive
    assert process.find_marked([mark]) is None


def test_an_ended_child_that_nobody_waited_for_is_not_alive() -> None:
    with subprocess.Popen(["/bin/true"], stdout=subprocess.PIPE) as child:
        child.stdout.read()  # type: ignore[union-attr]
        while process.identify(child.pid):
            pass
        child.wait()


def java(tmp_path: Path, script: str) -> Path:
    path = tmp_path / "bin" / "java"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def service(tmp_path: Path) -> Service:
    return Service("fake", (), ("Main",), "a.jar", tmp_path / "run" / "fake.conf", "x=1", 1, lambda: False)


def ensure(tmp_path: Path, script: str, timeout_s: float = 30) -> None:
    settings = load_settings(home=tmp_path, stack={"start_timeout_s": timeout_s})
    runtime = Runtime(java(tmp_path, script), tmp_path, {})
    (tmp_path / "run" / "tmp").mkdir(parents=True)
    stack._start_all(runtime, [service(tmp_path)], settings, lambda _: None)


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServiceFailed, match="ended before it was ready") as caught:
        ensure(tmp_path, "echo the disk is full >&2; exit 1")
    assert "the disk is full" in str(caught.value)
    assert str(tmp_path / "logs" / "fake.log") in str(caught.value)


def test_a_server_that_hangs_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(ServiceFailed, match="was not ready after"):
        ensure(tmp_path, "echo waiting; exec sleep 60", timeout_s=0.5)
    assert stack.find(tmp_path, "fake") is None


def test_a_lost_race_for_a_port_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(stack._PortTaken):
        ensure(tmp_path, "echo java.net.BindException: Address already in use; exit 1")


def test_only_this_starts_log_is_shown(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "fake.log").write_text("of last week\n")
    with pytest.raises(ServiceFailed) as caught:
        ensure(tmp_path, "exit 1")
    assert "of last week" not in str(caught.value)


def test_a_fingerprint_changes_with_what_the_server_is_told(tmp_path: Path) -> None:
    one = service(tmp_path)
    assert replace(one, conf_text="x=2").fingerprint != one.fingerprint
    assert replace(one, jars="b.jar").fingerprint != one.fingerprint
    assert replace(one, is_ready=lambda: True).fingerprint == one.fingerprint


def test_keys_are_made_once_and_kept_private(tmp_path: Path) -> None:
    first = state.secrets_of(tmp_path)
    assert state.secrets_of(tmp_path) == first
    assert first.secret_key not in repr(first)
    assert (tmp_path / "run" / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert state.secrets_of(tmp_path / "other") != first


def test_a_cluster_keeps_its_number_of_brokers(tmp_path: Path) -> None:
    first = state.cluster_of(tmp_path, 3)
    assert state.cluster_of(tmp_path, None) == first
    with pytest.raises(StackError, match="cluster of 3"):
        state.cluster_of(tmp_path, 1)


def test_a_broken_state_file_is_named(tmp_path: Path) -> None:
    write_private(tmp_path / "run" / "stack.json", "{")
    with pytest.raises(StackError, match=r"stack\.json"):
        state.remembered_ports(tmp_path)


def test_one_broker_keeps_one_copy_and_three_keep_three() -> None:
    brokers = [Broker(node, 10 * node, 10 * node + 1) for node in (1, 2, 3)]
    three = server_properties(brokers[0], brokers, Path("/d"))
    one = server_properties(brokers[0], brokers[:1], Path("/d"))
    assert (three["default.replication.factor"], three["min.insync.replicas"]) == (3, 2)
    assert (one["default.replication.factor"], one["min.insync.replicas"]) == (1, 1)
    assert three["controller.quorum.voters"] == "1@127.0.0.1:11,2@127.0.0.1:21,3@127.0.0.1:31"
    assert three["auto.create.topics.enable"] == three["unclean.leader.election.enable"] == "false"


def test_java_properties_escape_what_java_would_read_as_syntax() -> None:
    assert java_properties({"a": "x\\y", "b": 1}) == "a=x\\\\y\nb=1\n"


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_402"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ('openjdk version "21-ea" 2023-09-19', 21),
        ("nothing", 0),
    ],
)
def test_java_versions(said: str, version: int) -> None:
    assert parse_version(said) == version


def test_an_old_or_absent_java_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    java(tmp_path, "echo 'java version \"11.0.2\"' >&2")
    with pytest.raises(JavaMissing, match="too old") as caught:
        find_java()
    assert "JAVA_HOME" in caught.value.hint
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(JavaMissing, match="no Java"):
        find_java()
