"""Keeping the publish log: what snapshots say of themselves is written down before they expire.

Belongs here: when the log's table is written to. Does not: what a row says (`publish_log.py`).
"""

from __future__ import annotations

import structlog
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from lakehouse.appending import plan_to_append
from lakehouse.definitions import PUBLISH_LOG
from lakehouse.publish import Plan, Publisher
from lakehouse.publish_log import unlogged
from lakehouse.refs import Head
from lakehouse.retention_log import keep_retention_log
from lakehouse.turns import drop_abandoned

WRITER = "log"
_ABANDONED_SECONDS = 600.0
_log = structlog.get_logger(__name__)


def keep_log(catalog: RestCatalog, spark: SparkSession, at_least: int = 1) -> int:
    """Append to the log what it does not hold yet, if that is `at_least` so many snapshots.

    What retention says in its stamps goes to its own ledger. Call it before snapshots expire. Safe to run
    twice and beside another one. Returns the rows appended.
    """
    appended = 0

    def plan(head: Head) -> Plan | None:
        nonlocal appended
        rows = unlogged(catalog, head.table)
        appended = rows.num_rows
        if appended < max(1, at_least):
            appended = 0
            return None
        return plan_to_append(spark, head, rows)

    keep_retention_log(catalog, spark)
    drop_abandoned(catalog, PUBLISH_LOG, WRITER, _ABANDONED_SECONDS)
    Publisher(catalog, WRITER).publish(PUBLISH_LOG, plan)
    _log.info("publish log kept", rows=appended)
    return appended
