"""Appending rows that the driver has in its hands to a table that keeps account of others.

Belongs here: the plan of such a publish, by Spark. Does not: which rows, and when (`log_keeper.py`,
`streaming/`), the same without Spark (`light_appending.py`).
"""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import SparkSession

from lakehouse.catalog import CATALOG_NAME
from lakehouse.light_appending import just_these
from lakehouse.publish import Plan, Stage
from lakehouse.refs import Head
from lakehouse.staging import append


def plan_to_append(spark: SparkSession, head: Head, rows: pa.Table) -> Plan:
    """Plan to append rows, in the table's columns, and to see that just these were staged, no key twice."""

    def write(stage: Stage) -> None:
        schema = spark.table(f"{CATALOG_NAME}.{head.name}").schema
        append(stage, spark.createDataFrame(rows, schema).coalesce(1))

    return Plan(write, just_these(head, rows.num_rows))
