"""The gateway's pure parts: signatures, rates, batches, one event's way in, answers kept and given."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace

from quality.canonical import MAX_BYTES, parse_json
from quality.card_tokens import TokenKey
from quality.cards import holds_card_number
from streaming.gateway.answers import results_of
from streaming.gateway.batch import batch_of
from streaming.gateway.gateway import _turns
from streaming.gateway.idempotency import Answer, Answers
from streaming.gateway.intake import IngestClock, Intake, Reason, Rejected, Taken
from streaming.gateway.limits import InFlight, TokenBucket
from streaming.gateway.refusal import Refusal
from streaming.gateway.signature import Caller, SeenSignatures, caller_of, sign, signed_headers, verify
from streaming.message import message_of
from streaming.partners.registry import Registry, load_registry
from streaming.trace import parent_of
from tests.events import event_id, wire_now
from tests.gateways import REGISTRY

NOW = 1_790_000_000.0
SECRET = b"s" * 32
PAN = "4111111111111111"
KEYS = (TokenKey("a", datetime(1970, 1, 1, tzinfo=UTC), b"k" * 32),)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    path: Path = tmp_path_factory.mktemp("registry") / "registry.toml"
    path.write_text(REGISTRY)
    return load_registry(path)


def refused(status: int) -> Any:
    return pytest.raises(Refusal, check=lambda refusal: refusal.status == status)


# --- signatures


def test_what_is_signed_by_a_key_of_the_partner_is_its_own(registry: Registry) -> None:
    for key in ("bank-1", "bank-2"):
        caller = caller_of(signed_headers(key, SECRET, b"body", NOW), registry, {key: SECRET}, NOW, 300)
        verify(caller, b"body")
        assert caller.name == "bank"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"paywave-key": ""}, 401),
        ({"paywave-key": "nobody"}, 401),
        ({"paywave-timestamp": "yesterday"}, 401),
        ({"paywave-timestamp": "٣"}, 401),
        ({"paywave-timestamp": "9" * 40}, 401),
        ({"paywave-timestamp": str(int(NOW) - 301)}, 401),
        ({"paywave-timestamp": str(int(NOW) + 301)}, 401),
        ({"paywave-key": "gone-1"}, 403),
        ({"paywave-key": "bank-0"}, 403),
    ],
)
def test_headers_that_cannot_be_right_are_refused_before_the_body(
    registry: Registry, change: dict[str, str], status: int
) -> None:
    headers = {**signed_headers("bank-1", SECRET, b"body", NOW), **change}
    with refused(status):
        caller_of(headers, registry, {"bank-1": SECRET}, NOW, 300)


@given(st.binary(max_size=50), st.binary(max_size=50), st.text(max_size=70))
def test_no_other_body_time_or_signature_passes(body: bytes, other: bytes, text: str) -> None:
    partner: Any = None
    good = Caller("p", partner, SECRET, "17", sign(SECRET, "17", body))
    verify(good, body)
    for bad, content in (
        (good._replace(timestamp="18"), body),
        (good._replace(secret=b"t" * 32), body),
        (good._replace(signature=text), body),
        (good._replace(signature="v1=" + "é" * 64), body),
        (good, other + b"!" if other == body else other),
    ):
        with refused(401):
            verify(bad, content)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 30)), max_size=40))
def test_a_signature_is_taken_once_while_its_time_would_be_accepted(steps: list[tuple[int, float]]) -> None:
    seen, now, since = SeenSignatures(60, 1000), 0.0, dict[int, float]()
    for number, passed in steps:
        now += passed
        is_new = seen.add(sign(SECRET, str(number), b""), now)
        assert is_new == (number not in since or since[number] + 60 < now)
        if is_new:
            since[number] = now


def test_signatures_are_kept_in_bounded_memory_and_may_be_forgotten() -> None:
    seen = SeenSignatures(60, 2)
    first, second, third = (sign(SECRET, str(n), b"") for n in range(3))
    assert [seen.add(s, 0) for s in (first, second, third, first)] == [True, True, True, True]
    seen.forget(first)
    assert seen.add(first, 0)
    assert not seen.add(first, 0)


# --- limits


@given(
    st.floats(0.5, 1000),
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 500)), min_size=1, max_size=60),
)
def test_a_rate_holds_in_the_long_run(rate: float, burst: int, asked: list[tuple[float, int]]) -> None:
    bucket, now, taken, last = TokenBucket(rate, burst, 0.0), 0.0, 0, 0
    for passed, events in asked:
        now += passed
        wait = bucket.wait_s(now)
        if wait == 0:
            bucket.take(events)
            taken, last = taken + events, events
        else:
            assert bucket.wait_s(now + wait * 1.000001 + 1e-6) == 0
            now += wait * 1.000001 + 1e-6
    assert taken - last <= burst + rate * now + 1e-6


def test_no_more_bytes_are_in_flight_than_the_limit() -> None:
    room = InFlight(200_000)
    with room.reserve("bank") as of_bank:
        of_bank(80_000)
        with refused(503), room.reserve("bank"):  # half of it is a partner's share
            pass
        with room.reserve("shop") as of_shop:
            of_shop(80_000)
            assert room.bytes <= room.limit
            with refused(503), room.reserve("third"):
                pass
        with refused(503), room.reserve("shop") as of_shop:
            for _ in range(10):
                of_shop(20_000)
    assert room.bytes == 0


def test_what_is_only_announced_takes_no_room() -> None:
    room = InFlight(64 * 1024 * 1024)
    with ExitStack() as under_way:
        for _ in range(1_000):
            under_way.enter_context(room.reserve("bank"))
        with room.reserve("bank") as take:
            take(4 * 1024 * 1024)
    assert room.bytes == 0


@given(st.lists(st.integers(0, 300_000), min_size=1, max_size=200))
def test_a_batch_is_judged_in_turns_of_few_events_and_few_bytes(sizes: list[int]) -> None:
    events = [b"x" * size for size in sizes]
    turns = list(_turns(events))
    assert [event for turn in turns for event in turn] == events
    assert all(turn and len(turn) <= 50 for turn in turns)
    assert all(len(turn) == 1 or sum(map(len, turn)) <= 128 * 1024 for turn in turns)


def test_a_trace_is_taken_over_only_as_it_is_always_written() -> None:
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    parent = parent_of({"traceparent": good})
    assert parent is not None and trace.get_current_span(parent).get_span_context().trace_id
    card = good.replace("b7ad6b7169203331", PAN)
    for odd in ("", good + "-more", good.upper(), "0 " * 30_000, card):
        assert parent_of({"traceparent": odd}) is None


# --- batches


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.lists(values, min_size=1, max_size=5), st.sampled_from(["", " ", "\n\t "]))
def test_an_array_is_cut_into_the_bytes_of_its_values(several: list[Any], space: str) -> None:
    texts = [json.dumps(value, indent=1) for value in several]
    body = (space + "[" + space + f"{space},{space}".join(texts) + space + "]" + space).encode()
    batch = batch_of(body, "application/json; charset=utf-8", 5)
    assert batch.events == [text.encode() for text in texts]
    assert not batch.is_single


@given(
    st.binary(max_size=80), st.sampled_from(["", "application/json", "application/x-ndjson", "text/plain"])
)
def test_any_bytes_are_cut_or_refused(body: bytes, kind: str) -> None:
    try:
        batch = batch_of(body, kind, 10)
    except Refusal as refusal:
        assert refusal.status in {400, 413, 415}
    else:
        assert batch.events


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "", 400),
        (b" \n ", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"[{}", "application/json", 400),
        (b"[NaN]", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\n\n", "application/x-ndjson", 400),
        (b"{}", "text/plain", 415),
        (b"[1,2,3]", "application/json", 413),
        (b"1\n2\n3", "application/x-ndjson", 413),
    ],
)
def test_a_body_that_is_no_batch_is_refused(body: bytes, kind: str, status: int) -> None:
    with refused(status):
        batch_of(body, kind, 2)


def test_an_array_of_millions_of_values_is_refused_before_a_list_of_them_is_made() -> None:
    with refused(413):
        batch_of(b"[" + b"1," * 2_000_000 + b"1]", "", 10_000)
    dense = b'{"a":[' + b"1," * 5_000 + b"1]}"
    assert len(batch_of(b"[" + b",".join([dense] * 40) + b"]", "", 40).events) == 40


def test_lines_are_events_and_blank_ones_are_none() -> None:
    batch = batch_of(b'{"a":1}\r\n\n {"b"\n', "application/x-ndjson", 2)
    assert batch == ([b'{"a":1}', b'{"b"'], False)
    assert batch_of(b' {"a":1}', "", 1).is_single


# --- one event


def intake() -> Intake:
    return Intake(IngestClock(), KEYS)


def test_an_event_keeps_its_own_bytes_and_gets_the_headers_of_every_sender() -> None:
    raw = wire_now(note="Ω") + b"  "
    taken = intake().take(raw, "bank", "refuse")
    assert isinstance(taken, Taken)
    assert taken.message == message_of(raw, "bank")
    assert taken.event_id == event_id("e1")


def test_only_a_missing_ingest_time_is_added() -> None:
    raw = wire_now(ingest_ts=...)
    taken = intake().take(raw, "bank", "refuse")
    assert isinstance(taken, Taken)
    start, stamp, rest = taken.message.value[:13], taken.message.value[13:42], taken.message.value[42:]
    assert (start, rest) == (b'{"ingest_ts":', b"," + raw[1:])
    assert abs(datetime.fromisoformat(json.loads(stamp)) - datetime.now(UTC)) < timedelta(minutes=1)
    null = intake().take(wire_now(ingest_ts=None), "bank", "refuse")
    assert isinstance(null, Rejected)


@given(st.lists(st.integers(0, 10**19), min_size=2, max_size=30))
def test_times_of_arrival_rise_whatever_the_clock_does(readings: list[int]) -> None:
    clock = iter(readings)
    ours = IngestClock(lambda: next(clock) % 10**18)
    times = [ours.next() for _ in readings]
    assert times == sorted(set(times))


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b"", "unreadable"),
        (b"nul", "unreadable"),
        (b"[]", "not_an_object"),
        (b'{"a": NaN}', "unreadable"),
        (b'{"a": 1e400}', "missing"),
        (b'{"a": 1, "a": 2}', "duplicate_field"),
        (b'{"a": "\xff"}', "not_utf8"),
        (b'{"a":' * 50 + b"1" + b"}" * 50, "too_deep"),
        (b'{"a": "' + b"x" * 300_000 + b'"}', "too_large"),
        (b'{"a": "\\ud800"}', "missing"),
        (b"{}", "missing"),
    ],
)
def test_poison_is_rejected_with_its_rule(raw: bytes, rule: str) -> None:
    rejected = intake().take(raw, "bank", "refuse")
    assert isinstance(rejected, Rejected)
    assert rule in {reason.rule for reason in rejected.reasons}
    assert rejected.event_id is None


def test_every_reason_is_told_and_no_value() -> None:
    rejected = intake().take(wire_now(amount="-1", currency="XXX"), "bank", "refuse")
    assert isinstance(rejected, Rejected)
    assert {reason.field for reason in rejected.reasons} == {"amount", "currency"}
    assert rejected.event_id == event_id("e1")


def test_a_card_number_is_refused_or_replaced_as_the_partner_wants_it() -> None:
    for change in ({"card_id": PAN}, {"attributes": {PAN: 1}}, {"note": "x 4111-1111-1111-1111"}):
        raw = wire_now(**change)
        rejected = intake().take(raw, "bank", "refuse")
        assert rejected == Rejected((Reason("card_number", "", "the event holds a card number in clear"),))
        taken = intake().take(raw, "shop", "tokenise")
        assert isinstance(taken, Taken)
        assert not holds_card_number(parse_json(taken.message.value))
        assert b"tok_a_" in taken.message.value


def test_a_card_number_in_the_key_of_a_record_is_replaced_too() -> None:
    taken = intake().take(wire_now(account_id=PAN), "shop", "tokenise")
    assert isinstance(taken, Taken)
    assert taken.message.key is not None
    assert taken.message.key.startswith(b"tok_a_")


def test_replacing_a_card_number_does_not_mend_what_the_contract_refuses() -> None:
    verdict = intake().take(wire_now(merchant_id="shop-\ud83d", card_id=PAN), "shop", "tokenise")
    assert isinstance(verdict, Rejected) and [r.rule for r in verdict.reasons] == ["not_unicode"]


def test_what_grows_beyond_the_limit_by_what_we_put_in_is_refused_at_the_door() -> None:
    def padded(size: int) -> bytes:
        empty = wire_now(ingest_ts=..., attributes={"x": ""})
        return wire_now(ingest_ts=..., attributes={"x": "a" * (size - len(empty))})

    assert isinstance(intake().take(padded(MAX_BYTES - 100), "shop", "refuse"), Taken)
    verdict = intake().take(padded(MAX_BYTES), "shop", "refuse")
    assert isinstance(verdict, Rejected) and [r.rule for r in verdict.reasons] == ["too_large"]


def test_an_event_sent_again_after_a_rotation_of_keys_has_the_same_tokens() -> None:
    raw = wire_now(card_id=PAN)
    newer = TokenKey("b", datetime.now(UTC) + timedelta(seconds=1), b"l" * 32)
    before = Intake(IngestClock(), KEYS).take(raw, "shop", "tokenise")
    after = Intake(IngestClock(), (*KEYS, newer)).take(raw, "shop", "tokenise")
    assert before == after


@given(st.binary(max_size=60) | values.map(lambda v: json.dumps(v).encode()))
def test_any_bytes_are_taken_or_rejected(raw: bytes) -> None:
    for policy in ("refuse", "tokenise"):
        assert isinstance(intake().take(raw, "s", policy), Rejected)  # type: ignore[arg-type]


# --- answers


def test_the_status_tells_what_became_of_the_whole() -> None:
    taken = Taken(event_id("e1"), message_of(b"{}", "bank"))
    broken = Rejected((Reason("missing", "amount", "amount is required"),), event_id("e2"))
    unreadable = Rejected((Reason("unreadable", "", "not JSON"),), is_unreadable=True)
    assert results_of([taken, broken], "r", False).status == 202
    assert results_of([broken], "r", True).status == 422
    assert results_of([unreadable], "r", True).status == 400
    assert results_of([unreadable], "r", False).status == 422
    assert results_of([intake().take(b" " * MAX_BYTES + b"1", "bank", "refuse")], "r", True).status == 413
    told = json.loads(results_of([taken, broken], "r", False).body)
    assert (told["accepted"], told["rejected"], told["request_id"]) == (1, 1, "r")
    assert told["results"][0] == {"index": 0, "status": "accepted", "event_id": event_id("e1")}
    assert told["results"][1]["reasons"][0]["rule"] == "missing"


def test_a_request_that_comes_again_gets_the_answer_it_missed() -> None:
    answers, answer = Answers(60, 10_000), Answer(202, b"{}")
    first = answers.begin("bank", "k", b"body", 0)
    assert first.answer is None
    with refused(409):
        answers.begin("bank", "k", b"body", 0)
    answers.end(first, answer)
    assert answers.begin("bank", "k", b"body", 60).answer == answer
    with refused(422):
        answers.begin("bank", "k", b"other", 0)
    assert answers.begin("shop", "k", b"body", 0).answer is None
    second = answers.begin("bank", "k", b"body", 61)
    assert second.answer is None
    answers.end(second, None)
    assert answers.begin("bank", "k", b"other", 61).answer is None


def test_a_request_that_was_forgotten_does_not_answer_for_another_of_its_key() -> None:
    answers = Answers(60, 10_000)
    forgotten = answers.begin("bank", "k", b"body", 0)
    other = answers.begin("bank", "k", b"other", 61)
    answers.end(forgotten, Answer(202, b"first"))
    with refused(409):
        answers.begin("bank", "k", b"other", 61)
    answers.end(other, Answer(202, b"second"))
    assert answers.begin("bank", "k", b"other", 61).answer == Answer(202, b"second")


def test_answers_are_kept_in_bounded_memory() -> None:
    answers = Answers(60, 2_000)
    for number in range(100):
        answers.end(answers.begin("bank", str(number), b"", 0), Answer(202, b"x" * 400))
    assert answers.begin("bank", "99", b"", 0).answer
    assert answers.begin("bank", "0", b"", 0).answer is None


@pytest.mark.parametrize("key", ["", "a b", "x" * 129, "ü"])
def test_an_unfit_idempotency_key_is_refused(key: str) -> None:
    with refused(400):
        Answers(60, 1000).begin("bank", key, b"", time.monotonic())
