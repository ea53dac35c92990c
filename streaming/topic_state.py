"""What a topic is right now (its UUID, its offsets), and where a reader with some progress may start.

Belongs here: looking at the cluster, and the checks that never skip a record. Does not: creating topics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from lakehouse.offsets import OffsetVector
from streaming.errors import StreamingError
from streaming.kafka_client import LIBRDKAFKA_LOG, connection

ANSWER_SECONDS, BRIEF_SECONDS = 15.0, 5.0
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]


class TopicGone(StreamingError):
    """The topic is not the one that the table has consumed, or lost records that the table has not seen."""


@dataclass(frozen=True)
class TopicState:
    """A topic at one moment: its UUID and, per partition, the earliest kept and the next offset.

    `asked_at` is just before Kafka was asked; `replicas` and `in_sync`: of the partition with fewest.
    """

    topic: str
    topic_id: str
    earliest: Mapping[int, int]
    latest: Mapping[int, int]
    asked_at: datetime
    replicas: int
    in_sync: int


def inspect_topic(
    kafka_properties: Mapping[str, str], topic: str, seconds: float = ANSWER_SECONDS
) -> TopicState:
    """Ask the cluster about a topic. Raises StreamingError where it is missing or Kafka does not answer."""
    asked_at = datetime.now(UTC)
    with _asking(kafka_properties, topic, seconds) as admin:
        described = admin.describe_topics(TopicCollection([topic]), request_timeout=seconds)
        description = described[topic].result(timeout=seconds)
        partitions = [p.id for p in description.partitions]
        earliest = _offsets(admin, topic, partitions, _EARLIEST, seconds)
        latest = _offsets(admin, topic, partitions, _LATEST, seconds)
    replicas = min(len(p.replicas) for p in description.partitions)
    in_sync = min(len(p.isr) for p in description.partitions)
    return TopicState(topic, str(description.topic_id), earliest, latest, asked_at, replicas, in_sync)


def topic_if_it_answers(kafka_properties: Mapping[str, str], topic: str) -> TopicState | None:
    """Ask about a topic, for whoever can do without: None where Kafka does not answer within seconds."""
    try:
        return inspect_topic(kafka_properties, topic, BRIEF_SECONDS)
    except StreamingError:
        return None


def first_offsets_after(
    kafka_properties: Mapping[str, str],
    state: TopicState,
    moment: datetime,
    seconds: float = ANSWER_SECONDS,
) -> dict[int, int | None]:
    """Find the first record of each partition that Kafka took after a moment (to the millisecond).

    Returns partition to offset, None where there is no such record. Raises StreamingError as above.
    """
    spec: OffsetSpec = OffsetSpec.for_timestamp(round(moment.timestamp() * 1000) + 1)
    with _asking(kafka_properties, state.topic, seconds) as admin:
        found = _offsets(admin, state.topic, state.latest, spec, seconds)
    return {partition: offset if offset >= 0 else None for partition, offset in found.items()}


def start_offsets(table: str, progress: OffsetVector, state: TopicState) -> dict[int, int]:
    """Return where a table's writer starts in each partition: just where the table ends.

    Raises `TopicGone`, naming both sides, if the topic was created again, was cut off, or if retention
    deleted records that the table has not seen.
    """
    others = set(progress.topics) - {state.topic_id}
    if others:
        raise TopicGone(
            f"table {table} has consumed topic id {', '.join(sorted(others))}, but topic {state.topic} is "
            f"now {state.topic_id}: it was deleted and created again",
            "write to a new raw table, or bring the old topic back; nothing was written",
        )
    starts = {p: progress.next_offset(state.topic_id, p) for p in state.latest}
    for partition, start in starts.items():
        earliest, latest = state.earliest[partition], state.latest[partition]
        if not earliest <= start <= latest:
            raise TopicGone(
                f"table {table} stands at offset {start} of {state.topic}-{partition} ({state.topic_id}), "
                f"but the topic holds offsets {earliest} to {latest}: records are missing",
                "retention overtook the reader, or the topic lost data; nothing is skipped by itself",
            )
    return starts


@contextmanager
def _asking(kafka_properties: Mapping[str, str], topic: str, seconds: float) -> Iterator[AdminClient]:
    try:
        yield AdminClient(connection(kafka_properties), logger=LIBRDKAFKA_LOG)
    except (KafkaException, TimeoutError) as error:
        raise StreamingError(
            f"Kafka at {kafka_properties.get('bootstrap.servers')} does not tell about topic {topic} "
            f"within {seconds:g} s: {error}",
            "see whether it runs and has the topic: `paywave status`, `paywave up`",
        ) from error


def _offsets(
    admin: AdminClient, topic: str, partitions: Iterable[int], spec: OffsetSpec, seconds: float
) -> dict[int, int]:
    asked = admin.list_offsets({TopicPartition(topic, p): spec for p in partitions}, request_timeout=seconds)
    return {p.partition: future.result(timeout=seconds).offset for p, future in asked.items()}
