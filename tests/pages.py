"""What a quality page may be made from: an empty lake, one partner, thirty, and hostile names.

Belongs here: building the rows. Does not: what is shown of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from lakehouse.gates import GateEvent
from lakehouse.offsets import OffsetVector
from quality.history import Comparison
from quality.partner_hour import Anomaly
from streaming.quality_page.material import (
    Anomalies,
    Counted,
    Delay,
    DriftField,
    EventHour,
    Identity,
    MadeFrom,
    Material,
    Reason,
    Warned,
)

START = datetime(2026, 11, 19, 8, tzinfo=UTC)
END = START + timedelta(hours=40)
HOUR = timedelta(hours=1)
CARD = "4111 1111 1111 1111"
HOSTILE = (
    "<script>alert('x')</script>",
    '"><img src=x onerror=alert(1)>',
    f"card {CARD}",
    "x" * 500,
    "Crédit Lunaire 東京 $\\alpha$ 😀",
    "{{ 7 * 7 }} {% raw %}",
    "",
)


def material(**parts: Any) -> Material:
    made = MadeFrom({"curated.payments": 123, "quality.partner_hours": 456}, '{"topic":{"0":7}}', 1, END, 0)
    return Material(**{"start": START, "end": END, "made_at": END, "made_from": made, **parts})


def full(partners: Sequence[str]) -> Material:
    """A lake with something in every section, for each of these partners."""
    hours = [START + i * HOUR for i in range(40)]
    comparison = Comparison(0.5, 0.01, 0.0, 0.03, 7.2, 8)
    return material(
        counted=[
            Counted(hour, name, 1000 + i, 3, 900, 20 + i, 1)
            for i, name in enumerate(partners)
            for hour in hours
        ],
        duplicates={hours[3]: 12, hours[30]: 4},
        warned=[Warned("reference", name, 12) for name in partners],
        reasons=[
            Reason("enum", "currency", "currency: not a known value", name, 40, 30) for name in partners
        ],
        delays=[
            Delay(name, bound, 50)
            for name in partners
            for bound in (0.0, 0.75, 1.0, 2.4, 56.0, 3200.0, 100000.0)
        ],
        event_hours=[EventHour(START, 5000, 5, 0.999), EventHour(END - HOUR, 800, None, None)],
        identities=[identity("counts"), identity("sums", currency="EUR", event_type="CAPTURE")],
        gates=[gate(1, "held", source=partners[0])],
        drift=[DriftField("loyalty", name, "string", START + HOUR, 70) for name in partners],
        drift_hours={hours[5]: 70},
        anomalies=Anomalies(
            24, 900, 10, [Anomaly(hours[9], name, "quarantined share", comparison) for name in partners]
        ),
    )


def identity(name: str, **changes: Any) -> Identity:
    usual: dict[str, Any] = {
        "run": "r1",
        "made_at": END,
        "depth": "deep",
        "scope": "all records",
        "scope_from": None,
        "scope_to": None,
        "identity": name,
        "formula": f"{name}: left = right + rest",
        "currency": None,
        "event_type": None,
        "left": Decimal("120.0000"),
        "right": Decimal("120.0000"),
        "terms": {"right": "100", "rest": "20"},
        "state": "balanced",
        "first_break": None,
    }
    return Identity(**{**usual, **changes})


def gate(seq: int, event: str, name: str = "partner_surge", **changes: Any) -> GateEvent:
    usual: dict[str, Any] = {"reason": "half is broken", "actor": "curated", "starts": OffsetVector()}
    return GateEvent(event, name, seq=seq, at=START + seq * HOUR, **{**usual, **changes})
