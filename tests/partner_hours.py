"""Hours of partners that were not sent: a history for what needs weeks of it.

Belongs here: writing rows of quality.partner_hours. Does not: what is made of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa

from lakehouse.definitions import PARTNER_HOURS
from lakehouse.publish import Plan, Publisher, Stage
from lakehouse.refs import Head
from lakehouse.staging import append
from streaming.frames import few
from streaming.profile.count import SCHEMA
from tests.pipeline import Pipeline


def plant(pipeline: Pipeline, hours: Mapping[tuple[datetime, str], tuple[int, int]]) -> None:
    """Publish counts as if these partners had sent so many records in these hours, so many of them broken."""
    rows = [row for (hour, source), sent in hours.items() for row in _rows(hour, source, *sent)]
    frame = few(pipeline.spark, pa.Table.from_pylist(rows, SCHEMA))

    def write(stage: Stage) -> None:
        append(stage, frame, partitions=1)

    def build(_: Head) -> Plan:
        return Plan(write, lambda *_: None)

    assert Publisher(pipeline.catalog, "plant").publish(PARTNER_HOURS, build) is not None


def _rows(hour: datetime, source: str, records: int, broken: int) -> list[dict[str, Any]]:
    valid = records - broken
    counts = {
        ("records", ""): records,
        ("broken", ""): broken,
        ("valid", ""): valid,
        ("currency", "EUR"): valid,
        ("event_type", "CAPTURE"): valid,
        ("amount", "EUR 10"): valid // 2,
        ("amount", "EUR 24"): valid - valid // 2,
        ("delay", "1.3"): valid,
    }
    return [
        dict(zip(SCHEMA.names, (hour, source, *counted, number), strict=True))
        for counted, number in counts.items()
    ]
