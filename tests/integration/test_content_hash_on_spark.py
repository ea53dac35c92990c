"""The content hash by Spark: the same as by plain Python, whole and by partition, in every session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from lakehouse.content_hash import Sums, combine
from lakehouse.definitions import BY_NAME, PAYMENTS, TABLES, Table
from lakehouse.table_hash import of_arrow, shape_of, sql, sums_by_partition
from tests.rows import arrow, edge_rows

pytestmark = pytest.mark.integration

SETTINGS = {"spark.sql.session.timeZone": "America/New_York", "spark.sql.ansi.enabled": "false"}


@pytest.fixture(params=[{}, SETTINGS], ids=["our session", "another session"])
def any_session(spark: SparkSession, request: pytest.FixtureRequest) -> Iterator[SparkSession]:
    """The session, also with a time zone and an error mode that the hash must not care about."""
    before = {name: spark.conf.get(name) for name in SETTINGS}
    for name, value in request.param.items():
        spark.conf.set(name, value)
    yield spark
    for name, value in before.items():
        spark.conf.set(name, value)


def by_spark(
    spark: SparkSession, table: Table, data: pa.Table, **choices: Any
) -> dict[tuple[Any, ...], Sums]:
    spark.createDataFrame(data).createOrReplaceTempView("hashed_rows")
    rows = spark.sql(sql(table, "spark", source="hashed_rows", **choices)).collect()
    spark.catalog.dropTempView("hashed_rows")
    return sums_by_partition(rows)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_spark_agrees_with_python_at_the_edges_of_every_type(any_session: SparkSession, table: Table) -> None:
    data = arrow(table, edge_rows(table))
    found = by_spark(any_session, table, data)[()]
    assert found.fingerprint(shape_of(table)) == of_arrow(table, data)


def test_spark_sums_by_partition_and_they_add_up(spark: SparkSession) -> None:
    table = BY_NAME[PAYMENTS]
    data = arrow(table, edge_rows(table))
    groups = {"hour": "unix_micros(event_ts) div 3600000000", "status": "status"}
    parts = by_spark(spark, table, data, partition=groups)
    assert len(parts) > 5
    assert combine(parts.values()).fingerprint(shape_of(table)) == of_arrow(table, data)


def test_no_rows_hash_like_no_rows(spark: SparkSession) -> None:
    assert by_spark(spark, BY_NAME[PAYMENTS], arrow(BY_NAME[PAYMENTS], [])) == {(): Sums()}
