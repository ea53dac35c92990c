"""The gateway's link to Kafka: a batch is handed over, and answered for once all of it is acknowledged.

Belongs here: the producer, its thread, and whether Kafka can be reached. Does not: what is sent, HTTP.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from streaming.gateway.refusal import Refusal
from streaming.kafka_client import LIBRDKAFKA_LOG, producer_config
from streaming.message import Headers, Message

_DEFAULTS: Mapping[str, str] = {
    "client.id": "paywave-gateway",
    # A moment to gather what other requests bring; an answer waits for it.
    "linger.ms": "5",
    # Bounds the memory; a full queue is a 503.
    "queue.buffering.max.kbytes": "65536",
    "message.max.bytes": "1048576",
}
_POLL_S = 0.1
_PROBE_S = 1.0
_RETRY_S = 2.0

_log = structlog.get_logger("paywave.gateway")


class _Delivery:
    """One batch on its way; its callbacks come from the link's thread, all else from the event loop."""

    def __init__(self, on_failure: Callable[[KafkaError], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._on_failure = on_failure
        self._expected = -1
        self._settled = 0
        self.failed = 0

    def settle(self, error: KafkaError | None, _message: Delivered) -> None:
        if error is not None:
            self.failed += 1
            self._on_failure(error)
        self._settled += 1
        if self._settled == self._expected:
            self._loop.call_soon_threadsafe(self._finish)

    async def wait(self, expected: int) -> None:
        """Wait until `expected` messages are acknowledged or given up; librdkafka bounds the time."""
        # Either this thread sees the last message settled, or the other one sees what is expected; or both.
        self._expected = expected
        if self._settled == expected:
            self._finish()
        await self._done

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)


class KafkaLink:
    """An idempotent producer with acks=all, served by a thread of its own.

    Args:
        topic: an existing topic; it is never created here.
        kafka: librdkafka properties, at least `bootstrap.servers`.
        delivery_s: how long a message may wait for its acknowledgement.
    """

    def __init__(self, topic: str, kafka: Mapping[str, str], delivery_s: float) -> None:
        self._topic = topic
        own = {"delivery.timeout.ms": str(int(delivery_s * 1000)), "error_cb": self._on_error}
        self._producer = Producer(producer_config(_DEFAULTS, kafka, own), logger=LIBRDKAFKA_LOG)
        self._is_reachable = False
        self._is_doubtful = True
        self.is_broken = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="kafka-link", daemon=True)

    @property
    def is_ready(self) -> bool:
        """Whether Kafka answers, knows the topic, and takes what this producer sends."""
        return self._is_reachable and not self.is_broken

    @property
    def waiting(self) -> int:
        """Messages handed over and not settled yet."""
        return len(self._producer)

    def start(self) -> None:
        """Begin to look for Kafka; the gateway need not wait for it."""
        self._thread.start()

    def stop(self, seconds: float) -> int:
        """Send what is left, at most this long, and end; returns the number of messages given up."""
        self._ended.set()
        self._thread.join()  # first: two threads that serve callbacks would count past each other
        return self._producer.flush(seconds)

    async def send(self, messages: Iterable[Message], extra: Headers) -> int:
        """Hand over messages and wait for the acknowledgement of each by all in-sync replicas.

        Returns the number of messages. Raises Refusal 503 unless every one was acknowledged. Some may stand
        in Kafka nevertheless: sending them again changes nothing.
        """
        delivery = _Delivery(self._on_failure)
        handed_over = 0
        try:
            for message in messages:
                self._producer.produce(
                    self._topic,
                    message.value,
                    message.key,
                    headers=[*message.headers, *extra],
                    on_delivery=delivery.settle,
                )
                handed_over += 1
        except BufferError:
            raise unavailable("Kafka is slower than what comes in") from None
        except KafkaException as error:
            self._on_failure(error.args[0])
            raise unavailable("Kafka did not take it") from None
        await delivery.wait(handed_over)
        if delivery.failed:
            raise unavailable("Kafka did not acknowledge it")
        return handed_over

    def _serve(self) -> None:
        while not self._ended.is_set():
            self._producer.poll(_POLL_S)
            if self._is_doubtful:
                self._probe()

    def _probe(self) -> None:
        """Ask for all topics: asking for one by name could create it."""
        try:
            is_there = self._topic in self._producer.list_topics(timeout=_PROBE_S).topics
        except KafkaException:
            is_there = False
        if is_there != self._is_reachable:
            (_log.info if is_there else _log.warning)("kafka", reachable=is_there, topic=self._topic)
        self._is_reachable, self._is_doubtful = is_there, not is_there

    def _on_failure(self, error: KafkaError) -> None:
        self._is_doubtful = True
        self._check_fatal(error)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._is_doubtful = True
        self._check_fatal(error)

    def _check_fatal(self, error: KafkaError) -> None:
        if error.fatal() and not self.is_broken:
            self.is_broken = True
            _log.error("producer broken", error=error.name())


def unavailable(why: str) -> Refusal:
    """The answer while Kafka cannot take events: nothing is acknowledged that could be lost."""
    return Refusal(503, "unavailable", f"{why}; send it again, nothing counts twice", _RETRY_S)
