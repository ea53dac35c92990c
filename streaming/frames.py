"""Frames by where their rows are: in a table, kept as they are passed over more than once, or on the driver.

Belongs here: that. Does not: deciding what is worth keeping, or small enough.
"""

from __future__ import annotations

from types import TracebackType

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.catalog import CATALOG_NAME


class Frames:
    """Keeps frames until the block ends; call it with each frame to be kept."""

    def __init__(self) -> None:
        self._kept: list[DataFrame] = []

    def __call__(self, frame: DataFrame) -> DataFrame:
        frame.persist(StorageLevel.MEMORY_AND_DISK)
        self._kept.append(frame)
        return frame

    def __enter__(self) -> Frames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._kept:
            self._kept.pop().unpersist()


def read_table(spark: SparkSession, name: str, snapshot_id: int | None = None) -> DataFrame:
    """Read a table (`db.table`) of the catalog, at a snapshot or as it is now."""
    reader = spark.read.format("iceberg")
    if snapshot_id is not None:
        reader = reader.option("versionAsOf", snapshot_id)
    return reader.load(f"{CATALOG_NAME}.{name}")


def header_text(name: str) -> Column:
    """Text of a record's first header of this name; null where there is none, or it is not UTF-8."""
    found = F.filter("headers", lambda h: h["key"] == F.lit(name))
    return F.try_validate_utf8(F.get(found, F.lit(0))["value"].cast("string"))


def few(spark: SparkSession, rows: pa.Table) -> DataFrame:
    """Bring few rows from the driver to wherever they are joined.

    As data they leave the plan as it is: the code that Spark generates for it is the same for every batch.
    """
    return F.broadcast(spark.createDataFrame(rows).coalesce(1))
