"""Records of files on their way to Kafka, and those that are there already.

Belongs here: the producer with its offsets, and looking up what a kill left. Does not: files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from time import monotonic
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from streaming.dropzone.rows import FILE_DIGEST, LINE
from streaming.errors import SendError
from streaming.kafka_client import LIBRDKAFKA_LOG, producer_config
from streaming.message import Message
from streaming.topic_state import TopicState
from streaming.topic_tail import place_of, read_on
from streaming.trace import trace_headers

_DEFAULTS: Mapping[str, str] = {
    "client.id": "paywave-dropzone",
    "linger.ms": "20",
    # Bounds the memory: a full queue makes the reading wait.
    "queue.buffering.max.kbytes": "32768",
    "message.max.bytes": "1048576",
}
# No record is given up for being late: it may stand in the leader's log all the same, and whoever sent it
# again by another producer would double it. This one asks until it is told.
_PATIENT: Mapping[str, str] = {"delivery.timeout.ms": "0"}
_POLL_S = 0.2
OnStored = Callable[[int, int], None]
OnWait = Callable[[float], None]


class Stored(NamedTuple):
    """Where a record of a file stands, and whether it is an event, or a row that was rejected."""

    partition: int
    offset: int
    is_event: bool


class Outbox:
    """An idempotent producer with acks=all that waits for Kafka as long as it takes.

    `on_stored` is told partition and offset of each record. `on_wait` is called several times a second while
    Kafka is waited for, with the seconds since it last acknowledged any: what it raises ends the wait.
    """

    def __init__(self, topic: str, kafka: Mapping[str, str], on_stored: OnStored, on_wait: OnWait) -> None:
        self._producer = Producer(producer_config(_DEFAULTS, kafka, _PATIENT), logger=LIBRDKAFKA_LOG)
        self._topic = topic
        self._on_stored = on_stored
        self._on_wait = on_wait
        self._moved = monotonic()
        self._trace = trace_headers()
        self._failure: KafkaError | None = None

    def put(self, message: Message) -> None:
        """Hand a record over, waiting while the queue is full. Raises SendError once Kafka refused any."""
        self._moved = monotonic()
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    message.value,
                    message.key,
                    headers=[*message.headers, *self._trace],
                    on_delivery=self._settle,
                )
                break
            except BufferError:
                self._producer.poll(_POLL_S)
                self._wait()
            except KafkaException as error:
                self._failure = error.args[0]
                self._check()
        self._producer.poll(0)
        self._check()

    def flush(self) -> None:
        """Wait until every record is acknowledged by all in-sync replicas. Raises SendError otherwise."""
        self._moved = monotonic()
        while self._producer.flush(_POLL_S):
            self._wait()
        self._check()

    def give_up(self) -> None:
        """Drop what is on its way. What was sent may still come to stand in Kafka."""
        self._producer.purge()
        self._producer.flush(1)

    def _settle(self, error: KafkaError | None, message: Delivered) -> None:
        if error is not None:
            self._failure = self._failure or error
            return
        self._moved = monotonic()
        self._on_stored(*place_of(message))

    def _wait(self) -> None:
        self._check()
        self._on_wait(monotonic() - self._moved)

    def _check(self) -> None:
        if self._failure is not None:
            raise SendError(
                f"Kafka did not take a record for {self._topic}: {self._failure.str()}",
                "see whether Kafka runs: `paywave status`; the file is gone on with, nothing is lost",
            )


def records_of(
    kafka: Mapping[str, str], state: TopicState, digest: str, look_from: Mapping[int, int]
) -> dict[int, list[Stored]]:
    """Find the records of a file's content in the topic, by line.

    `look_from` says where to begin in each partition; one that it does not name is read from its earliest.
    Raises SendError if Kafka stops answering.
    """
    found: dict[int, list[Stored]] = defaultdict(list)
    for record in read_on(kafka, state, look_from):
        headers = dict(record.headers() or ())
        if headers.get(FILE_DIGEST) == digest.encode():
            stored = Stored(*place_of(record), is_event="ce_id" in headers)
            found[int(headers[LINE] or b"0")].append(stored)
    return found
