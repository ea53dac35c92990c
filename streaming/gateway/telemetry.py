"""What the gateway measures: HTTP and messaging by OpenTelemetry's conventions, and its own.

Belongs here: instruments and names. Does not: exporters (`cli/telemetry.py`). Attributes are few and bounded:
never an id, a path as it came, or anything of an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache

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
_SERVER_ATTRIBUTES = {HTTP_REQUEST_METHOD: "POST", HTTP_ROUTE: ROUTE, URL_PATH: ROUTE}
STATUS_CODE = HTTP_RESPONSE_STATUS_CODE
_Attributes = tuple[tuple[str, str], ...]
_Counts = Counter[_Attributes]
# As the HTTP conventions give them.
_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]


@cache  # each asking makes another one, which costs as much as a span
def tracer() -> trace.Tracer:
    """The gateway's tracer, by pinned semantic conventions; asked for once telemetry has started."""
    return trace.get_tracer("paywave.gateway", schema_url=SCHEMA_URL)


def server_attributes(scheme: str) -> dict[str, str]:
    """What the span of a request says."""
    return {**_SERVER_ATTRIBUTES, URL_SCHEME: scheme}


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
    """What one gateway counts; `gauges` are read when somebody asks.

    Counts are added up here and read by OpenTelemetry when it is asked: recording each one costs as much as
    judging an event.
    """

    def __init__(self, topic: str, gauges: Mapping[str, Callable[[], float]]) -> None:
        meter = metrics.get_meter("paywave.gateway", schema_url=SCHEMA_URL)
        self._events, self._refusals, self._sent = _Counts(), _Counts(), _Counts()
        self._sent_to = _key({"messaging.system": "kafka", "messaging.destination.name": topic})
        self._duration = meter.create_histogram(
            "http.server.request.duration", "s", explicit_bucket_boundaries_advisory=_SECONDS
        )
        for name, unit, counts in (
            ("paywave.gateway.events", "{event}", self._events),
            ("paywave.gateway.refusals", "{request}", self._refusals),
            ("messaging.client.sent.messages", "{message}", self._sent),
        ):
            meter.create_observable_counter(name, [_observed_counts(counts)], unit)
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
            self._refusals[_key({"code": refused})] += 1

    def judged(self, partner: str, accepted: int, rejected: int) -> None:
        """Count the events of a request; the partner's name is from the registry."""
        self._events[_key({"partner": partner, "result": "accepted"})] += accepted
        self._events[_key({"partner": partner, "result": "rejected"})] += rejected

    def sent(self, count: int) -> None:
        """Count messages that Kafka acknowledged."""
        self._sent[self._sent_to] += count


def _key(attributes: dict[str, str]) -> _Attributes:
    return tuple(attributes.items())


def _observed_counts(counts: _Counts) -> Callable[[CallbackOptions], list[Observation]]:
    # A copy: another thread may read while the event loop adds a new key.
    return lambda _options: [Observation(count, dict(key)) for key, count in counts.copy().items()]


def _observed(read: Callable[[], float]) -> Callable[[CallbackOptions], list[Observation]]:
    return lambda _options: [Observation(read())]
