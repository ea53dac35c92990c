"""The gateway as an ASGI application: who may send, how much, and what each request is answered.

Belongs here: the order in which a request is looked at. Does not: each look itself (the modules beside it),
the server (`server.py`), settings.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import structlog
from opentelemetry import propagate, trace
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from quality.card_tokens import TokenKey
from streaming.gateway import telemetry
from streaming.gateway.answers import problem_of, results_of
from streaming.gateway.batch import Batch, batch_of
from streaming.gateway.body import Body, SenderGone, too_large
from streaming.gateway.idempotency import Answer, Answers
from streaming.gateway.intake import IngestClock, Intake, Taken, Verdict
from streaming.gateway.limits import InFlight, TokenBucket
from streaming.gateway.link import KafkaLink, unavailable
from streaming.gateway.openapi import document, page
from streaming.gateway.refusal import Refusal
from streaming.gateway.signature import Caller, SeenSignatures, caller_of, verify
from streaming.message import Headers
from streaming.partners.registry import Registry

_EVENTS_PER_TURN = 50
_SIGNATURES = 500_000
_PROMETHEUS = "text/plain; version=0.0.4"
_log = structlog.get_logger("paywave.gateway")


@dataclass(frozen=True)
class GatewayConfig:
    """Everything that a gateway needs, as plain values; bytes and seconds as named."""

    topic: str
    kafka: Mapping[str, str] = field(repr=False)
    registry: Registry
    secrets: Mapping[str, bytes] = field(repr=False)
    token_keys: Sequence[TokenKey] = ()
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
        self._intake = Intake(IngestClock(), config.token_keys)
        self._buckets = {
            name: TokenBucket(p.rate, p.burst, time.monotonic())
            for name, p in config.registry.partners.items()
        }
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

    async def answer(self, request: Request, read: Body, request_id: str) -> Answer:
        """Take in the events of one request. Raises Refusal, SenderGone."""
        config, headers = self.config, request.headers
        caller = caller_of(headers, config.registry, config.secrets, time.time(), config.signature_window_s)
        self._admit(caller)
        with self.in_flight.reserve(_announced_size(headers, config.max_body_bytes)):
            body = await read.read(config.max_body_bytes, config.body_timeout_s)
            verify(caller, body)
            return await self._once(caller, request, body, request_id)

    def _admit(self, caller: Caller) -> None:
        """Refuse what can be refused before the body is read."""
        self._refuse_over_rate(caller)
        if not self.is_ready:
            raise unavailable("the gateway ends" if self.is_draining else "Kafka cannot be reached")

    def _refuse_over_rate(self, caller: Caller) -> None:
        if wait := self._buckets[caller.name].wait_s(time.monotonic()):
            said = f"more than {caller.partner.rate:g} events a second"
            raise Refusal(429, "rate", said, wait)

    async def _once(self, caller: Caller, request: Request, body: bytes, request_id: str) -> Answer:
        """Answer a request that came before as it was answered then; see that others come once."""
        key, now = request.headers.get("idempotency-key"), time.monotonic()
        if key is not None and (known := self._answers.begin(caller.name, key, body, now)):
            return known
        answer = None
        try:
            if not self._seen.add(caller.signature, now):
                raise Refusal(
                    401, "replayed", "this signature was taken in before; sign it anew to send it again"
                )
            try:
                answer = await self._take_in(caller, request, body, request_id)
            finally:
                if answer is None or answer.status != 202:  # nothing came of it
                    self._seen.forget(caller.signature)
        finally:
            if key is not None:
                self._answers.end(caller.name, key, answer)
        return answer

    async def _take_in(self, caller: Caller, request: Request, body: bytes, request_id: str) -> Answer:
        batch = batch_of(body, request.headers.get("content-type", ""), self.config.max_events)
        self._refuse_over_rate(caller)
        self._buckets[caller.name].take(len(batch.events))
        verdicts = await self._judge(batch, caller)
        taken = [verdict.message for verdict in verdicts if isinstance(verdict, Taken)]
        if taken:
            attributes = telemetry.sending_attributes(self.config.topic, len(taken))
            with telemetry.tracer().start_as_current_span(
                f"send {self.config.topic}", kind=trace.SpanKind.PRODUCER, attributes=attributes
            ):
                self.instruments.sent(await self.link.send(taken, _trace_headers()))
        self.instruments.judged(caller.name, len(taken), len(verdicts) - len(taken))
        return results_of(verdicts, request_id, batch.is_single)

    async def _judge(self, batch: Batch, caller: Caller) -> list[Verdict]:
        """Judge the events, a few at a time: other requests get their turn."""
        partner, verdicts = caller.partner, list[Verdict]()
        for number, raw in enumerate(batch.events, start=1):
            verdicts.append(self._intake.take(raw, partner.source, partner.card_numbers))
            if number % _EVENTS_PER_TURN == 0:
                await asyncio.sleep(0)
        return verdicts


class EventsEndpoint:
    """`POST /v1/events`: from ASGI to an answer, whatever happens in between."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, started = Request(scope, receive), time.perf_counter()
        request_id = new_request_id()
        with telemetry.tracer().start_as_current_span(
            telemetry.SERVER_SPAN,
            context=propagate.extract(request.headers),
            kind=trace.SpanKind.SERVER,
            attributes=telemetry.SERVER_ATTRIBUTES,
        ) as span:
            try:
                response, code = await self._respond(request, request_id)
            except SenderGone:
                return
            span.set_attribute(telemetry.STATUS_CODE, response.status_code)
            seconds = time.perf_counter() - started
            self._gateway.instruments.answered(response.status_code, seconds, code)
            if code:
                _log.info("refused", request_id=request_id, status=response.status_code, code=code)
            await response(scope, receive, send)

    async def _respond(self, request: Request, request_id: str) -> tuple[Response, str | None]:
        body = Body(request.receive)
        try:
            answer = await self._gateway.answer(request, body, request_id)
        except Refusal as refusal:
            await body.discard()
            response = problem(refusal, request_id)
            if not body.is_over:  # the next request would begin in the middle of this one
                response.headers["connection"] = "close"
            return response, refusal.code
        except (SenderGone, asyncio.CancelledError):
            raise
        except Exception as error:
            # Only its type: its text might hold what was sent.
            _log.error("failed", request_id=request_id, error=type(error).__name__)
            return problem(unavailable("the gateway failed"), request_id), "failed"
        return Response(answer.body, answer.status, _json(request_id)), None


