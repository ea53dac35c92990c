"""Records of files on their way to Kafka, and those that are there already.

Belongs here: the producer with its offsets, and looking up what a kill left. Does not: files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

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
_POLL_S = 0.2
OnStored = Callable[[int, int], None]


class Outbox:
    """An idempotent producer with acks=all; `on_stored` is told partition and offset of each record."""

    def __init__(self, topic: str, kafka: Mapping[str, str], delivery_s: float, on_stored: OnStored) -> None:
        own = {"delivery.timeout.ms": str(int(delivery_s * 1000))}
        self._producer = Producer(producer_config(_DEFAULTS, kafka, own), logger=LIBRDKAFKA_LOG)
        self._topic = topic
        self._on_stored = on_stored
        self._trace = trace_headers()
        self._failure: KafkaError | None = None

    def put(self, message: Message) -> None:
        """Hand a record over, waiting while the queue is full. Raises SendError once Kafka refused any."""
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
                self._check()
            except KafkaException as error:
                self._failure = error.args[0]
                self._check()
        self._producer.poll(0)
        self._check()

    def flush(self) -> None:
        """Wait until every record is acknowledged by all in-sync replicas. Raises SendError otherwise."""
        while self._producer.flush(_POLL_S):
            self._check()
        self._check()

    def give_up(self) -> None:
        """Drop what is on its way, as far as it is not sent yet."""
        self._producer.purge()
        self._producer.flush(1)

    def _settle(self, error: KafkaError | None, message: Delivered) -> None:
        if error is not None:
            self._failure = self._failure or error
            return
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        self._on_stored(partition, offset)

    def _check(self) -> None:
        if self._failure is not None:
            raise SendError(
                f"Kafka did not take a record for {self._topic}: {self._failure.str()}",
                "see whether Kafka runs: `paywave status`; the file is gone on with, nothing is lost",
            )


def records_of(
    kafka: Mapping[str, str], state: TopicState, digest: str, look_from: Mapping[int, int]
) -> dict[int, list[tuple[int, int]]]:
    """Find the records of a file's content in the topic: by line, where each stands (partition, offset).

    `look_from` says where to begin in each partition; one that it does not name is read from its earliest.
    Raises SendError if Kafka stops answering.
    """
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for record in read_on(kafka, state, look_from):
        headers = dict(record.headers() or ())
        if headers.get(FILE_DIGEST) == digest.encode():
            found[int(headers[LINE] or b"0")].append(place_of(record))
    return found
