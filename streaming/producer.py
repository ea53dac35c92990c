"""Sends messages to Kafka: every one acknowledged by all in-sync replicas, or counted as failed.

Belongs here: the producer's guarantees, pace and telemetry. Does not: what is sent (`event_file.py`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered
from opentelemetry import metrics, trace

from streaming.errors import SendError, StreamingError
from streaming.kafka_client import LIBRDKAFKA_LOG, producer_config
from streaming.message import Headers, Message
from streaming.trace import trace_headers

PROBE_SECONDS = 10.0
DELIVERY_SECONDS = 60.0
_POLL_EVERY = 64
_TICKS = (
    20  # a second: how often a paced send looks at the clock; a wait for each message costs a third of a core
)

_DEFAULTS: Mapping[str, str] = {
    "client.id": "paywave-send",
    "linger.ms": "20",
    # Bounds the memory of a send: a full queue makes it wait.
    "queue.buffering.max.kbytes": "65536",
    # Whether a record is too large is for the topic to say: its answer is counted, not guessed.
    "message.max.bytes": "33554432",
}
# Failures that say Kafka is gone, not that one record is bad.
_LOST = frozenset({KafkaError._MSG_TIMED_OUT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT})


@dataclass(frozen=True)
class SendReport:
    """How a send ended: records acknowledged, records refused (and why the first was), seconds."""

    acknowledged: int
    failed: int
    seconds: float
    first_failure: str | None = None


def send(
    messages: Iterable[Message],
    topic: str,
    kafka: Mapping[str, str],
    *,
    rate: float | None = None,
    on_sent: Callable[[int], None] | None = None,
    probe_seconds: float | None = None,
    delivery_seconds: float = DELIVERY_SECONDS,
) -> SendReport:
    """Send every message and wait for every acknowledgement.

    Args:
        messages: read lazily; memory stays bounded however many there are.
        topic: an existing topic; it is never created here.
        kafka: librdkafka properties, at least `bootstrap.servers`.
        rate: messages per second at most; None for as fast as Kafka takes them.
        on_sent: told the number acknowledged so far, several times a second.
        probe_seconds: how long to look for Kafka and the topic first; None for `PROBE_SECONDS`.
        delivery_seconds: how long a message may wait for its acknowledgement.

    Returns:
        The report. Refused records (too large, say) are counted there; the others are still sent.

    Raises:
        SendError: no Kafka, no such topic, or Kafka was lost on the way; it says how many were acknowledged.
            Sending the same again changes nothing: redeliveries are one version.
    """
    sending = _Sending(topic, kafka, on_sent, delivery_seconds)
    sending.probe(PROBE_SECONDS if probe_seconds is None else probe_seconds)
    attributes = {"messaging.operation.type": "send", **sending.attributes}
    with trace.get_tracer("paywave.streaming").start_as_current_span(
        f"send {topic}", kind=trace.SpanKind.PRODUCER, attributes=attributes
    ) as span:
        report = sending.run(messages, rate)
        span.set_attribute("messaging.batch.message_count", report.acknowledged)
        return report


class _Sending:
    """One send: the producer, what became of its messages, and how it is measured."""

    def __init__(
        self,
        topic: str,
        kafka: Mapping[str, str],
        on_sent: Callable[[int], None] | None,
        delivery_seconds: float,
    ) -> None:
        self._topic = topic
        self._where = kafka.get("bootstrap.servers", "(no bootstrap.servers given)")
        self._on_sent = on_sent or (lambda _count: None)
        self._acknowledged = self._failed = 0
        self._first_failure: str | None = None
        self._lost: str | None = None
        self._last_error = ""
        self._delivery_seconds = delivery_seconds
        own = {"delivery.timeout.ms": int(delivery_seconds * 1000), "error_cb": self._on_error}
        self._producer = Producer(producer_config(_DEFAULTS, kafka, own), logger=LIBRDKAFKA_LOG)
        self.attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "send",
            "messaging.destination.name": topic,
        }
        meter = metrics.get_meter("paywave.streaming")
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}")
        self._duration = meter.create_histogram("messaging.client.operation.duration", "s")
        self._uncounted: Counter[str] = Counter()

    def probe(self, seconds: float) -> None:
        """Look for Kafka and the topic. Asks for all topics: asking for one by name could create it."""
        try:
            topics = self._producer.list_topics(timeout=seconds).topics
        except KafkaException as error:
            self._producer.poll(0)  # hands over why, to _on_error
            reason = self._last_error or error.args[0].str()
            raise SendError(
                f"no Kafka at {self._where} within {seconds:g} s: {reason}; nothing was sent",
                "start the stack with `paywave up`, or check the address in the settings",
            ) from None
        if self._topic not in topics:
            raise SendError(
                f"Kafka at {self._where} has no topic {self._topic}; nothing was sent",
                "`paywave up` creates it in the embedded stack",
            )

    def run(self, messages: Iterable[Message], rate: float | None) -> SendReport:
        """Produce, wait for the rest, count. However it ends, what is on its way gets its chance."""
        started = time.monotonic()
        try:
            self._produce_all(messages, rate, started)
            self._wait_for_all()
        except StreamingError as error:
            self._give_up()
            raise self._stopped(str(error), error.hint) from error
        except BaseException:
            self._give_up()
            raise
        finally:
            self._count_metrics()
        return SendReport(self._acknowledged, self._failed, time.monotonic() - started, self._first_failure)

    def _produce_all(self, messages: Iterable[Message], rate: float | None, started: float) -> None:
        extra = trace_headers()
        per_tick = max(1, int(rate / _TICKS)) if rate else 1
        for number, message in enumerate(messages):
            if rate and number % per_tick == 0:
                self._wait_until(started + number / rate)
            self._produce(message, extra)
            if number % _POLL_EVERY == 0:
                self._poll(0)

    def _produce(self, message: Message, extra: Headers) -> None:
        headers: list[tuple[str, str | bytes | None]] = [*message.headers, *extra]
        while True:
            try:
                self._producer.produce(
                    self._topic, message.value, message.key, headers=headers, on_delivery=self._on_delivery
                )
                return
            except BufferError:  # the queue is full: wait for acknowledgements
                self._poll(0.2)
            except KafkaException as error:
                self._fail(error.args[0])
                return

    def _wait_until(self, moment: float) -> None:
        while (ahead := moment - time.monotonic()) > 0:
            self._poll(min(ahead, 0.2))

    def _wait_for_all(self) -> None:
        while self._producer.flush(0.2):
            self._check()
        self._check()

    def _poll(self, seconds: float) -> None:
        self._producer.poll(seconds)
        self._check()

    def _check(self) -> None:
        self._on_sent(self._acknowledged)
        if self._lost:
            raise SendError(
                f"lost Kafka at {self._where}: {self._lost}",
                "see `paywave status`, then send the same again: redeliveries change nothing",
            )

    def _give_up(self) -> None:
        """Give what is on its way a moment, then drop the rest, so that the end comes soon."""
        self._producer.flush(2)
        self._producer.purge()
        self._producer.flush(1)

    def _stopped(self, reason: str, hint: str) -> SendError:
        counts = f"{self._acknowledged:,} acknowledged, {self._failed:,} not"
        return SendError(f"{reason} ({counts})", hint, acknowledged=self._acknowledged, failed=self._failed)

    def _on_delivery(self, error: KafkaError | None, message: Delivered) -> None:
        if error is not None:
            self._fail(error)
            return
        self._acknowledged += 1
        partition = str(message.partition())
        self._uncounted[partition] += 1
        latency = message.latency()
        if latency is not None:
            self._duration.record(
                latency, self.attributes | {"messaging.destination.partition.id": partition}
            )

    def _fail(self, error: KafkaError) -> None:
        self._failed += 1
        self._first_failure = self._first_failure or error.str()
        self._sent.add(1, self.attributes | {"error.type": error.name()})
        if error.code() in _LOST:
            self._lost = self._lost or f"{error.str()} after {self._delivery_seconds:g} s"

    def _on_error(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # the one before says why
            self._last_error = error.str()
        if error.fatal():
            self._lost = error.str()

    def _count_metrics(self) -> None:
        for partition, count in self._uncounted.items():
            self._sent.add(count, self.attributes | {"messaging.destination.partition.id": partition})
        self._uncounted.clear()
