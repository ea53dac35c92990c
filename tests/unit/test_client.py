"""The producer for services of our own: acknowledged or handed back, bounded, and never a broken event."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from streaming import client as client_module
from streaming.client import EventProducer, Failure
from streaming.errors import BufferFull, EventRefused, SendError
from tests.events import wire_now
from tests.mock_kafka import TOPIC, MockKafka

DOCS = Path(__file__).parents[2] / "docs"


def fields(**changes: Any) -> dict[str, Any]:
    event = {
        "event_id": uuid4(),
        "event_type": "CAPTURE",
        "event_ts": datetime.now(UTC),
        "account_id": "acct-1",
        "card_id": "card-1",
        "merchant_id": "shop-1",
        "amount": Decimal("100.00"),
        "currency": "USD",
        "network": "VISA",
        "status": "APPROVED",
        "attributes": {},
    }
    return {name: value for name, value in (event | changes).items() if value is not ...}


@contextmanager
def producer(kafka: MockKafka, failures: list[Failure], **options: Any) -> Iterator[EventProducer]:
    told = {"on_failure": failures.append, "source": "ledger", "topic": TOPIC, "needs_durable": False}
    with EventProducer(kafka.properties, **(told | options)) as events:
        yield events


def test_an_event_arrives_as_the_gateway_would_send_it(kafka: MockKafka) -> None:
    failures: list[Failure] = []
    event = fields()
    with producer(kafka, failures) as events:
        span = TracerProvider().get_tracer("t").start_span("s")
        with trace.use_span(span):
            assert events.send(event) == str(event["event_id"])
        assert events.flush(20) == 0
    (found,) = kafka.consume(1)
    sent = json.loads(found.value())
    assert (sent["amount"], sent["event_ts"]) == ("100.00", event["event_ts"].isoformat())
    assert sent["ingest_ts"] > sent["event_ts"]
    assert found.key() == b"acct-1"
    headers = dict(found.headers())
    assert headers["ce_id"].decode() == str(event["event_id"])
    assert (headers["ce_type"], headers["ce_source"]) == (b"CAPTURE", b"ledger")
    assert headers["ce_time"].decode() == event["event_ts"].isoformat()
    assert headers["traceparent"].decode().split("-")[1] == f"{span.get_span_context().trace_id:032x}"
    assert failures == []


def test_bytes_go_out_as_they_are(kafka: MockKafka) -> None:
    raw = b"  " + wire_now().replace(b": ", b" :  ") + b" "
    with producer(kafka, []) as events:
        events.send(raw)
    assert kafka.consume(1)[0].value() == raw


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (fields(currency="XXX", network="JCB"), r"enum currency .*enum network"),
        (fields(card_id="4111111111111111"), "card_number"),
        (fields(attributes={"note": "4111 1111 1111 1111"}), "card_number"),
        (fields(account_id=...), "missing account_id"),
        (fields(event_ts=datetime(2026, 1, 1)), "format event_ts"),  # noqa: DTZ001
        (fields(amount=float("nan")), "cannot be written as JSON"),
        (fields(amount=object()), "cannot be written as JSON"),
        (b"{", "unreadable"),
    ],
)
def test_a_broken_event_is_refused_with_every_reason(kafka: MockKafka, event: Any, said: str) -> None:
    with producer(kafka, []) as events:
        with pytest.raises(EventRefused, match=said) as refused:
            events.send(event)
        assert "4111" not in str(refused.value)
        assert events.flush(0) == 0


def test_what_is_not_acknowledged_is_handed_back_and_can_be_sent_again(kafka: MockKafka) -> None:
    failures: list[Failure] = []
    with producer(kafka, failures, delivery_seconds=1) as events:
        kafka.stop()
        ids = [events.send(fields(account_id=f"acct-{n}")) for n in range(20)]
    assert sorted(failure.event_id for failure in failures) == sorted(ids)
    assert all("timed out" in failure.reason for failure in failures)
    other = MockKafka()
    with producer(other, []) as events:
        assert [events.send(failure.value) for failure in failures] == [f.event_id for f in failures]
    assert {m.value() for m in other.consume(20)} == {failure.value for failure in failures}
    other.stop()


def test_closing_does_not_wait_longer_than_it_is_told(kafka: MockKafka) -> None:
    failures: list[Failure] = []
    events = EventProducer(
        kafka.properties, source="ledger", on_failure=failures.append, topic=TOPIC, needs_durable=False
    )
    kafka.stop()
    event_id = events.send(fields())
    events.close(0.2)
    events.close()
    assert [failure.event_id for failure in failures] == [event_id]
    with pytest.raises(SendError, match="closed"):
        events.send(fields())


def test_closing_ends_though_librdkafka_gives_nothing_back(
    kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    class Stuck(Producer):
        def flush(self, timeout: float) -> int:
            waits.append(timeout)
            return super().flush(0 if len(waits) == 1 else timeout)  # what was purged does come back

    monkeypatch.setattr(client_module, "Producer", Stuck)
    failures: list[Failure] = []
    with producer(kafka, failures, delivery_seconds=60) as events:
        kafka.stop()
        event_id = events.send(fields())
    assert [failure.event_id for failure in failures] == [event_id]
    assert waits[0] > 60 and all(wait >= 0 for wait in waits), "below zero is for ever"


def test_a_full_buffer_raises_if_told_so(kafka: MockKafka) -> None:
    failures: list[Failure] = []
    sent = []
    with producer(kafka, failures, when_full="raise", buffer_kbytes=64, delivery_seconds=1) as events:
        kafka.stop()
        with pytest.raises(BufferFull):
            for _ in range(1000):
                sent.append(events.send(fields(attributes={"note": "x" * 1000})))
    assert 10 < len(sent) < 100
    assert sorted(failure.event_id for failure in failures) == sorted(sent)


def test_a_full_buffer_makes_send_wait_for_room(kafka: MockKafka) -> None:
    failures: list[Failure] = []
    with producer(kafka, failures, buffer_kbytes=32) as events:
        ids = {events.send(fields(attributes={"note": "x" * 1000})) for _ in range(200)}
    assert failures == []
    assert {json.loads(m.value())["event_id"] for m in kafka.consume(200)} == ids


def test_a_callback_may_send_again_and_may_break(kafka: MockKafka) -> None:
    told: list[str] = []

    def on_failure(failure: Failure) -> None:
        told.append(failure.event_id)
        events.send(failure.value)  # the producer is closed by then, or the buffer full: it never hangs

    with producer(kafka, [], on_failure=on_failure, buffer_kbytes=16, delivery_seconds=0.5) as events:
        kafka.stop()
        ids = {events.send(fields(attributes={"note": "x" * 1000})) for _ in range(14)}
    assert set(told) == ids


def test_many_threads_may_send(kafka: MockKafka) -> None:
    with producer(kafka, []) as events:
        threads = [
            threading.Thread(target=lambda: [events.send(fields()) for _ in range(25)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({json.loads(m.value())["event_id"] for m in kafka.consume(100)}) == 100


def test_settings_cannot_weaken_the_guarantees(kafka: MockKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    real = client_module.Producer
    monkeypatch.setattr(
        client_module, "Producer", lambda config, **more: seen.update(config) or real(config, **more)
    )
    kafka.properties |= {"acks": "0", "enable.idempotence": "false", "partitioner": "random"}
    with producer(kafka, []):
        pass
    assert (seen["acks"], seen["enable.idempotence"]) == ("all", "true")
    assert (seen["partitioner"], seen["compression.type"]) == ("murmur2", "zstd")


def test_no_kafka_and_no_topic_are_said_at_the_start(
    kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "settled", lambda look: look())
    with pytest.raises(SendError, match="no topic elsewhere"), producer(kafka, [], topic="elsewhere"):
        pass
    monkeypatch.setattr(client_module, "_PROBE_S", 0.5)
    kafka.properties = {"bootstrap.servers": "127.0.0.1:1"}
    with pytest.raises(SendError, match="no Kafka within"), producer(kafka, []):
        pass


def test_the_example_of_the_page_works(kafka: MockKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    monkeypatch.setenv("KAFKA", kafka.properties["bootstrap.servers"])
    monkeypatch.setattr(client_module, "require_durable", lambda _kafka, topic: checked.append(topic))
    (example,) = re.findall(r"```python\n(.*?)```", (DOCS / "producing.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "producing.md", "exec"), names)
    assert (names["outbox"], checked) == ([], [TOPIC])
    assert json.loads(kafka.consume(1)[0].value())["account_id"] == "acct-1001"
