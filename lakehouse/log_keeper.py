"""Keeping the publish log: what snapshots say of themselves is written down before they expire.

Belongs here: the one write to the log's table. Does not: what a row says (`publish_log.py`).
"""

from __future__ import annotations

import structlog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import SparkSession

from lakehouse import audit
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import PUBLISH_LOG
from lakehouse.publish import Plan, Publisher, Stage
from lakehouse.publish_log import KEY, unlogged
from lakehouse.refs import Head
from lakehouse.staging import append
from lakehouse.turns import drop_abandoned

WRITER = "log"
_ABANDONED_SECONDS = 600.0
_log = structlog.get_logger(__name__)


def keep_log(catalog: RestCatalog, spark: SparkSession, at_least: int = 1) -> int:
    """Append to the log what it does not hold yet, if that is `at_least` so many snapshots.

    Call it before snapshots expire. Safe to run twice and beside another one. Returns the rows appended.
    """
    appended = 0

    def plan(head: Head) -> Plan | None:
        nonlocal appended
        rows = unlogged(catalog, head.table)
        appended = rows.num_rows
        if appended < max(1, at_least):
            appended = 0
            return None

        def write(stage: Stage) -> None:
            schema = spark.table(f"{CATALOG_NAME}.{PUBLISH_LOG}").schema
            append(stage, spark.createDataFrame(rows, schema).coalesce(1))

        def check(table: Table, staged: Snapshot) -> None:
            added = audit.added_rows(table, staged, head.snapshot.snapshot_id, KEY)
            audit.check_count(added.num_rows, rows.num_rows, "rows staged", PUBLISH_LOG)
            audit.check_unique(added, KEY, PUBLISH_LOG)

        return Plan(write, check)

    drop_abandoned(catalog, PUBLISH_LOG, WRITER, _ABANDONED_SECONDS)
    Publisher(catalog, WRITER).publish(PUBLISH_LOG, plan)
    _log.info("publish log kept", rows=appended)
    return appended
