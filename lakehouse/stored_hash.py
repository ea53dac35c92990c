"""The content hash of tables in the catalog, by partition, read with DuckDB or with pyiceberg alone.

Belongs here: summing a table at one snapshot. Does not: what the hash is (`content_hash.py`), its SQL
(`table_hash.py`), summing with Spark (`streaming/table_sums.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby

import duckdb
import pyarrow as pa
from opentelemetry import trace
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.table import FileScanTask
from pyiceberg.table import Table as IcebergTable
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from lakehouse.catalog import CATALOG_NAME
from lakehouse.content_hash import Sums
from lakehouse.definitions import BY_NAME, Table
from lakehouse.errors import LakehouseError
from lakehouse.query import Reader, attach
from lakehouse.table_hash import sql, sums_by_partition, sums_of_batches

PartitionKey = tuple[int, ...]
"""A partition's values in the spec's order: hours since 1970-01-01 UTC, bucket; or one of them."""

_HOUR_MICROS = 3_600_000_000
_BUCKETS = "bucket_of_account"
_tracer = trace.get_tracer(__name__)


def definition_of(name: str) -> Table:
    """Return the definition of a table by its name. Raises `LakehouseError` naming those there are."""
    if name not in BY_NAME:
        raise LakehouseError(f"there is no table {name}", hint=f"there are: {', '.join(sorted(BY_NAME))}")
    return BY_NAME[name]


def stored_sums(
    table: IcebergTable,
    snapshot_id: int,
    properties: Mapping[str, str],
    reader: Reader = "duckdb",
    hours: Collection[int] | None = None,
) -> dict[PartitionKey, Sums]:
    """Add up the rows of each partition of a table as of a snapshot; empty partitions are left out.

    Args:
        table: one of our tables, as the catalog has it.
        properties: pyiceberg's properties of the catalog, for DuckDB's own connection.
        reader: who reads the rows and adds them up.
        hours: read these hours (since 1970-01-01 UTC) only, of a table that is divided by them.
    """
    name = ".".join(table.name())
    definition = definition_of(name)
    with _tracer.start_as_current_span("hash", attributes={"table": name, "reader": reader}):
        if reader == "duckdb":
            return _by_duckdb(definition, table, snapshot_id, properties, hours)
        return _by_pyiceberg(definition, table, snapshot_id, hours)


def buckets_of(spec: PartitionSpec) -> int | None:
    """Return how many buckets a table is divided into; None where it is not."""
    transforms = (f.transform for f in spec.fields)
    return next((t.num_buckets for t in transforms if isinstance(t, BucketTransform)), None)


def partition_name(table: Table, key: PartitionKey) -> str:
    """Write a partition for people: `2026-11-20T12/3`, or only the part that the table has."""
    values = list(key)
    parts = [_hour(values.pop(0))] if table.hour_of else []
    return "/".join([*parts, *map(str, values)])


def _by_duckdb(
    definition: Table,
    table: IcebergTable,
    snapshot_id: int,
    properties: Mapping[str, str],
    hours: Collection[int] | None,
) -> dict[PartitionKey, Sums]:
    schema, name = table.name()
    source = f'{CATALOG_NAME}."{schema}"."{name}" AT (VERSION => {snapshot_id})'
    if hours is not None:
        source = f"(SELECT * FROM {source} WHERE {in_hours(definition, hours)})"  # noqa: S608
    with duckdb.connect(config={"allow_unsigned_extensions": "true"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        attach(connection, properties)
        partition = {}
        if definition.hour_of:
            # dividing whole hours is exact, so that it is no matter which way a division rounds before 1970
            partition["hour"] = f"epoch_us(date_trunc('hour', {definition.hour_of})) // {_HOUR_MICROS}"
        if definition.bucket_of and (buckets := buckets_of(table.spec())):
            connection.register(_BUCKETS, _buckets_in(connection, source, definition.bucket_of, buckets))
            partition["bucket"] = f"{_BUCKETS}.bucket"
            source += f" JOIN {_BUCKETS} USING ({definition.bucket_of})"
        return sums_by_partition(
            connection.execute(sql(definition, "duckdb", source=source, partition=partition)).fetchall()
        )


def in_hours(definition: Table, hours: Collection[int]) -> str:
    """Write the condition for rows of some hours, as ranges, which prune files; neighbours are one range."""
    firsts = sorted(hour for hour in hours if hour - 1 not in hours)
    lasts = sorted(hour for hour in hours if hour + 1 not in hours)
    spans = (
        f"{definition.hour_of} >= '{_start(first)}' AND {definition.hour_of} < '{_start(last + 1)}'"
        for first, last in zip(firsts, lasts, strict=True)
    )
    return " OR ".join(f"({span})" for span in spans) or "false"


def _buckets_in(connection: duckdb.DuckDBPyConnection, source: str, column: str, buckets: int) -> pa.Table:
    """Say the bucket of each value there is: DuckDB has no function for Iceberg's."""
    transform = BucketTransform[str](buckets).transform(StringType())
    rows = connection.execute(f"SELECT DISTINCT {column} FROM {source}").fetchall()  # noqa: S608
    values = [value for (value,) in rows]
    return pa.table({column: values, "bucket": pa.array(map(transform, values), pa.int32())})


def _by_pyiceberg(
    definition: Table, table: IcebergTable, snapshot_id: int, hours: Collection[int] | None
) -> dict[PartitionKey, Sums]:
    planned = table.scan(snapshot_id=snapshot_id).plan_files()
    tasks = sorted((t for t in planned if hours is None or _partition_of(t)[0] in hours), key=_partition_of)
    found = {
        key: sums_of_batches(definition, _batches(table, list(of_partition)))
        for key, of_partition in groupby(tasks, _partition_of)
    }
    return {key: sums for key, sums in found.items() if sums.rows}


def _batches(table: IcebergTable, tasks: list[FileScanTask]) -> Iterator[pa.RecordBatch]:
    scan = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue())
    return scan.to_record_batches(tasks)


def _partition_of(task: FileScanTask) -> PartitionKey:
    values = task.file.partition
    return tuple(values[i] for i in range(len(values)))


def _hour(hours: int) -> str:
    return _start(hours).strftime("%Y-%m-%dT%H")


def _start(hours: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
