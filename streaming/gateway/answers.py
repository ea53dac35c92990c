"""What a request is answered: results per event, or why it was refused (RFC 9457), as JSON.

Belongs here: statuses and bodies. Does not: how they come about (`app.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from streaming.gateway.idempotency import Answer
from streaming.gateway.intake import TOO_LARGE, Taken, Verdict
from streaming.gateway.refusal import Refusal

_TITLES = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 409: "Conflict", 413: "Content Too Large", 415: "Unsupported Media Type",
    422: "Unprocessable Content", 429: "Too Many Requests", 503: "Service Unavailable",
}  # fmt: skip


class ReasonOut(msgspec.Struct):
    """One broken rule."""

    rule: str
    field: str
    message: str


class Result(msgspec.Struct, omit_defaults=True):
    """What became of one event."""

    index: int
    status: str
    event_id: str | None = None
    reasons: list[ReasonOut] = []


class Results(msgspec.Struct):
    """The answer to a request whose events were looked at."""

    request_id: str
    accepted: int
    rejected: int
    results: list[Result]


class Problem(msgspec.Struct):
    """The answer to a request that was refused as a whole."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str


_JSON = msgspec.json.Encoder()


def results_of(verdicts: Sequence[Verdict], request_id: str, is_single: bool) -> Answer:
    """Say what became of each event.

    202 if at least one was accepted; else 422. One alone has 400 if it is no JSON object, 413 if too large.
    """
    results = [_result(index, verdict) for index, verdict in enumerate(verdicts)]
    accepted = sum(isinstance(verdict, Taken) for verdict in verdicts)
    body = _JSON.encode(Results(request_id, accepted, len(results) - accepted, results))
    return Answer(_status(verdicts, accepted, is_single), body)


def problem_of(refusal: Refusal, request_id: str) -> bytes:
    """Say why a request was refused."""
    title = _TITLES.get(refusal.status, "Error")
    return _JSON.encode(
        Problem("about:blank", title, refusal.status, refusal.code, refusal.detail, request_id)
    )


def _status(verdicts: Sequence[Verdict], accepted: int, is_single: bool) -> int:
    if accepted:
        return 202
    first = verdicts[0]
    if not is_single or isinstance(first, Taken):
        return 422
    if any(reason.rule == TOO_LARGE for reason in first.reasons):
        return 413
    return 400 if first.is_unreadable else 422


def _result(index: int, verdict: Verdict) -> Result:
    if isinstance(verdict, Taken):
        return Result(index, "accepted", verdict.event_id)
    reasons = [ReasonOut(*reason) for reason in verdict.reasons]
    return Result(index, "rejected", verdict.event_id, reasons)
