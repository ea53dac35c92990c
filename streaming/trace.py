"""The trace context on its way through Kafka.

Belongs here: the header that carries it. Does not: spans and metrics (where the work is).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from quality.cards import card_numbers
from streaming.message import Headers

# Only `traceparent`: other headers of a trace (tracestate, baggage) hold what callers like.
_HEADER = "traceparent"
_PROPAGATOR = TraceContextTextMapPropagator()
_WRITTEN = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def trace_headers() -> Headers:
    """The header that carries the span at hand; none where there is no span."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return ((_HEADER, carrier[_HEADER].encode()),) if _HEADER in carrier else ()


def parent_of(headers: Mapping[str, str]) -> Context | None:
    """Return a caller's span, from headers by lower-case name; None where there is no well-written one."""
    given = headers.get(_HEADER, "")
    # Nobody is known yet. An id of digits may be a card number: it would go on into logs and records.
    if not _WRITTEN.fullmatch(given) or card_numbers(given):
        return None
    return _PROPAGATOR.extract({_HEADER: given}, Context())
