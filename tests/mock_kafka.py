"""A Kafka broker inside this process, for tests that need no real one: librdkafka's own mock.

It knows no transactions of ours and keeps nothing; what needs a real broker is an integration test.
"""

from __future__ import annotations

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka import Message as Consumed

TOPIC = "payments.events"


class MockKafka:
    """A broker inside this process; it goes away with the producer that owns it."""

    def __init__(self) -> None:
        self._owner: Producer | None = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        brokers = self._owner.list_topics(TOPIC, timeout=10).brokers.values()
        self.properties = {"bootstrap.servers": ",".join(f"{b.host}:{b.port}" for b in brokers)}

    def stop(self) -> None:
        self._owner = None

    def consume(self, count: int) -> list[Consumed]:
        consumer = Consumer({**self.properties, "group.id": "t"})
        consumer.assign([TopicPartition(TOPIC, p, OFFSET_BEGINNING) for p in range(4)])
        found: list[Consumed] = []
        while len(found) < count:
            found += consumer.consume(count - len(found), timeout=20) or pytest.fail(
                f"only {len(found)} came"
            )
        consumer.close()
        return found
