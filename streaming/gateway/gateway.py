"""One gateway: the order in which a request is looked at, from its headers to Kafka's acknowledgement.

Belongs here: that order, and the state it needs. Does not: each look itself (the modules beside it), how
answers leave (`app.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from opentelemetry import trace

from lakehouse.errors import KeyringUnavailable
from lakehouse.keyring import CachedKeys, KeyringConfig
from quality.card_tokens import TokenKey
from streaming.gateway import telemetry
from streaming.gateway.answers import results_of
from streaming.gateway.batch import Batch, batch_of
from streaming.gateway.body import Body, too_large
from streaming.gateway.idempotency import Answer, Answers
from streaming.gateway.intake import IngestClock, Intake, Judged, Rejected, Taken, Verdict
from streaming.gateway.limits import InFlight, TokenBucket
from streaming.gateway.link import KafkaLink, unavailable
from streaming.gateway.refusal import Refusal
from streaming.gateway.signature import Caller, SeenSignatures, caller_of, verify
from streaming.partners.registry import Registry
from streaming.trace import trace_headers

_EVENTS_PER_TURN = 50
_BYTES_PER_TURN = 128 * 1024
_SIGNATURES = 500_000
_log = structlog.get_logger("paywave.gateway")


@dataclass(frozen=True)
class GatewayConfig:
    """Everything that a gateway needs, as plain values; bytes and seconds as named."""

    topic: str
    kafka: Mapping[str, str] = field(repr=False)
    registry: Registry
    secrets: Mapping[str, bytes] = field(repr=False)
    token_keys: Sequence[TokenKey] = ()
    keyring: KeyringConfig | None = None
    max_body_bytes: int = 4 * 1024 * 1024
    max_events: int = 10_000
    max_in_flight_bytes: int = 64 * 1024 * 1024
    body_timeout_s: float = 10
    delivery_timeout_s: float = 10
    signature_window_s: float = 300
    idempotency_s: float = 24 * 3600
    idempotency_bytes: int = 32 * 1024 * 1024
    drain_s: float = 20


class Gateway:
    """The state of one gateway: its link to Kafka, its limits, its short memory."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.link = KafkaLink(config.topic, config.kafka, config.delivery_timeout_s)
        self.in_flight = InFlight(config.max_in_flight_bytes)
        self.is_draining = False
        self._keys = config.keyring.cached_keys() if config.keyring is not None else None
        self._intake = Intake(IngestClock(), config.token_keys, self._keys)
        self._buckets = {
            name: TokenBucket(p.rate, p.burst, time.monotonic())
            for name, p in config.registry.partners.items()
        }
        self._large_batch = asyncio.Lock()
        # Accepted timestamps lie up to one window before now and one after.
        self._seen = SeenSignatures(2 * config.signature_window_s, _SIGNATURES)
        self._answers = Answers(config.idempotency_s, config.idempotency_bytes)
        self.instruments = telemetry.Instruments(
            config.topic,
            {
                "paywave.gateway.in_flight": lambda: self.in_flight.bytes,
                "paywave.gateway.unacknowledged": lambda: self.link.waiting,
                "paywave.gateway.ready": lambda: int(self.is_ready),
            },
        )

    @property
    def is_ready(self) -> bool:
        """Whether events are taken in."""
        return self.link.is_ready and not self.is_draining

    async def answer(self, headers: Mapping[str, str], read: Body, request_id: str) -> Answer:
        """Take in the events of one request, its headers by lower-case name. Raises Refusal, SenderGone."""
        config = self.config
        caller = caller_of(headers, config.registry, config.secrets, time.time(), config.signature_window_s)
        self._admit(caller)
        _refuse_announced(headers, config.max_body_bytes)
        with self.in_flight.reserve(caller.name) as take_room:
            body = await read.read(config.max_body_bytes, config.body_timeout_s, take_room)
            verify(caller, body)
            return await self._once(caller, headers, body, request_id)

    def _admit(self, caller: Caller) -> None:
        """Refuse what can be refused before the body is read."""
        self._refuse_over_rate(caller)
        if not self.is_ready:
            raise unavailable("the gateway ends" if self.is_draining else "Kafka cannot be reached")

    def _refuse_over_rate(self, caller: Caller) -> None:
        if wait := self._buckets[caller.name].wait_s(time.monotonic()):
            said = f"more than {caller.partner.rate:g} events a second"
            raise Refusal(429, "rate", said, wait)

    async def _once(self, caller: Caller, headers: Mapping[str, str], body: bytes, request_id: str) -> Answer:
        """Answer a request that came before as it was answered then; see that others come once."""
        key, now = headers.get("idempotency-key"), time.monotonic()
        kept = None if key is None else self._answers.begin(caller.name, key, body, now)
        if kept is not None and kept.answer is not None:
            return kept.answer
        answer = None
        try:
            if not self._seen.add(caller.signature, now):
                raise Refusal(
                    401, "replayed", "this signature was taken in before; sign it anew to send it again"
                )
            try:
                answer = await self._take_in(caller, headers.get("content-type", ""), body, request_id)
            finally:
                if answer is None or answer.status != 202:  # nothing came of it
                    self._seen.forget(caller.signature)
        finally:
            if kept is not None:
                self._answers.end(kept, answer)
        return answer

    async def _take_in(self, caller: Caller, content_type: str, body: bytes, request_id: str) -> Answer:
        self._refuse_over_rate(caller)
        self._buckets[caller.name].take(1)  # for the work of looking, also where no event comes of it
        batch = batch_of(body, content_type, self.config.max_events)
        self._buckets[caller.name].take(len(batch.events) - 1)
        verdicts = await self._judge(batch, caller)
        taken = [verdict.message for verdict in verdicts if isinstance(verdict, Taken)]
        if taken:
            attributes = telemetry.sending_attributes(self.config.topic, len(taken))
            with telemetry.tracer().start_as_current_span(
                f"send {self.config.topic}", kind=trace.SpanKind.PRODUCER, attributes=attributes
            ):
                self.instruments.sent(await self.link.send(taken, trace_headers()))
        self.instruments.judged(caller.name, len(taken), len(verdicts) - len(taken))
        return results_of(verdicts, request_id, batch.is_single)

    async def _judge(self, batch: Batch, caller: Caller) -> list[Verdict]:
        """Judge the events. A large batch lets smaller requests pass, and the next large one wait."""
        turns = list(_turns(batch.events))
        if len(turns) == 1:
            return await self._judge_some(turns[0], caller)
        verdicts = list[Verdict]()
        # One after the other: judged side by side, all of them would be answered when the last one is.
        async with self._large_batch:
            for events in turns:
                verdicts += await self._judge_some(events, caller)
                await asyncio.sleep(0)
        return verdicts

    async def _judge_some(self, events: list[bytes], caller: Caller) -> list[Verdict]:
        partner = caller.partner
        judged = [
            self._intake.judge(raw, partner.source, partner.card_numbers, personal=partner.personal)
            for raw in events
        ]
        try:
            if self._keys is not None:
                await _fetch_keys(self._keys, judged)
            return [one if isinstance(one, Rejected) else self._intake.wrap(one) for one in judged]
        except KeyringUnavailable as error:
            _log.error("keyring unavailable", why=str(error))
            raise unavailable("the keys of personal fields cannot be reached") from None


async def _fetch_keys(keys: CachedKeys, judged: list[Judged | Rejected]) -> None:
    """Have the keys at hand before sealing begins: a keyring's disk must not keep other requests waiting."""
    wanted = (one.event.account_id for one in judged if isinstance(one, Judged) and one.has_personal)
    if missing := keys.missing(wanted):
        await asyncio.to_thread(keys.fetch, missing)


def _turns(events: list[bytes]) -> Iterator[list[bytes]]:
    """Cut a batch into what is judged without letting others pass: few events, and few bytes of them."""
    turn, size = list[bytes](), 0
    for event in events:
        if turn and (len(turn) == _EVENTS_PER_TURN or size + len(event) > _BYTES_PER_TURN):
            yield turn
            turn, size = [], 0
        turn.append(event)
        size += len(event)
    yield turn


def _refuse_announced(headers: Mapping[str, str], most: int) -> None:
    """Refuse what the sender itself says is too large, before it comes."""
    text = headers.get("content-length", "")
    if text.isdecimal() and (len(text) > 12 or int(text) > most):
        raise too_large(most)
