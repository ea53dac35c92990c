"""What the dropzone measures: alerts by kind, files that are overdue now, and no name of a file in either."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from opentelemetry.metrics import CallbackOptions
from structlog.testing import capture_logs

from streaming.dropzone import telemetry
from streaming.dropzone.ledger import Entry, State

ENTRY = Entry(
    "bank", "day.csv", 3, State.OVERDUE, datetime(2026, 11, 23, tzinfo=UTC), "f", 10, reason="cut off"
)


def test_an_alert_is_counted_and_logged_and_what_is_overdue_is_a_gauge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[tuple[int, dict[str, str]]] = []
    monkeypatch.setattr(
        telemetry._alerts, "add", lambda count, attributes: counted.append((count, attributes))
    )
    with capture_logs() as said:
        telemetry.alert("overdue", ENTRY)
    assert counted == [(1, {"partner": "bank", "kind": "overdue"})]
    assert [(s["event"], s["log_level"], s["file"], s["reason"]) for s in said] == [
        ("file overdue", "warning", "day.csv", "cut off")
    ]
    for now in (2, 0):
        telemetry.overdue("bank", now)
        found = {
            o.attributes["partner"]: o.value for o in telemetry._observe(CallbackOptions()) if o.attributes
        }
        assert found["bank"] == now
