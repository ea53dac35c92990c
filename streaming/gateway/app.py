"""The gateway as an ASGI application: its paths, and how an answer or a refusal leaves.

Belongs here: HTTP's side. Does not: what a request is asked (`gateway.py`), the server (`server.py`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from streaming.gateway import telemetry
from streaming.gateway.answers import problem_of
from streaming.gateway.body import Body, SenderGone
from streaming.gateway.gateway import Gateway, GatewayConfig
from streaming.gateway.link import unavailable
from streaming.gateway.openapi import document, page
from streaming.gateway.refusal import Refusal
from streaming.trace import parent_of

_PROMETHEUS = "text/plain; version=0.0.4"
_log = structlog.get_logger("paywave.gateway")


class EventsEndpoint:
    """`POST /v1/events`: from ASGI to an answer, whatever happens in between."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, request_id = time.perf_counter(), new_request_id()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with telemetry.tracer().start_as_current_span(
            telemetry.SERVER_SPAN,
            context=parent_of(headers),
            kind=trace.SpanKind.SERVER,
            attributes=telemetry.server_attributes(scope["scheme"]),
        ) as span:
            try:
                response, code = await self._respond(headers, Body(receive), request_id)
            except SenderGone:
                return
            span.set_attribute(telemetry.STATUS_CODE, response.status_code)
            seconds = time.perf_counter() - started
            self._gateway.instruments.answered(response.status_code, seconds, code)
            if code:
                _log.info("refused", request_id=request_id, status=response.status_code, code=code)
            await response(scope, receive, send)

    async def _respond(
        self, headers: Mapping[str, str], body: Body, request_id: str
    ) -> tuple[Response, str | None]:
        try:
            answer = await self._gateway.answer(headers, body, request_id)
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


def _page(make: Callable[[], Response]) -> Callable[[Request], Awaitable[Response]]:
    async def shown(_request: Request) -> Response:
        return make()

    return shown


def _json(request_id: str) -> dict[str, str]:
    return {"content-type": "application/json", "x-request-id": request_id}
