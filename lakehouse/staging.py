"""How Spark writes to a stage: append and MERGE onto its branch, with the stage's stamp on the snapshot.

Belongs here: the only rows that Spark writes. Does not: when and what (`publish.py`, the jobs), rewriting
files without changing a row (`maintenance/rewrite.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pyspark.sql import DataFrame, SparkSession

from lakehouse.catalog import CATALOG_NAME
from lakehouse.publish import Stage

_SNAPSHOT_PROPERTY = "spark.sql.iceberg.snapshot-property."
# A file that is being written holds a megabyte or two for its columns.
_MOST_OPEN_FILES = 100
_AS_THEY_COME = {"use-table-distribution-and-ordering": "false", "fanout-enabled": "true"}


def append(stage: Stage, rows: DataFrame, partitions: int | None = None) -> None:
    """Append rows (the table's columns, by name) as one stamped snapshot; no rows make an empty one.

    Args:
        partitions: how many the rows fall in, where that is known. Rows of few are written as they come, a
            file of each held open: compaction sorts, once, what many batches wrote. Others are sorted first.
    """
    writer = rows.writeTo(f"{CATALOG_NAME}.{stage.identifier}")
    if partitions is not None and partitions <= _MOST_OPEN_FILES:
        writer = writer.options(**_AS_THEY_COME)
    for name, value in stage.properties.items():
        writer = writer.option(f"snapshot-property.{name}", value)
    writer.append()


def append_nothing(stage: Stage, spark: SparkSession) -> None:
    """Stage an empty snapshot, so that progress can move where there are no rows to write."""
    append(stage, spark.table(f"{CATALOG_NAME}.{stage.head.name}").limit(0), partitions=0)


def merge(stage: Stage, rows: DataFrame, on_and_actions: str) -> None:
    """Run `MERGE INTO <stage> t USING <rows> s ON …` as one stamped snapshot."""
    spark, view = rows.sparkSession, f"merge_{stage.stamp.token}"
    rows.createOrReplaceTempView(view)
    try:
        with _stamped(spark, stage):
            spark.sql(f"MERGE INTO {CATALOG_NAME}.{stage.identifier} t USING {view} s ON {on_and_actions}")
    finally:
        spark.catalog.dropTempView(view)


def delete(stage: Stage, keys: DataFrame, key: Sequence[str], where: str = "true") -> None:
    """Delete the rows that have these keys, as one stamped snapshot.

    Args:
        key: the columns that must agree, null with null.
        where: condition on the stage's rows, as `t`, that names the partitions to look in.
    """
    same_key = " AND ".join(f"t.{c} <=> s.{c}" for c in key)
    merge(stage, keys, f"{same_key} AND {where} WHEN MATCHED THEN DELETE")


@contextmanager
def _stamped(spark: SparkSession, stage: Stage) -> Iterator[None]:
    """Put the stamp where SQL statements of this session take it from, and take it away again."""
    names = {_SNAPSHOT_PROPERTY + name: value for name, value in stage.properties.items()}
    for name, value in names.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name in names:
            spark.conf.unset(name)
