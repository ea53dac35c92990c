"""Sending, against a mock broker in process: acknowledged, refused, and a Kafka that is absent or goes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streaming import producer as producer_module
from streaming.errors import InputFileError, SendError
from streaming.message import Message, message_of
from streaming.producer import send
from tests.events import wire
from tests.mock_kafka import TOPIC, MockKafka


def test_bytes_keys_and_headers_arrive_as_they_were(kafka: MockKafka) -> None:
    lines = [
        wire("e1"),
        b"",
        b"\xff not json",
        b' {"account_id": "acct-9"}\r',
        b'{"account_id": 7}',
        b"[" * 5000,
    ]
    report = send([message_of(line, "bank") for line in lines], TOPIC, kafka.properties)
    assert (report.acknowledged, report.failed) == (6, 0)
    found = {m.value(): m for m in kafka.consume(6)}
    assert set(found) == set(lines)
    assert found[lines[0]].key() == b"acct-1"
    assert found[lines[3]].key() == b"acct-9"
    assert all(found[lines[i]].key() is None for i in (1, 2, 4, 5))
    event = json.loads(lines[0])
    headers = dict(found[lines[0]].headers())
    assert headers["ce_id"].decode() == event["event_id"]
    assert headers["ce_type"] == b"CAPTURE"
    assert headers["ce_time"].decode() == event["event_ts"]
    assert headers["ce_source"] == b"bank"
    assert {name for name, _ in found[lines[2]].headers()} - {"traceparent"} == {"ce_source"}


def test_one_accounts_events_share_a_partition(kafka: MockKafka) -> None:
    lines = [wire(f"e{i}", account_id=f"acct-{i % 5}") for i in range(50)]
    send([message_of(line, "bank") for line in lines], TOPIC, kafka.properties)
    places = {(m.key(), m.partition()) for m in kafka.consume(50)}
    assert len(places) == 5


def test_a_record_too_large_is_counted_and_the_others_are_sent(kafka: MockKafka) -> None:
    messages = [Message(b"a", None, ()), Message(b"x" * 40_000_000, None, ()), Message(b"b", None, ())]
    report = send(messages, TOPIC, kafka.properties)
    assert (report.acknowledged, report.failed) == (2, 1)
    assert "too large" in (report.first_failure or "")


def test_a_full_queue_waits_instead_of_dropping(kafka: MockKafka) -> None:
    small = kafka.properties | {"queue.buffering.max.messages": "10"}
    counts: list[int] = []
    report = send((Message(b"%d" % i, None, ()) for i in range(500)), TOPIC, small, on_sent=counts.append)
    assert report.acknowledged == 500
    assert counts == sorted(counts)
    assert counts[-1] == 500


def test_a_rate_is_kept(kafka: MockKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(producer_module._Sending, "_wait_until", lambda self, moment: waits.append(moment))
    send([Message(b"a", None, ())] * 5, TOPIC, kafka.properties, rate=10)
    assert [round(w - waits[0], 6) for w in waits] == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_settings_cannot_weaken_the_guarantees(kafka: MockKafka) -> None:
    weaker = kafka.properties | {"acks": "0", "enable.idempotence": "false", "partitioner": "random"}
    assert send([Message(b"a", None, ())], TOPIC, weaker).acknowledged == 1


def test_no_kafka_is_an_error_that_names_the_address() -> None:
    with pytest.raises(SendError, match=r"no Kafka at 127\.0\.0\.1:1 .*nothing was sent") as caught:
        send([], TOPIC, {"bootstrap.servers": "127.0.0.1:1"}, probe_seconds=0.5)
    assert "paywave up" in caught.value.hint


def test_a_missing_topic_is_an_error_and_is_not_created(kafka: MockKafka) -> None:
    for _ in range(2):
        with pytest.raises(SendError, match="no topic elsewhere"):
            send([], "elsewhere", kafka.properties)


def test_losing_kafka_on_the_way_says_how_many_were_acknowledged(kafka: MockKafka) -> None:
    acknowledged: list[int] = []

    def messages() -> Iterator[Message]:
        for i in range(10_000):
            yield Message(b"%d" % i, None, ())
            if i == 200:
                kafka.stop()

    with pytest.raises(SendError, match="lost Kafka at") as caught:
        send(messages(), TOPIC, kafka.properties, delivery_seconds=1, on_sent=acknowledged.append)
    assert caught.value.acknowledged + caught.value.failed <= 10_000
    assert caught.value.failed > 0


def test_a_source_that_breaks_off_reports_what_was_sent(kafka: MockKafka) -> None:
    def messages() -> Iterator[Message]:
        yield Message(b"a", None, ())
        raise InputFileError("cannot read on", "send it again")

    with pytest.raises(SendError, match=r"cannot read on \(1 acknowledged, 0 not\)") as caught:
        send(messages(), TOPIC, kafka.properties)
    assert (caught.value.acknowledged, caught.value.hint) == (1, "send it again")


def test_a_send_is_traced_and_measured(kafka: MockKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing, measuring = TracerProvider(), MeterProvider([reader])
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(producer_module.trace, "get_tracer", tracing.get_tracer)
    monkeypatch.setattr(producer_module.metrics, "get_meter", measuring.get_meter)
    send([Message(b"a", None, ()), Message(b"b", None, ())], TOPIC, kafka.properties)

    (span,) = spans.get_finished_spans()
    assert span.name == f"send {TOPIC}"
    assert span.attributes is not None
    assert span.attributes["messaging.batch.message_count"] == 2
    headers = dict(kafka.consume(1)[0].headers())
    assert headers["traceparent"].decode().split("-")[1] == f"{span.context.trace_id:032x}"
    data = reader.get_metrics_data()
    assert data is not None
    found = {
        m.name: m.data.data_points for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics
    }
    assert sum(p.value for p in found["messaging.client.sent.messages"]) == 2  # type: ignore[union-attr]
    assert sum(p.count for p in found["messaging.client.operation.duration"]) == 2  # type: ignore[union-attr]
