"""Appending rows that the driver has in its hands to a table that keeps account of others.

Belongs here: the plans of such publishes. Does not: which rows, and when (`log_keeper.py`, `streaming/`).
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import SparkSession

from lakehouse import audit
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import BY_NAME
from lakehouse.publish import Plan, Stage
from lakehouse.refs import Head
from lakehouse.staging import append


def plan_to_append(spark: SparkSession, head: Head, rows: pa.Table) -> Plan:
    """Plan to append rows, in the table's columns, and to see that just these were staged, no key twice."""

    def write(stage: Stage) -> None:
        schema = spark.table(f"{CATALOG_NAME}.{head.name}").schema
        append(stage, spark.createDataFrame(rows, schema).coalesce(1))

    return Plan(write, _just_these(head, rows.num_rows))


def plan_to_append_without_spark(catalog: RestCatalog, head: Head, rows: pa.Table) -> Plan:
    """Plan the same for a table of format 2: pyiceberg cannot append to a newer one."""

    def write(stage: Stage) -> None:
        table = catalog.load_table(head.name)  # again: the head does not know the branch
        table.append(rows, snapshot_properties=stage.properties, branch=stage.branch)

    return Plan(write, _just_these(head, rows.num_rows))


def _just_these(head: Head, rows: int) -> Callable[[Table, Snapshot], None]:
    key = BY_NAME[head.name].key

    def check(table: Table, staged: Snapshot) -> None:
        added = audit.added_rows(table, staged, head.snapshot.snapshot_id, key)
        audit.check_count(added.num_rows, rows, "rows staged", head.name)
        audit.check_unique(added, key, head.name)

    return check
