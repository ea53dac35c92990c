"""What tests do to a stack from outside: write and read each server's data, kill a server."""

from __future__ import annotations

import os
import signal
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from pyarrow.fs import FileSystem, S3FileSystem
from pyiceberg.catalog import load_catalog

from config.settings import Settings
from local.stack import find

TOPIC = "survivors"
# Short jobs on few records: the time goes into starting, and into compiling what then runs once. With the
# quick compiler alone Java keeps 48 MB of code, and a session that lives for all tests swept it all the time.
_QUICK = """
[streaming]
trigger_s = 1

[spark.conf]
"spark.driver.extraJavaOptions" = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=240m"
"""


def quick_home(home: Path) -> Path:
    """Prepare a home whose jobs are set for tests; returns it."""
    (home / "paywave.toml").write_text(_QUICK)
    return home


@dataclass(frozen=True)
class Traces:
    """What was acknowledged by each server, to be looked for later."""

    record: bytes
    path: str
    namespace: str


def leave_traces(settings: Settings) -> Traces:
    """Have each server acknowledge something."""
    mark = uuid.uuid4().hex
    produce(settings, mark.encode())
    path = f"warehouse/traces/{mark}"
    with object_store(settings).open_output_stream(path) as stream:
        stream.write(mark.encode())
    load_catalog("lake", **settings.catalog_properties()).create_namespace(f"n{mark}")
    return Traces(mark.encode(), path, f"n{mark}")


def assert_there(settings: Settings, traces: Traces) -> None:
    """Everything that was acknowledged is still there."""
    assert traces.record in consume(settings)
    with object_store(settings).open_input_stream(traces.path) as stream:
        assert stream.read() == traces.record
    namespaces = load_catalog("lake", **settings.catalog_properties()).list_namespaces()
    assert (traces.namespace,) in namespaces


def object_store(settings: Settings) -> FileSystem:
    """The object store, with the stack's keys."""
    assert settings.s3.access_key
    assert settings.s3.secret_key
    return S3FileSystem(
        endpoint_override=settings.s3.endpoint,
        access_key=settings.s3.access_key.get_secret_value(),
        secret_key=settings.s3.secret_key.get_secret_value(),
        region=settings.s3.region,
    )


def produce(settings: Settings, record: bytes) -> None:
    """Send one record and wait for the acknowledgement of all in-sync replicas."""
    failures: list[object] = []
    producer = Producer({**settings.kafka_properties(), "acks": "all"})
    producer.produce(TOPIC, record, on_delivery=lambda error, _: failures.append(error) if error else None)
    assert producer.flush(60) == 0
    assert not failures


def consume(settings: Settings) -> list[bytes]:
    """Every record of the test's topic."""
    consumer = Consumer({**settings.kafka_properties(), "group.id": uuid.uuid4().hex})
    _, end = consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=30)
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    found: list[bytes] = []
    while len(found) < end:
        message = consumer.poll(30)
        assert message is not None
        found.append(message.value())
    consumer.close()
    return found


def kill(settings: Settings, name: str) -> None:
    """SIGKILL a server and return when it is gone."""
    running = find(settings.home, name)
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)
    while running.alive:
        time.sleep(0.02)
