"""What partners have sent beside the contract, as the drift job counted it.

Belongs here: reading and adding up its table. Does not: counting (`drift_count.py`), looks (`cli/`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pyiceberg.catalog.rest import RestCatalog

from lakehouse.definitions import DRIFT, RAW
from lakehouse.refs import read_head


class Drift(NamedTuple):
    """A field that a partner sends beside the contract, with one JSON type.

    `first_seen` and `last_seen` are Kafka times, of all time; `records` are those of the range asked for.
    """

    field: str
    source: str
    json_type: str
    first_seen: datetime
    last_seen: datetime
    records: int


@dataclass(frozen=True)
class Report:
    """The drift of a range, newest field first; `behind`: records of raw that are not looked at yet."""

    found: tuple[Drift, ...]
    behind: int


def report_drift(catalog: RestCatalog, start: datetime | None, end: datetime | None) -> Report:
    """List the fields that came in Kafka hours from `start` to before `end`; None: no limit."""
    head, raw = read_head(catalog, DRIFT), read_head(catalog, RAW)
    rows = head.table.scan(snapshot_id=head.snapshot.snapshot_id).to_arrow().to_pylist()
    of_field: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        of_field.setdefault((row["field"], row["source"], row["json_type"]), []).append(row)
    found = [_added_up(key, of_key, start, end) for key, of_key in of_field.items()]
    kept = sorted((drift for drift in found if drift.records), key=lambda d: (d.first_seen, *d), reverse=True)
    return Report(tuple(kept), head.offsets.records_to(raw.offsets))


def _added_up(
    key: tuple[str, str, str], rows: list[dict[str, Any]], start: datetime | None, end: datetime | None
) -> Drift:
    within = [
        row["records"]
        for row in rows
        if (start is None or row["kafka_hour"] >= start) and (end is None or row["kafka_hour"] < end)
    ]
    first, last = min(row["first_seen"] for row in rows), max(row["last_seen"] for row in rows)
    return Drift(*key, first, last, sum(within))
