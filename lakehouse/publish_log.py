"""The publish log: what readers of each table have seen and when, kept beyond the snapshots themselves.

Belongs here: reading it out of the tables' metadata, and what of it is not in the log's table yet.
Does not: writing it (`log_keeper.py`), what is made of it (`arrivals_sql.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from lakehouse.consistency import standings
from lakehouse.definitions import BY_NAME, PUBLISH_LOG
from lakehouse.offsets import OffsetVector
from lakehouse.refs import stamp_of
from lakehouse.stamp import Stamp

KEY = BY_NAME[PUBLISH_LOG].key
_NO_STAMP = Stamp("", "")


def unlogged(catalog: RestCatalog, log: Table) -> pa.Table:
    """List what tables of ours tell in their metadata and the log's table, as loaded, does not hold yet.

    Returns the log's columns, oldest first. Costs a request per table, and reading the end of the log.
    """
    found = sorted(_rows_of_all(catalog), key=lambda row: (row["published_at"], row["table_name"]))
    known = _known(log, found[0]["published_at"]) if found else set()
    schema = schema_to_pyarrow(BY_NAME[PUBLISH_LOG].schema(), include_field_ids=False)
    rows = pa.Table.from_pylist([row for row in found if _key(row) not in known], schema)
    # of a table that `paywave up` has not brought up to date yet, the columns that it has
    return rows.select([name for name in schema.names if name in log.schema().column_names])


def rows_of(table: Table) -> Iterator[dict[str, Any]]:
    """Tell every time that main of a table was set, as far back as its snapshots are kept."""
    standing = dict(standings(table))
    for entry in table.history():
        snapshot = table.snapshot_by_id(entry.snapshot_id)
        if snapshot is None:
            continue
        stamp = stamp_of(snapshot) or _NO_STAMP
        reached = standing.get(snapshot.snapshot_id, stamp.progress)
        yield {
            "table_name": ".".join(table.name()),
            "table_uuid": str(table.metadata.table_uuid),
            "snapshot_id": snapshot.snapshot_id,
            "published_at": datetime.fromtimestamp(entry.timestamp_ms / 1000, UTC),
            "operation": snapshot.summary.operation.value if snapshot.summary else "",
            **_told_by(stamp, reached),
        }


def _told_by(stamp: Stamp, reached: OffsetVector | None) -> dict[str, Any]:
    return {
        "writer": stamp.writer or None,
        "token": stamp.token or None,
        "offsets": reached.to_json() if reached is not None else None,
        "complete_to": stamp.complete_to,
        "contract_version": stamp.contract_version,
        "source_snapshot": stamp.source_snapshot,
        "totals": json.dumps(stamp.totals, sort_keys=True),
        "code_version": stamp.code_version,
        "arrivals": [arrival._asdict() for arrival in stamp.arrivals],
    }


def _rows_of_all(catalog: RestCatalog) -> Iterator[dict[str, Any]]:
    for name in BY_NAME:
        if name == PUBLISH_LOG:
            continue
        try:
            table = catalog.load_table(name)
        except NoSuchTableError:  # dropped, to be rebuilt
            continue
        yield from rows_of(table)


def _known(log: Table, since: datetime) -> set[tuple[Any, ...]]:
    recent = log.scan(row_filter=f"published_at >= '{since.isoformat()}'", selected_fields=KEY)
    rows = recent.to_arrow().to_pylist()
    return {_key(row) for row in rows}


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[column] for column in KEY)
