"""The ledger of retention: what each drop says of itself in its stamp, kept for good.

Belongs here: a drop as the stamp's note and as rows, reading and appending them. Does not: dropping
(`maintenance/retention.py`).

The stamp is published with the drop, so it cannot be missing; the row comes after. A process that dies in
between leaves that to the next run, and to expiry, which writes it before the snapshot goes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table
from pyspark.sql import SparkSession

from lakehouse.appending import plan_to_append
from lakehouse.definitions import BY_NAME, PAYMENTS, QUARANTINE, RAW, RETENTION_LOG, VERSIONS
from lakehouse.maintenance.due import start_of_day
from lakehouse.publish import Plan, Publisher
from lakehouse.refs import Head, ancestry, stamp_of
from lakehouse.tables import ensure_tables
from lakehouse.turns import drop_abandoned

NOTE = "retention"
# In the order in which their days go: a payment never outlives the versions that it is folded from.
CURATED = (PAYMENTS, VERSIONS, QUARANTINE)
_WRITER, _ABANDONED_SECONDS = "retentionlog", 600.0
_SCHEMA = schema_to_pyarrow(BY_NAME[RETENTION_LOG].schema(), include_field_ids=False)


class Span(NamedTuple):
    """Offsets of one partition in one day: first, last (inclusive), and how many of them raw had."""

    first: int
    last: int
    records: int


@dataclass(frozen=True)
class Day:
    """One day of a table: its rows and files; of raw its offsets too, by topic id and partition."""

    day: date
    records: int
    files: int
    bytes: int
    offsets: Mapping[str, Mapping[int, Span]]

    def as_json(self) -> dict[str, Any]:
        """Render for programs and for the note."""
        return {"day": self.day.isoformat(), "records": self.records, "files": self.files,
                "bytes": self.bytes, "offsets": self.offsets}  # fmt: skip


@dataclass(frozen=True)
class Order:
    """Why days are dropped, who approved it, who runs it, and what age was held to."""

    reason: str
    approver: str
    actor: str
    kept_months: int


def note_of(order: Order, days: list[Day]) -> str:
    """Render a drop as the note of its stamp."""
    return json.dumps({**order.__dict__, "days": [d.as_json() for d in days]}, separators=(",", ":"))


def keep_retention_log(catalog: RestCatalog, spark: SparkSession) -> int:
    """Append to the ledger what the tables' stamps say and it does not hold yet. Returns the rows appended.

    Safe to run twice and beside another one.
    """
    if not list(_told(catalog)):
        return 0
    appended = 0

    def plan(head: Head) -> Plan | None:
        nonlocal appended
        known = _known(head.table)
        rows = [row for row in _told(catalog) if row["snapshot_id"] not in known]
        appended = len(rows)
        return plan_to_append(spark, head, pa.Table.from_pylist(rows, _SCHEMA)) if rows else None

    ensure_tables(catalog, 1, [BY_NAME[RETENTION_LOG]])  # a lake from before there was retention
    drop_abandoned(catalog, RETENTION_LOG, _WRITER, _ABANDONED_SECONDS)
    Publisher(catalog, _WRITER).publish(RETENTION_LOG, plan)
    return appended


def dropped_days(catalog: RestCatalog) -> list[dict[str, Any]]:
    """Read every day that was ever dropped, as rows of the ledger, those included that are not in it yet."""
    try:
        kept = catalog.load_table(RETENTION_LOG).scan().to_arrow().to_pylist()
    except NoSuchTableError:
        kept = []
    known = {row["snapshot_id"] for row in kept}
    pending = [row for row in _told(catalog) if row["snapshot_id"] not in known]
    return sorted([*kept, *pending], key=lambda row: (row["day"], row["snapshot_id"]))


def dropped_records(catalog: RestCatalog) -> Counter[tuple[str, int]]:
    """Count the rows of raw that were dropped, by topic id and partition."""
    found: Counter[tuple[str, int]] = Counter()
    for row in dropped_days(catalog):
        if row.get("dropped_from") not in (None, RAW):  # the column is younger than the ledger
            continue
        for topic_id, partitions in json.loads(row["offsets"]).items():
            for partition, (_, _, records) in partitions.items():
                found[topic_id, int(partition)] += records
    return found


def _known(ledger: Table) -> set[int]:
    ids = ledger.scan(selected_fields=("snapshot_id",)).to_arrow()["snapshot_id"]
    return set(ids.to_pylist())


def _told(catalog: RestCatalog) -> Iterator[dict[str, Any]]:
    """Read the drops out of the stamps of main's history of each table, as far back as it is kept."""
    for name in (RAW, *CURATED):
        yield from _told_by(catalog, name)


def _told_by(catalog: RestCatalog, name: str) -> Iterator[dict[str, Any]]:
    try:
        metadata = catalog.load_table(name).metadata
    except NoSuchTableError:
        return
    main = metadata.current_snapshot()
    for snapshot in ancestry(metadata, main) if main is not None else ():
        stamp = stamp_of(snapshot)
        if stamp is None or NOTE not in stamp.notes:
            continue
        said = json.loads(stamp.notes[NOTE])
        for day in said["days"]:
            yield {
                **{name: said[name] for name in Order.__dataclass_fields__},
                **day,
                "day": start_of_day(date.fromisoformat(day["day"])),
                "offsets": json.dumps(day["offsets"], separators=(",", ":")),
                "dropped_at": datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
                "snapshot_id": snapshot.snapshot_id,
                "token": stamp.token,
                "dropped_from": name,
            }
