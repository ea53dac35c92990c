"""Small builders of events for the tests of the pure core."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from lakehouse.fold import Coordinates, Version, record
from quality.contract import HISTORY, Event
from quality.judge import judge

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
KAFKA_TS = NOON + timedelta(hours=1)
# The same in one run: an event's time never changes.
AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)
TOPIC_ID = "topic-1"
_offsets = count()


def event_id(name: str) -> str:
    """A UUID that is the same for the same short name."""
    return str(uuid5(NAMESPACE_URL, name))


def wire(name: str = "e1", *, minute: int = 0, **changes: Any) -> bytes:
    """An event's JSON; `minute` is when it was ingested after noon, `changes` replace fields."""
    fields = {
        "event_id": event_id(name),
        "event_type": "CAPTURE",
        "event_ts": "2026-11-20T12:00:00.000001Z",
        "ingest_ts": (NOON + timedelta(minutes=minute)).isoformat(),
        "account_id": "acct-1",
        "card_id": "card-1",
        "merchant_id": "shop-1",
        "amount": "100.00",
        "currency": "USD",
        "network": "VISA",
        "status": "APPROVED",
        "attributes": {},
    }
    if "original" in changes:
        changes["original_event_id"] = event_id(changes.pop("original"))
    return json.dumps({k: v for k, v in (fields | changes).items() if v is not ...}).encode()


def wire_now(name: str = "e1", *, minute: int = 0, **changes: Any) -> bytes:
    """An event's JSON for whatever holds it against the clock: as `wire`, but an hour old."""
    times = {
        "event_ts": AN_HOUR_AGO.isoformat(),
        "ingest_ts": (AN_HOUR_AGO + timedelta(minutes=minute)).isoformat(),
    }
    return wire(name, **(times | changes))


def valid(data: bytes) -> Event:
    """Judge and insist that it is good."""
    verdict = judge(data, KAFKA_TS, HISTORY[0])
    assert isinstance(verdict, Event), verdict
    return verdict


def copy(name: str = "e1", **changes: Any) -> Version:
    """A valid record at the next offset of partition 0."""
    return record(valid(wire(name, **changes)), Coordinates(TOPIC_ID, 0, next(_offsets)))
