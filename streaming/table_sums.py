"""The content hash of rows by Spark, partition by partition.

Belongs here: running the hash's SQL on a DataFrame. Does not: what the hash is (`lakehouse/content_hash.py`),
the other engines (`lakehouse/stored_hash.py`).
"""

from __future__ import annotations

import uuid

from pyspark.sql import DataFrame

from lakehouse.content_hash import Sums
from lakehouse.definitions import Table
from lakehouse.stored_hash import PartitionKey
from lakehouse.table_hash import sql, sums_by_partition
from streaming.partitions import bucket_sql, hour_sql


def spark_sums(rows: DataFrame, table: Table, buckets: int | None) -> dict[PartitionKey, Sums]:
    """Add up rows by the partition of `table` that they belong to.

    Args:
        rows: rows with the table's columns: the table, or what is to be compared with it.
        table: whose columns are hashed and whose partitions are meant.
        buckets: how many the table is divided into.
    """
    spark, view = rows.sparkSession, f"hashed_{uuid.uuid4().hex}"
    partition = {}
    if table.hour_of:
        partition["hour"] = hour_sql(table.hour_of)
    if table.bucket_of and buckets:
        partition["bucket"] = bucket_sql(buckets, table.bucket_of)
    rows.createOrReplaceTempView(view)
    try:
        return sums_by_partition(spark.sql(sql(table, "spark", source=view, partition=partition)).collect())
    finally:
        spark.catalog.dropTempView(view)
