"""Starts OpenTelemetry for one command, so that what it sends carries a trace context.

Belongs here: choosing providers. Does not: spans and metrics themselves; each room records its own.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider


def start_telemetry() -> None:
    """Record spans, unless an agent or a test has chosen a provider; nothing is exported by itself."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(TracerProvider(resource=Resource.create({"service.name": "paywave"})))
