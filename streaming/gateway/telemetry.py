"""What the gateway measures: HTTP and messaging by OpenTelemetry's conventions, and its own.

Belongs here: instruments and names. Does not: exporters (`cli/telemetry.py`). Attributes are few and bounded:
never an id, a path as it came, or anything of an event.
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.url_attributes import URL_PATH, URL_SCHEME
from opentelemetry.semconv.schemas import Schemas

SCHEMA_URL = Schemas.V1_40_0.value
ROUTE = "/v1/events"
SERVER_SPAN = f"POST {ROUTE}"
SERVER_ATTRIBUTES = {HTTP_REQUEST_METHOD: "POST", HTTP_ROUTE: ROUTE, URL_PATH: ROUTE, URL_SCHEME: "http"}
STATUS_CODE = HTTP_RESPONSE_STATUS_CODE
# As the HTTP conventions give them.
_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]


def tracer() -> trace.Tracer:
    """The gateway's tracer, by pinned semantic conventions."""
    return trace.get_tracer("paywave.gateway", schema_url=SCHEMA_URL)


def sending_attributes(topic: str, count: int) -> dict[str, str | int]:
    """What a span of sending says, by the conventions for messaging (in development: names may change)."""
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": topic,
        "messaging.batch.message_count": count,
    }


class Instruments:
    """Counters and histograms of one gateway. `gauges` are read when somebody asks."""

    def __init__(self, topic: str, gauges: dict[str, Callable[[], float]]) -> None:
        meter = metrics.get_meter("paywave.gateway", schema_url=SCHEMA_URL)
        self._topic = topic
        self._duration = meter.create_histogram(
            "http.server.request.duration", "s", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._events = meter.create_counter(
            "paywave.gateway.events", "{event}", "Events by what became of them"
        )
        self._refusals = meter.create_counter(
            "paywave.gateway.refusals", "{request}", "Requests refused, by code"
        )
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}")
        for name, read in gauges.items():
            meter.create_observable_gauge(name, [_observed(read)])

    def answered(self, status: int, seconds: float, refused: str | None) -> None:
        """Count a request; `refused` is the code of its refusal."""
        attributes: dict[str, str | int] = {
            HTTP_REQUEST_METHOD: "POST",
            HTTP_ROUTE: ROUTE,
            STATUS_CODE: status,
        }
        if status >= 500:
            attributes[ERROR_TYPE] = str(status)
        self._duration.record(seconds, attributes)
        if refused:
            self._refusals.add(1, {"code": refused})

    def judged(self, partner: str, accepted: int, rejected: int) -> None:
        """Count the events of a request; the partner's name is from the registry."""
        self._events.add(accepted, {"partner": partner, "result": "accepted"})
        if rejected:
            self._events.add(rejected, {"partner": partner, "result": "rejected"})

    def sent(self, count: int) -> None:
        """Count messages that Kafka acknowledged."""
        self._sent.add(count, {"messaging.system": "kafka", "messaging.destination.name": self._topic})


def _observed(read: Callable[[], float]) -> Callable[[CallbackOptions], list[Observation]]:
    return lambda _options: [Observation(read())]
