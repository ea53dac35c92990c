"""What the dropzone measures and whom it alerts. Attributes are few and bounded: never a name of a file.

Belongs here: instruments and log events. Does not: exporters (`cli/telemetry.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation

from streaming.dropzone.ledger import Entry

log = structlog.get_logger("paywave.dropzone")
_meter = metrics.get_meter("paywave.dropzone")
_files = _meter.create_counter("paywave.dropzone.files", "{file}", "Files by what became of them")
_rows = _meter.create_counter("paywave.dropzone.rows", "{row}", "Rows of files that are done, by result")
_alerts = _meter.create_counter(
    "paywave.dropzone.alerts", "{alert}", "Files that people must look at, by kind"
)
_overdue: dict[str, int] = {}


def _observe(_options: CallbackOptions) -> Iterable[Observation]:
    return [Observation(count, {"partner": partner}) for partner, count in _overdue.items()]


_meter.create_observable_gauge(
    "paywave.dropzone.files.overdue",
    [_observe],
    "{file}",
    "Files that should be complete by now, and are not",
)


def tracer() -> trace.Tracer:
    return trace.get_tracer("paywave.dropzone")


def settled(entry: Entry) -> None:
    """Count and log a file that was settled. Names in entries hold no card number."""
    _files.add(1, {"partner": entry.partner, "state": entry.state.value})
    for result, count in (("accepted", entry.accepted), ("rejected", entry.rejected)):
        if count and entry.state == "done":
            _rows.add(count, {"partner": entry.partner, "result": result})
    log.info(
        "file settled",
        partner=entry.partner, file=entry.name, version=entry.version, state=entry.state.value,
        sha256=entry.digest, rows=entry.rows, accepted=entry.accepted, rejected=entry.rejected,
        reason=entry.reason,
    )  # fmt: skip


def alert(kind: str, entry: Entry) -> None:
    """Tell people of a file: `overdue`, `rejected`, `unreadable` or `stuck`."""
    _alerts.add(1, {"partner": entry.partner, "kind": kind})
    log.warning(
        f"file {kind}", partner=entry.partner, file=entry.name, bytes=entry.bytes, reason=entry.reason
    )


def overdue(partner: str, count: int) -> None:
    """Say how many files of a partner are overdue right now."""
    _overdue[partner] = count
