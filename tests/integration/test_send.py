"""Sending to the real broker: the same bytes come back, one partition per account, by the broker's clock."""

from __future__ import annotations

import uuid
from collections import defaultdict
from random import Random

import pytest
from confluent_kafka import OFFSET_BEGINNING, TIMESTAMP_LOG_APPEND_TIME, Consumer, Message, TopicPartition

from config.settings import Settings
from streaming.client import EventProducer, Failure
from streaming.errors import SendError
from streaming.message import message_of
from streaming.producer import send
from streaming.simulate import Mix, Plan
from streaming.topics import ensure_topics, payments_topic
from tests.events import wire_now
from tests.streams import steady

pytestmark = pytest.mark.integration

PARTITIONS = 4
DIRTY = Mix(duplicates=0.1, late=0.1, corrections=0.05, reversals=0.05, malformed=0.1)


@pytest.fixture
def topic(stack: Settings) -> str:
    """A topic of this test's own, so that it disturbs no job."""
    name = f"send-{uuid.uuid4()}"
    ensure_topics(stack.kafka_properties(), payments_topic(name, PARTITIONS, 1, 1, 1))
    return name


def consume(stack: Settings, topic: str, count: int) -> list[Message]:
    consumer = Consumer({**stack.kafka_properties(), "group.id": topic, "enable.auto.commit": "false"})
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
    found: list[Message] = []
    try:
        while len(found) < count:
            batch = consumer.consume(count - len(found), timeout=20)
            assert batch, f"{len(found)} of {count} came back"
            found += batch
    finally:
        consumer.close()
    return found


def test_what_is_sent_comes_back_byte_by_byte(stack: Settings, topic: str) -> None:
    lines = list(steady(Plan.recent(3000, 17, DIRTY)).lines())
    lines += [b"", b"\x00\xff", b" \r", b"x" * 200_000]
    report = send((message_of(line, "bank") for line in lines), topic, stack.kafka_properties())
    assert (report.acknowledged, report.failed) == (len(lines), 0)

    found = consume(stack, topic, len(lines))
    assert sorted(m.value() or b"" for m in found) == sorted(lines)
    assert all(m.value() is not None for m in found)
    assert all(("ce_source", b"bank") in (m.headers() or []) for m in found)
    assert all(m.timestamp()[0] == TIMESTAMP_LOG_APPEND_TIME for m in found)


def test_an_accounts_events_keep_their_order_in_one_partition(stack: Settings, topic: str) -> None:
    lines = list(steady(Plan.recent(2000, 18, Mix())).lines())
    messages = [message_of(line, "bank") for line in lines]
    send(messages, topic, stack.kafka_properties())

    sent, came, partitions = defaultdict(list), defaultdict(list), defaultdict(set)
    for message in messages:
        sent[message.key].append(message.value)
    for found in sorted(consume(stack, topic, len(lines)), key=lambda m: (m.partition(), m.offset())):
        came[found.key()].append(found.value())
        partitions[found.key()].add(found.partition())
    assert came == sent
    assert all(len(of_account) == 1 for of_account in partitions.values())


def test_a_record_that_the_topic_refuses_is_counted_and_the_others_arrive(
    stack: Settings, topic: str
) -> None:
    small = [b'{"account_id":"%d"}' % i for i in range(400)]
    # random, since the broker measures what is left after compression; a topic takes a megabyte
    values = [*small[:200], Random(1).randbytes(3_000_000), *small[200:]]
    report = send((message_of(value, "bank") for value in values), topic, stack.kafka_properties())
    assert (report.acknowledged, report.failed) == (400, 1)
    assert "too large" in (report.first_failure or "")
    assert {m.value() for m in consume(stack, topic, 400)} == set(small)


def test_a_missing_topic_is_refused_and_not_created(stack: Settings) -> None:
    name = f"absent-{uuid.uuid4()}"
    for _ in range(2):
        with pytest.raises(SendError, match="has no topic absent-"):
            send([message_of(b"{}", "bank")], name, stack.kafka_properties())


def test_a_service_puts_an_account_where_a_file_does(stack: Settings, topic: str) -> None:
    accounts = [f"acct-{n}" for n in range(30)]
    lines = [wire_now(account, account_id=account) for account in accounts]
    failures: list[Failure] = []
    with EventProducer(
        stack.kafka_properties(),
        source="ledger",
        topic=topic,
        on_failure=failures.append,
        needs_durable=False,
    ) as events:
        for line in lines:
            events.send(line)
    send([message_of(line, "ledger") for line in lines], topic, stack.kafka_properties())

    places, headers = defaultdict(set), defaultdict(set)
    for found in consume(stack, topic, 60):
        places[found.key()].add(found.partition())
        # a send is one span, if anybody traces; a service's context is its own
        headers[found.value()].add(tuple(h for h in found.headers() if h[0] != "traceparent"))
    assert failures == []
    assert {key.decode() for key in places} == set(accounts)
    assert all(len(of_account) == 1 for of_account in places.values())
    assert len({partition for of_account in places.values() for partition in of_account}) > 1
    assert headers.keys() == set(lines)
    assert all(len(of_event) == 1 for of_event in headers.values())
