"""The gateway before the real broker: what it answers, what stands in Kafka then, what it survives."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from config.settings import Settings
from streaming.gateway.signature import signed_headers
from streaming.topics import ensure_topics, payments_topic
from tests.events import event_id, wire_now
from tests.gateways import Client, GatewayProcess, Told

pytestmark = pytest.mark.integration

PARTITIONS = 4
PAN = "4111111111111111"
LIMITS = {
    "gateway__max_body_bytes": "1000000",
    "gateway__max_in_flight_bytes": "6000000",
}


@pytest.fixture(scope="module")
def topic(stack: Settings) -> str:
    name = f"gateway-{uuid.uuid4()}"
    ensure_topics(stack.kafka_properties(), payments_topic(name, PARTITIONS, 1, 1, 1))
    return name


@pytest.fixture(scope="module")
def gateway(
    stack: Settings, topic: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    process = GatewayProcess(
        tmp_path_factory.mktemp("gateway"), stack.kafka_properties(), kafka__topic=topic, **LIMITS
    )
    yield process
    process.end()


@pytest.fixture
def client(gateway: GatewayProcess) -> Client:
    return gateway.new_client()


def event(name: str | None = None, **changes: Any) -> bytes:
    """An event that is not too old; without a name it is one of its own."""
    return wire_now(name or uuid.uuid4().hex, **changes)


def events(count: int, **changes: Any) -> list[bytes]:
    return [event(**changes) for _ in range(count)]


def array(several: list[bytes]) -> bytes:
    return b"[" + b",".join(several) + b"]"


def records(stack: Settings, topic: str) -> list[Message]:
    """Everything that stands in the topic now."""
    consumer = Consumer({**stack.kafka_properties(), "group.id": uuid.uuid4().hex})
    ends = [
        consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[1] for p in range(PARTITIONS)
    ]
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
    found: list[Message] = []
    while len(found) < sum(ends):
        batch = consumer.consume(min(10_000, sum(ends) - len(found)), timeout=20)
        assert batch
        found += batch
    consumer.close()
    return found


def ids_in(stack: Settings, topic: str) -> set[str]:
    return {dict(m.headers() or [])["ce_id"].decode() for m in records(stack, topic)}


def accepted(told: Told) -> set[str]:
    return {r["event_id"] for r in told.json["results"] if r["status"] == "accepted"}


def test_what_is_accepted_stands_in_kafka_byte_by_byte(client: Client, stack: Settings, topic: str) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    good = [event(account_id=f"acct-{n}", note="Ω 100.00") for n in range(6)]
    told = [
        client.post(good[0], traceparent=trace),
        client.post(b" [ " + b" ,\n".join(good[1:3]) + b"]"),
        client.post(b"\n".join([*good[3:], b"", b"{broken"]), kind="application/x-ndjson"),
    ]
    assert [t.status for t in told] == [202, 202, 202]
    assert [(t.json["accepted"], t.json["rejected"]) for t in told] == [(1, 0), (2, 0), (3, 1)]
    assert told[2].json["results"][3]["reasons"][0]["rule"] == "unreadable"
    found = {m.value(): m for m in records(stack, topic)}
    for raw in good:
        fields, headers = json.loads(raw), dict(found[raw].headers() or [])
        assert found[raw].key() == fields["account_id"].encode()
        assert headers["ce_id"].decode() == fields["event_id"]
        assert headers["ce_type"].decode() == fields["event_type"]
        assert headers["ce_time"].decode() == fields["event_ts"]
        assert headers["ce_source"] == b"bank"
        assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", headers["traceparent"])
    assert trace.split("-")[1].encode() in dict(found[good[0]].headers() or [])["traceparent"]


def test_missing_times_of_arrival_are_added_and_rise(client: Client, stack: Settings, topic: str) -> None:
    several = events(30, account_id="stamped", ingest_ts=...)
    assert client.post(array(several)).status == 202
    times = [json.loads(m.value())["ingest_ts"] for m in records(stack, topic) if m.key() == b"stamped"]
    assert len(times) == 30
    assert times == sorted(set(times))


def test_each_reason_to_refuse_has_its_status(client: Client) -> None:
    good, unsigned = event(), {"content-type": "application/json"}
    assert client.ask("POST", "/v1/events", good, unsigned).status == 401
    assert client.post(good, at=-400).status == 401
    assert client.post(good, paywave_signature="v1=" + "0" * 64).json["code"] == "bad_signature"
    assert client.post(good, key="bank-0").status == 403
    assert client.post(b"{").status == 400
    assert client.post(b"[{]").status == 400
    assert client.post(good, kind="text/csv").status == 415
    assert client.post(b"x" * 1_000_001).status == 413
    assert client.post(event(amount="-1")).status == 422
    assert client.post(array([event(amount="-1"), b"7"])).status == 422
    assert client.get("/nowhere").status == 404
    assert client.get("/v1/events").status == 405
    slow = [client.post(array(events(3)), key="slow-1") for _ in range(2)]
    assert [told.status for told in slow] == [202, 429]
    assert int(slow[1].headers["retry-after"]) > 900
    assert client.post(good, key="bank-2").status == 202


def test_a_request_sent_again_is_told_apart_from_a_replay(
    client: Client, stack: Settings, topic: str
) -> None:
    body = event("sent-again")
    headers = {"idempotency-key": uuid.uuid4().hex, "content-type": "application/json"}
    signed = _signed(client, body) | headers
    first, again = (client.ask("POST", "/v1/events", body, signed) for _ in range(2))
    assert (first.status, again.status) == (202, 202)
    assert first.json == again.json
    without = _signed(client, body, at=1)
    assert client.ask("POST", "/v1/events", body, without).status == 202
    assert client.ask("POST", "/v1/events", body, without).json["code"] == "replayed"
    assert client.post(event(), idempotency_key=headers["idempotency-key"]).status == 422
    assert sum(m.value() == body for m in records(stack, topic)) == 2


def test_no_card_number_gets_past_the_gateway(
    gateway: GatewayProcess, client: Client, stack: Settings, topic: str
) -> None:
    hidden = [
        event(card_id=PAN),
        event(**{PAN: 1}),
        event(note=f"card {PAN}!"),
        event(event_id=PAN),
        PAN.encode(),
    ]
    for body in (*hidden, b'{"a": ' + PAN.encode(), array(hidden[:2])):
        assert client.post(body).status in {400, 422}
    told = client.post(hidden[2], key="shop-1")
    assert told.status == 202
    trace = f"00-{PAN:0>32}-00f067aa0ba902b7-01"
    answers = [client.post(event(), idempotency_key=PAN), client.post(event(), traceparent=trace), told]
    answers.append(client.post(event(), baggage=f"card={PAN}", tracestate=f"card={PAN}"))
    answers.append(client.post(event(amount=PAN), traceparent=trace))
    answers.append(client.ask("POST", f"/{PAN}", b"", {"paywave-key": PAN, "paywave-signature": PAN}))
    answers.append(client.post(event(), paywave_key=PAN))
    answers.append(client.get("/metrics"))
    assert not [a for a in answers if PAN.encode() in a.body or PAN in str(a.headers)]
    assert PAN not in gateway.process.said
    stands = [
        m for m in records(stack, topic) if PAN.encode() in m.value() or PAN in str((m.key(), m.headers()))
    ]
    assert not stands


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 900_000,
        b'{"a":' * 100_000,
        array([b"[" * 40 + b"]" * 40] * 50),
        b"[" + b"0," * 450_000 + b"0]",
        b"\n" * 900_000,
        b'{"a": NaN}',
        b'{"a": 1e400, "a": 2}',
        b'{"amount": 1e999999999}',
        b"9" * 900_000,
        b'"\xff\xfe"',
        b"\x00" * 1000,
        b'{"\\ud800": "\\udfff"}',
    ],
    ids=lambda body: body[:12].decode("latin-1"),
)
@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_poison_is_refused_and_does_no_harm(client: Client, body: bytes, kind: str) -> None:
    for key in ("bank-1", "shop-1"):
        assert client.post(body, key=key, kind=kind).status in {400, 413, 422}
    assert client.get("/readyz").status == 200


def test_ten_megabytes_without_a_length_are_cut_off(client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
    chunks = (b"x" * 100_000 for _ in range(100))
    try:
        connection.request("POST", "/v1/events", chunks, _signed(client, b""), encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):  # it hung up before all was sent, which is as good
        pass
    finally:
        connection.close()
    assert client.get("/readyz").status == 200


def test_slow_senders_are_not_waited_for(stack: Settings, topic: str, tmp_path: Path) -> None:
    impatient = {"gateway__body_timeout_s": "1", "gateway__idle_timeout_s": "1"}
    gateway = GatewayProcess(tmp_path, stack.kafka_properties(), kafka__topic=topic, **impatient)
    try:
        with _connected(gateway.client) as slow:
            slow.sendall(b"POST /v1/events HTTP/1.1\r\nhost: x\r\n")
            assert not slow.recv(1000) or b"408" in slow.recv(1000)
        with _connected(gateway.client) as slow:
            slow.sendall(_head(gateway.client, b"{}", 100) + b"{")
            assert slow.recv(1000).startswith(b"HTTP/1.1 408")
        assert gateway.new_client().get("/readyz").status == 200
    finally:
        gateway.end()


def test_pages_for_people_and_programs(client: Client) -> None:
    assert client.get("/healthz").json == {"healthy": True}
    assert b"paywave-signature" in client.get("/docs").body
    assert client.get("/openapi.json").json["openapi"] == "3.1.0"
    client.post(event())
    text = client.get("/metrics").body.decode()
    assert "paywave_gateway_events_total{" in text
    assert "http_server_request_duration_seconds_bucket{" in text
    assert "messaging_client_sent_messages_total{" in text


def test_without_kafka_nothing_is_acknowledged(stack: Settings, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        kafka = {"bootstrap.servers": f"127.0.0.1:{nobody.getsockname()[1]}"}
        gateway = GatewayProcess(tmp_path, kafka, until="/healthz")
    try:
        told = gateway.client.post(event())
        assert (told.status, told.headers["retry-after"]) == (503, "2")
        assert gateway.client.get("/readyz").status == 503
        assert gateway.process.terminate().code == 0
    finally:
        gateway.end()


def test_overload_is_refused_in_bounded_memory(gateway: GatewayProcess, stack: Settings, topic: str) -> None:
    # Ten times what may be in hand: 60 callers with 0.5 MB each, at once and again, beside a limit of 3 MB.
    bodies = [array(events(900, account_id=f"acct-{n}")) for n in range(6)]
    before = gateway.memory_bytes()

    def call(number: int) -> list[Told]:
        caller = gateway.new_client()  # white space tells the bodies apart, as two equal ones are a replay
        return [caller.post(bodies[number % 6] + b" " * (number + 60 * turn)) for turn in range(3)]

    with ThreadPoolExecutor(60) as pool:
        told = [t for several in pool.map(call, range(60)) for t in several]
    statuses = {t.status for t in told}
    assert statuses == {202, 503}
    assert all(t.headers["retry-after"] for t in told if t.status == 503)
    assert gateway.memory_bytes() - before < 200_000_000
    assert set().union(*(accepted(t) for t in told if t.status == 202)) <= ids_in(stack, topic)
    assert gateway.new_client().post(event()).status == 202


def test_what_was_acknowledged_before_a_kill_stands_in_kafka(
    stack: Settings, topic: str, tmp_path: Path
) -> None:
    gateway = GatewayProcess(tmp_path, stack.kafka_properties(), kafka__topic=topic)
    acknowledged: set[str] = set()
    refused: list[int] = []

    def call(_number: int) -> None:
        client = gateway.new_client()
        for _ in range(10_000):
            try:
                told = client.post(array(events(20)))
            except (OSError, http.client.HTTPException):
                return
            if told.status == 202:
                acknowledged.update(accepted(told))
            else:
                refused.append(told.status)

    try:
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(call, number) for number in range(8)]
            while len(acknowledged) < 2000:
                time.sleep(0.01)
                assert gateway.process.is_alive
            gateway.process.kill()
        for done in calls:
            done.result()
        assert acknowledged <= ids_in(stack, topic)
        assert not refused
        gateway.start()
        assert gateway.client.post(event()).status == 202
    finally:
        gateway.end()


def test_a_gateway_that_is_told_to_end_answers_what_it_was_sent(
    stack: Settings, topic: str, tmp_path: Path
) -> None:
    gateway = GatewayProcess(tmp_path, stack.kafka_properties(), kafka__topic=topic)
    try:
        body = event("drained")
        with _connected(gateway.client) as sender:
            sender.sendall(_head(gateway.client, body, len(body)) + body[:10])
            while b"paywave_gateway_in_flight{" not in (page := gateway.client.get("/metrics").body) or (
                re.search(rb"paywave_gateway_in_flight{.*} 0.0", page)
            ):
                assert gateway.process.is_alive  # until the request is under way
            gateway.process.signal_end()
            time.sleep(1)
            sender.sendall(body[10:])
            assert sender.recv(1000).startswith(b"HTTP/1.1 202")
        assert gateway.process.wait(60).code == 0
        assert event_id("drained") in ids_in(stack, topic)
    finally:
        gateway.end()


def test_a_worker_does_not_outlive_the_process_that_watches_over_it(stack: Settings, tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, stack.kafka_properties())
    try:
        os.kill(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait(60)  # fails if anything of it is left
    finally:
        gateway.end()


@pytest.mark.skipif(not shutil.which("openssl"), reason="certificates are made with openssl")
def test_callers_without_a_certificate_of_the_authority_are_not_heard(
    stack: Settings, tmp_path: Path
) -> None:
    authority, gateway_pair, caller_pair = (
        _certificate(tmp_path, name) for name in ("ca", "gateway", "caller")
    )
    tls = ssl.create_default_context(cafile=str(authority[0]))
    tls.load_cert_chain(*caller_pair)
    process = GatewayProcess(
        tmp_path,
        stack.kafka_properties(),
        tls=tls,
        gateway__tls_certificate=str(gateway_pair[0]),
        gateway__tls_key=str(gateway_pair[1]),
        gateway__tls_client_ca=str(authority[0]),
    )
    try:
        assert process.client.post(event()).status == 202
        stranger = Client(
            process.port, process.client.secrets, ssl.create_default_context(cafile=str(authority[0]))
        )
        with pytest.raises((OSError, http.client.HTTPException)):
            stranger.post(event())
    finally:
        process.end()


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate by the authority `ca`, which makes its own; returns it and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    signed_by = [] if name == "ca" else ["-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key")]
    extension = "basicConstraints=critical,CA:" + ("TRUE" if name == "ca" else "FALSE")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", extension,
         "-out", str(certificate), "-keyout", str(key), *signed_by],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def _signed(client: Client, body: bytes, at: float = 0) -> dict[str, str]:
    return signed_headers("bank-1", client.secrets["bank-1"], body, time.time() + at)


def _connected(client: Client) -> socket.socket:
    return socket.create_connection(("127.0.0.1", client.port), timeout=30)


def _head(client: Client, body: bytes, length: int) -> bytes:
    headers = {"host": "x", "content-length": str(length), **_signed(client, body)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /v1/events HTTP/1.1\r\n{lines}\r\n".encode()
