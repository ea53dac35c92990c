"""The gateway before three brokers, of which one is killed under load, then a second (faults 13 and 14)."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from cli.context import topic_of
from config.settings import Settings, load_settings
from local.stack import down, up
from streaming.topics import ensure_topics
from tests.events import wire_now
from tests.gateways import GatewayProcess
from tests.stacks import kill

pytestmark = [
    pytest.mark.faults,
    pytest.mark.integration,
    pytest.mark.long,
]

CALLERS = 4


class Callers:
    """Callers that post batches until they are told to end, and note what they were answered."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._ended = threading.Event()
        self.acknowledged: set[str] = set()
        self.statuses: list[int] = []

    def call(self, _number: int) -> None:
        client = self._gateway.new_client()
        while not self._ended.is_set():
            events = [wire_now(uuid.uuid4().hex) for _ in range(10)]
            told = client.post(b"[" + b",".join(events) + b"]")
            self.statuses.append(told.status)
            if told.status == 202:
                self.acknowledged.update(result["event_id"] for result in told.json["results"])
            else:
                time.sleep(0.1)

    def end(self) -> None:
        self._ended.set()

    def wait_for(self, status: int, count: int = 20) -> None:
        """Wait until so many more requests were answered so."""
        start, deadline = len(self.statuses), time.monotonic() + 120
        while self.statuses[start:].count(status) < count:
            assert time.monotonic() < deadline, self.statuses[start:][-20:]
            time.sleep(0.05)


def test_no_acknowledged_event_is_lost_with_one_or_two_brokers_killed(tmp_path: Path) -> None:
    try:
        up(load_settings(home=tmp_path), 3)
        settings = load_settings(home=tmp_path)
        ensure_topics(settings.kafka_properties(), topic_of(settings))
        gateway = GatewayProcess(tmp_path, settings.kafka_properties(), gateway__delivery_timeout_s="5")
        callers = Callers(gateway)
        try:
            with ThreadPoolExecutor(CALLERS) as pool:
                done = [pool.submit(callers.call, number) for number in range(CALLERS)]
                try:
                    callers.wait_for(202)
                    kill(settings, "kafka-3")
                    callers.wait_for(202)
                    kill(settings, "kafka-2")
                    callers.wait_for(503)
                    up(settings)
                    callers.wait_for(202)
                finally:
                    callers.end()
                for one in done:
                    one.result()
            assert set(callers.statuses) == {202, 503}
            assert callers.acknowledged <= _ids(settings)
        finally:
            gateway.end()
    finally:
        down(load_settings(home=tmp_path))


def _ids(settings: Settings) -> set[str]:
    topic, partitions = settings.kafka.topic, settings.kafka.partitions
    consumer = Consumer({**settings.kafka_properties(), "group.id": uuid.uuid4().hex})
    places = [TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)]
    ends = sum(consumer.get_watermark_offsets(place, timeout=60)[1] for place in places)
    consumer.assign(places)
    found: set[str] = set()
    count = 0
    while count < ends:
        batch = consumer.consume(min(10_000, ends - count), timeout=60)
        assert batch
        count += len(batch)
        found |= {dict(m.headers() or [])["ce_id"].decode() for m in batch}
    consumer.close()
    return found
