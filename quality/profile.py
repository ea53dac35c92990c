"""What one record adds to the picture of its partner's hour: names of measures, and values to be counted.

Belongs here: what is counted. Does not: the counting (`streaming/profile/`), what is unusual (`history.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from quality.bins import bin_of
from quality.contract import Contract, Event
from quality.event_schema import KNOWN_ATTRIBUTES
from quality.warnings import warnings

RECORDS, BROKEN, VALID, LATE = "records", "broken", "valid", "late"
ABSENT, AMOUNT, DELAY = "absent", "amount", "delay"
WARNED = "warned"  # of a rule that the contract only warns of: a later version may refuse such records
# Measures whose values have shares of an hour's valid records.
CATEGORIES = ("event_type", "network", "status", "currency")
OPTIONAL = ("revision", "original_event_id", "transaction_ref")
_MILLISECOND, _HOUR = timedelta(milliseconds=1), timedelta(hours=1)
_names = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode  # the values are not looked at

Counted = tuple[str, str]


def of_record(
    event: Event | None, kafka_ts: datetime, closed_after: timedelta, contract: Contract
) -> Iterator[Counted]:
    """List what one record counts for, as measure and value.

    Args:
        event: None for a record that breaks the contract.
        closed_after: a record is late if Kafka took it when its event hour had ended so long before.
        contract: the version that judged it, and may warn.
    """
    yield RECORDS, ""
    if event is None:
        yield BROKEN, ""
        return
    yield VALID, ""
    for name in CATEGORIES:
        yield name, getattr(event, name)
    yield AMOUNT, f"{event.currency} {bin_of(event.amount)}"
    yield from _absent(event)
    delay = kafka_ts - event.event_ts
    yield DELAY, bin_of(Decimal(delay // _MILLISECOND).scaleb(-3))
    if kafka_ts >= _end_of_hour(event.event_ts) + closed_after:
        yield LATE, ""
    for warning in warnings(event, contract):
        yield WARNED, warning.rule


def _absent(event: Event) -> Iterator[Counted]:
    for name in OPTIONAL:
        if getattr(event, name) is None:
            yield ABSENT, name
    for name in KNOWN_ATTRIBUTES.keys() - _names(event.attributes):
        yield ABSENT, f"attributes.{name}"


def _end_of_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0) + _HOUR
