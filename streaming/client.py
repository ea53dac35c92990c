"""The producer for services of our own: events to Kafka as the gateway sends them, or back to the caller.

Belongs here: a service's way to Kafka. Does not: files (`producer.py`), what partners may send (`gateway/`).
How to use it is in docs/producing.md.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Literal
from uuid import UUID

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered
from opentelemetry import metrics

from quality.sealing import KeyOf
from streaming.errors import BufferFull, EventRefused, SendError
from streaming.gateway.intake import IngestClock, Intake, Rejected
from streaming.kafka_client import LIBRDKAFKA_LOG, producer_config
from streaming.message import Message
from streaming.topics import partitions_of, require_durable, settled
from streaming.trace import trace_headers

_DEFAULTS: Mapping[str, Any] = {"client.id": "paywave-client", "linger.ms": 20}
_POLL_S = 0.1
_PROBE_S = 10.0
_log = structlog.get_logger(__name__)
_sent = metrics.get_meter(__name__).create_counter("messaging.client.sent.messages", "{message}")


@dataclass(frozen=True)
class Failure:
    """An event that Kafka did not acknowledge. `value` holds its bytes, which `send` takes again."""

    event_id: str
    value: bytes
    reason: str


class EventProducer:
    """Sends events at least once: each is acknowledged by all in-sync replicas, or handed to `on_failure`.

    Use it as a context manager, and from as many threads as you like; one for the whole process is best.

    Args:
        kafka: librdkafka properties, at least `bootstrap.servers`. What all producers share stays as it is.
        source: who we are (header `ce_source`).
        on_failure: told of each event that was not acknowledged in time, or that Kafka refused; in a thread
            of ours, or in one that calls us. Nobody else has that event any more: keep it, to send it again.
            What it raises is only logged.
        topic: an existing topic.
        when_full: what `send` does while the buffer is full: wait for room, or raise `BufferFull` at once.
        buffer_kbytes: memory for the events that are on their way, in 1,024 bytes.
        delivery_seconds: how long an event may wait for its acknowledgement, retries included.
        key_of: keys of the persons whose personal fields an event holds, for sealing them
            (`lakehouse.keyring.KeyringConfig.cached_keys`); without it such an event is refused.
        needs_durable: refuse a topic that could lose what it acknowledged. Only for a cluster of one.

    Raises:
        SendError: no Kafka, or no such topic.
        WeakTopic: the topic could lose what it acknowledged.
    """

    def __init__(
        self,
        kafka: Mapping[str, Any],
        *,
        source: str,
        on_failure: Callable[[Failure], None],
        topic: str = "payments.events",
        when_full: Literal["block", "raise"] = "block",
        buffer_kbytes: int = 65_536,
        delivery_seconds: float = 120.0,
        needs_durable: bool = True,
        key_of: KeyOf | None = None,
    ) -> None:
        self._topic, self._source, self._on_failure, self._when_full = topic, source, on_failure, when_full
        own = {
            "queue.buffering.max.kbytes": buffer_kbytes,
            "delivery.timeout.ms": int(delivery_seconds * 1000),
            "error_cb": self._on_error,
        }
        self._producer = Producer(producer_config(_DEFAULTS, kafka, own), logger=LIBRDKAFKA_LOG)
        self._attributes = {"messaging.system": "kafka", "messaging.destination.name": topic}
        self._longest_s = delivery_seconds + _PROBE_S  # by then each was acknowledged, or given up
        self._intake = Intake(IngestClock(), (), key_of)
        self._fatal: str | None = None
        self._lock = threading.Lock()  # nothing is handed over once `close` has begun to wait
        self._closed = threading.Event()
        self._called_back = threading.local()
        self._look_for_topic()
        if needs_durable:
            require_durable(kafka, topic)
        self._polling = threading.Thread(target=self._poll, name="paywave-client", daemon=True)
        self._polling.start()

    def send(self, event: Mapping[str, Any] | bytes) -> str:
        """Hand over one event; returns its id. It is on its way then, not yet acknowledged.

        Args:
            event: its fields (Decimal, datetime and UUID are written as the contract wants), or its JSON.
                A missing `ingest_ts` is added.

        Raises:
            EventRefused: it breaks the contract or holds a card number; with every reason.
            BufferFull: there is no room, and `when_full` says not to wait.
            SendError: the producer is closed, or Kafka said that it can never send again.
        """
        raw = event if isinstance(event, bytes) else _encoded(event)
        verdict = self._intake.take(raw, self._source, "refuse", trace_headers())
        if isinstance(verdict, Rejected):
            listed = "; ".join(f"{r.rule} {r.field}".strip() + f" ({r.message})" for r in verdict.reasons)
            raise EventRefused(f"the event breaks the contract: {listed}", "see docs/partner-contract.md")
        self._produce(verdict.event_id, verdict.message)
        return verdict.event_id

    def flush(self, seconds: float | None = None) -> int:
        """Wait until nothing is on its way any more; returns how many still are.

        Waits `seconds` at most; without them as long as an event may take, and a little longer.
        """
        return int(self._producer.flush(self._longest_s if seconds is None else seconds))

    def close(self, seconds: float | None = None) -> None:
        """Flush, and hand what is still not acknowledged then to `on_failure`. Can be called twice."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        if self.flush(seconds):
            self._producer.purge()
            self.flush()
        self._polling.join()

    def __enter__(self) -> EventProducer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _produce(self, event_id: str, message: Message) -> None:
        def delivered(error: KafkaError | None, of: Delivered) -> None:
            self._delivered(
                event_id, of.value() or b"", error
            )  # not ours: librdkafka holds the bytes already

        headers: list[tuple[str, str | bytes | None]] = list(message.headers)
        while True:
            try:
                with self._lock:
                    self._refuse_if_over()
                    self._producer.produce(
                        self._topic, message.value, message.key, headers=headers, on_delivery=delivered
                    )
                return
            except BufferError:
                self._wait_for_room()
            except KafkaException as error:
                self._delivered(event_id, message.value, error.args[0])
                return

    def _wait_for_room(self) -> None:
        """Wait a moment; our thread makes room meanwhile, unless it is the one that waits."""
        if self._when_full == "raise" or getattr(self._called_back, "now", False):
            raise BufferFull(
                "the buffer is full: Kafka takes less than is sent", "send it again later, or send slower"
            )
        time.sleep(_POLL_S / 10)

    def _look_for_topic(self) -> None:
        try:
            is_there = settled(lambda: partitions_of(self._producer, self._topic, _PROBE_S))
        except KafkaException as error:
            raise SendError(
                f"no Kafka within {_PROBE_S:g} s: {error.args[0].str()}", "check its address"
            ) from None
        if not is_there:
            raise SendError(f"Kafka has no topic {self._topic}", "`paywave topics apply` creates it")

    def _refuse_if_over(self) -> None:
        if self._closed.is_set():
            raise SendError("the producer is closed", "make a new one")
        if self._fatal:
            raise SendError(
                f"Kafka will not take anything from this producer: {self._fatal}", "make a new one"
            )

    def _delivered(self, event_id: str, value: bytes, error: KafkaError | None) -> None:
        if error is None:
            _sent.add(1, self._attributes)
            return
        _sent.add(1, self._attributes | {"error.type": error.name()})
        _log.warning("event not acknowledged", event_id=event_id, topic=self._topic, reason=error.name())
        self._called_back.now = True
        try:
            self._on_failure(Failure(event_id, value, error.str()))
        except Exception:
            _log.exception("on_failure raised", event_id=event_id)
        finally:
            self._called_back.now = False

    def _poll(self) -> None:
        while not self._closed.is_set():
            self._producer.poll(_POLL_S)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error.str()


def _encoded(event: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(dict(event), default=_text, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise EventRefused(f"the event cannot be written as JSON: {error}") from None


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
