"""Keeping results of reconciliations. Belongs here: the one write to their table. Does not: what they say."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyspark.sql import SparkSession

from lakehouse.appending import plan_to_append
from lakehouse.definitions import BY_NAME, RECONCILIATION
from lakehouse.publish import Publisher
from lakehouse.turns import drop_abandoned
from streaming.reconcile.result import Reconciliation

WRITER = "reconcile"
_ABANDONED_SECONDS = 600.0
_SCHEMA = schema_to_pyarrow(BY_NAME[RECONCILIATION].schema(), include_field_ids=False)


def keep(catalog: RestCatalog, spark: SparkSession, *results: Reconciliation) -> None:
    """Append results to `quality.reconciliation`, all of them or none."""
    rows = _table([row for result in results for row in result.rows()])
    drop_abandoned(catalog, RECONCILIATION, WRITER, _ABANDONED_SECONDS)
    Publisher(catalog, WRITER).publish(RECONCILIATION, lambda head: plan_to_append(spark, head, rows))


def _table(rows: list[dict[str, object]]) -> pa.Table:
    sums = ("left_sum", "right_sum")
    exact = [row | {name: Decimal(str(row[name])) for name in sums} for row in rows]
    return pa.Table.from_pylist(exact, _SCHEMA)
