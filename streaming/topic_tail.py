"""Reading a topic once, from given offsets to where it ended when it was looked at.

Belongs here: that reading. Does not: what is looked for in the records.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka import Message as Record

from streaming.errors import SendError
from streaming.kafka_client import LIBRDKAFKA_LOG, connection
from streaming.topic_state import TopicState

_ANSWER_S = 20.0
_POLL_S = 0.2
_READER: Mapping[str, str] = {
    "group.id": "paywave-tail",
    "enable.auto.commit": "false",
    # Others' transactions keep nobody waiting: neither one that hangs, nor a marker in a record's place.
    "isolation.level": "read_uncommitted",
    "enable.partition.eof": "true",
    # What retention takes away meanwhile is gone; what comes after it is read.
    "auto.offset.reset": "earliest",
}


def read_on(kafka: Mapping[str, str], state: TopicState, start: Mapping[int, int]) -> Iterator[Record]:
    """Read every record from `start` up to the ends that `state` tells.

    A partition that `start` does not name is read from its earliest record, and so is one that no longer has
    so old a record. Raises SendError if Kafka stops answering.
    """
    starts = {p: max(start.get(p, 0), earliest) for p, earliest in state.earliest.items()}
    ends = {p: end for p, end in state.latest.items() if end > starts[p]}
    consumer = Consumer({**connection(kafka), **_READER}, logger=LIBRDKAFKA_LOG)
    try:
        consumer.assign([TopicPartition(state.topic, p, starts[p]) for p in ends])
        answered = time.monotonic()
        while ends:
            batch = consumer.consume(1000, _POLL_S)  # waits for so many, or this long
            if batch:
                answered = time.monotonic()
            elif time.monotonic() - answered > _ANSWER_S:
                raise SendError(
                    f"Kafka does not give back what {state.topic} holds",
                    "see whether it runs: `paywave status`; then do the same again, nothing is lost",
                )
            for record in batch:
                if record.error() is None and _is_before(record, ends):
                    yield record
                _note_end(record, ends)
    finally:
        consumer.close()


def _is_before(record: Record, ends: Mapping[int, int]) -> bool:
    partition, offset = place_of(record)
    return offset < ends.get(partition, 0)


def _note_end(record: Record, ends: dict[int, int]) -> None:
    """Take a partition off `ends` once everything before its end was read."""
    error = record.error()
    if error is not None and error.code() != KafkaError._PARTITION_EOF:
        return
    partition, offset = place_of(record)
    following = offset + 1 if error is None else offset
    if following >= ends.get(partition, 0):
        ends.pop(partition, None)


def place_of(record: Record) -> tuple[int, int]:
    """Return a record's partition and offset, which one that was read always has."""
    partition, offset = record.partition(), record.offset()
    assert partition is not None
    assert offset is not None
    return partition, offset
