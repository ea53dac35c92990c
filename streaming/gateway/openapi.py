"""The gateway described: an OpenAPI document, and a page made of it.

Belongs here: what callers read. Does not: decide anything. Made from the contract, to keep up with it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import Any

import msgspec

from quality.contract import in_force
from quality.event_schema import event_schema
from streaming.gateway.answers import Problem, Results
from streaming.gateway.signature import KEY_HEADER, SIGNATURE_HEADER, TIME_HEADER

_SIGNING = (
    f"Each request carries `{KEY_HEADER}` (the key's id), `{TIME_HEADER}` (seconds since 1970) and "
    f"`{SIGNATURE_HEADER}`: `v1=` and the hex HMAC-SHA256 of `<timestamp>.<raw body>` by the key's secret. "
    "Sign anew for each attempt. With an `Idempotency-Key`, a request that is sent again gets the answer it "
    "missed. Without one, send it again all the same: an event counts once, however often it comes."
)
_STATUSES: dict[str, tuple[str, str]] = {
    "202": ("At least one event is accepted: Kafka holds it. Each event has its result", "Results"),
    "400": ("Unreadable: no JSON, no event, or an unfit Idempotency-Key", "Refused"),
    "401": ("Unsigned, wrongly signed, too old, or taken in before", "Problem"),
    "403": ("The partner may not send, or the key is not in force", "Problem"),
    "408": ("The body did not come in time", "Problem"),
    "409": ("The first request of this Idempotency-Key is under way", "Problem"),
    "413": ("Too many bytes or events: send them in parts", "Problem"),
    "415": ("Neither JSON nor NDJSON", "Problem"),
    "422": (
        "No event keeps the contract (each with every reason), or the Idempotency-Key was used",
        "Refused",
    ),
    "429": ("Over the partner's rate: wait for Retry-After", "Problem"),
    "503": ("Kafka cannot take it, or the gateway is busy: send it again after Retry-After", "Problem"),
}
_RETRY = {"429", "409", "503"}


def document(max_body_bytes: int, max_events: int) -> dict[str, Any]:
    """Return the OpenAPI document (3.1)."""
    _, schemas = msgspec.json.schema_components(
        [Results, Problem], ref_template="#/components/schemas/{name}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "PayWave gateway",
            "version": "1",
            "description": f"Payment events in. What is acknowledged is never lost.\n\n{_SIGNING}",
        },
        "paths": {
            "/v1/events": {"post": _post(max_body_bytes, max_events)},
            "/healthz": {"get": _get("Whether the process is well", "200", "503")},
            "/readyz": {"get": _get("Whether events are taken in", "200", "503")},
        },
        "components": {
            "schemas": {**schemas, "Event": _event(), "Refused": _any_of("Results", "Problem")},
            "securitySchemes": {
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": SIGNATURE_HEADER,
                    "description": _SIGNING,
                }
            },
        },
    }


def page(described: dict[str, Any]) -> str:
    """Return the document as a page that needs nothing else."""
    operation = described["paths"]["/v1/events"]["post"]
    event = described["components"]["schemas"]["Event"]
    statuses = "".join(
        f"<tr><td>{status}<td>{escape(answer['description'])}"
        for status, answer in operation["responses"].items()
    )
    fields = "".join(
        f"<tr><td><code>{name}</code><td>{'required' if name in event['required'] else ''}"
        f"<td>{escape(field.get('description', ''))}"
        for name, field in event["properties"].items()
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>PayWave gateway</title>"
        "<style>body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto}td{padding:.2em 1em .2em 0;"
        "vertical-align:top}</style><h1>PayWave gateway</h1>"
        f"<p>{escape(described['info']['description'])}<h2>POST /v1/events</h2>"
        f"<p>{escape(operation['description'])}"
        f"<h3>Answers</h3><table>{statuses}</table><h3>An event</h3><table>{fields}</table>"
        "<p>The same for programs: <a href=openapi.json>openapi.json</a></html>"
    )


def _post(max_body_bytes: int, max_events: int) -> dict[str, Any]:
    event = {"$ref": "#/components/schemas/Event"}
    several = {"type": "array", "items": event, "minItems": 1, "maxItems": max_events}
    return {
        "operationId": "postEvents",
        "summary": "Send one event, an array of events, or one event per line",
        "description": f"At most {max_body_bytes:,} bytes and {max_events:,} events. The answer comes after "
        "all in-sync replicas of Kafka have acknowledged what is accepted. A missing ingest_ts is added; "
        "otherwise the bytes of each event are kept as they are, card numbers aside.",
        "security": [{"signature": []}],
        "parameters": [
            _header(KEY_HEADER, {"type": "string"}, True),
            _header(TIME_HEADER, {"type": "string", "pattern": "^[0-9]{1,11}$"}, True),
            _header("Idempotency-Key", {"type": "string", "pattern": "^[!-~]{1,128}$"}, False),
            _header("traceparent", {"type": "string"}, False),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"oneOf": [event, several]}},
                "application/x-ndjson": {"schema": {"type": "string", "description": "One event per line"}},
            },
        },
        "responses": {status: _answer(status, *said) for status, said in _STATUSES.items()},
    }


def _answer(status: str, description: str, schema: str) -> dict[str, Any]:
    reference = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    media = ["application/json"] if schema == "Results" else ["application/problem+json"]
    media = ["application/json", "application/problem+json"] if schema == "Refused" else media
    retry = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    headers = {"headers": retry} if status in _RETRY else {}
    return {"description": description, "content": dict.fromkeys(media, reference), **headers}


def _get(summary: str, *statuses: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}}}
    answers = {status: {"description": summary, "content": content} for status in statuses}
    return {"summary": summary, "responses": answers}


def _header(name: str, schema: dict[str, Any], required: bool) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": required, "schema": schema}


def _any_of(*names: str) -> dict[str, Any]:
    return {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in names]}


def _event() -> dict[str, Any]:
    """The contract's own schema, as of now; what the gateway adds itself is not asked for."""
    schema = event_schema(in_force(datetime.now(UTC)))
    required = [name for name in schema["required"] if name != "ingest_ts"]
    own = {name: value for name, value in schema.items() if not name.startswith("$")}
    return {**own, "required": required}