def make_app(config: GatewayConfig, metrics_page: Callable[[], bytes]) -> Starlette:
    """Make the application. `metrics_page` gives the metrics in Prometheus' text format."""
    gateway = Gateway(config)

    async def ready(_request: Request) -> Response:
        status = 200 if gateway.is_ready else 503
        return JSONResponse(
            {"ready": gateway.is_ready}, status, {"retry-after": "2"} if status == 503 else None
        )

    async def healthy(_request: Request) -> Response:
        return JSONResponse({"healthy": not gateway.link.is_broken}, 503 if gateway.link.is_broken else 200)

    described = document(config.max_body_bytes, config.max_events)
    routes = [
        Route(telemetry.ROUTE, EventsEndpoint(gateway), methods=["POST"]),
        Route("/healthz", healthy),
        Route("/readyz", ready),
        Route("/metrics", _page(lambda: PlainTextResponse(metrics_page(), media_type=_PROMETHEUS))),
        Route("/openapi.json", _page(lambda: JSONResponse(described))),
        Route("/docs", _page(lambda: HTMLResponse(page(described)))),
    ]
    return Starlette(
        routes=routes, lifespan=_lifespan(gateway), exception_handlers={HTTPException: _not_here}
    )


def new_request_id() -> str:
    """Return an id to find a request in the logs by. It may be guessed, and so costs no system call."""
    return f"{random.getrandbits(128):032x}"


def problem(refusal: Refusal, request_id: str) -> Response:
    """A refusal as a response."""
    headers = {"content-type": "application/problem+json", "x-request-id": request_id}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["www-authenticate"] = "PayWave-HMAC-SHA256"
    return Response(problem_of(refusal, request_id), refusal.status, headers)


def _lifespan(gateway: Gateway) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        gateway.link.start()
        _log.info("gateway started", topic=gateway.config.topic)
        yield
        gateway.is_draining = True
        left = await asyncio.to_thread(gateway.link.stop, gateway.config.drain_s)
        _log.info("gateway ended", given_up=left)

    return lifespan


async def _not_here(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = "there is nothing at this path" if error.status_code == 404 else "not this method"
    response = problem(Refusal(error.status_code, "not_here", said), new_request_id())
    response.headers.update(error.headers or {})
    return response


def _announced_size(headers: Mapping[str, str], most: int) -> int:
    """What the sender says is to come; the most that is taken, where it says nothing."""
    text = headers.get("content-length", "")
    if not text.isdecimal():
        return most
    if len(text) > 12 or int(text) > most:
        raise too_large(most)
    return int(text)


def _page(make: Callable[[], Response]) -> Callable[[Request], Awaitable[Response]]:
    async def shown(_request: Request) -> Response:
        return make()

    return shown


def _json(request_id: str) -> dict[str, str]:
    return {"content-type": "application/json", "x-request-id": request_id}


def _trace_headers() -> Headers:
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple((name, value.encode()) for name, value in carrier.items())
