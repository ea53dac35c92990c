"""Keeping results of reconciliations. Belongs here: the one write to their table. Does not: what they say."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import SparkSession

from lakehouse import audit
from lakehouse.definitions import BY_NAME, RECONCILIATION
from lakehouse.publish import Plan, Publisher, Stage
from lakehouse.refs import Head
from lakehouse.staging import append
from lakehouse.turns import drop_abandoned
from streaming.frames import few
from streaming.reconcile.result import Reconciliation

WRITER = "reconcile"
_ABANDONED_SECONDS = 600.0
_KEY = BY_NAME[RECONCILIATION].key
_SCHEMA = schema_to_pyarrow(BY_NAME[RECONCILIATION].schema(), include_field_ids=False)


def keep(catalog: RestCatalog, spark: SparkSession, *results: Reconciliation) -> None:
    """Append results to `quality.reconciliation`, all of them or none."""
    rows = _table([row for result in results for row in result.rows()])

    def plan(head: Head) -> Plan:
        def write(stage: Stage) -> None:
            append(stage, few(spark, rows), partitions=1)

        def check(table: Table, staged: Snapshot) -> None:
            added = audit.added_rows(table, staged, head.snapshot.snapshot_id, _KEY)
            audit.check_count(added.num_rows, rows.num_rows, "rows staged", RECONCILIATION)
            audit.check_unique(added, _KEY, RECONCILIATION)

        return Plan(write, check)

    drop_abandoned(catalog, RECONCILIATION, WRITER, _ABANDONED_SECONDS)
    Publisher(catalog, WRITER).publish(RECONCILIATION, plan)


def _table(rows: list[dict[str, object]]) -> pa.Table:
    sums = ("left_sum", "right_sum")
    exact = [row | {name: Decimal(str(row[name])) for name in sums} for row in rows]
    return pa.Table.from_pylist(exact, _SCHEMA)
