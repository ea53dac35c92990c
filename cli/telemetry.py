"""Starts OpenTelemetry for one command, so that what it sends carries a trace context.

Belongs here: choosing providers and exporters. Does not: spans and metrics; each room records its own.
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import metrics, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider


def start_telemetry() -> None:
    """Record spans, unless an agent or a test has chosen a provider; nothing is exported by itself."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(TracerProvider(resource=_resource()))


def prometheus_page() -> Callable[[], bytes]:
    """Record metrics from now on; returns what gives them in Prometheus' text format."""
    # Loaded here: of all commands only a service shows its metrics.
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider
    from prometheus_client import REGISTRY, generate_latest

    metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()], resource=_resource()))
    return lambda: generate_latest(REGISTRY)


def _resource() -> Resource:
    return Resource.create({"service.name": "paywave"})
