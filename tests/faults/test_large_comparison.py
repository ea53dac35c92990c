"""A large stream with every kind of dirt, compared by content hash: three engines against the reference.

Belongs here: one large run, in a few batches; 200,000 events in `make test-faults`. Does not: which row is
wrong where a hash differs (`assert_the_law` of smaller runs says that).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Hashable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from lakehouse.catalog import CATALOG_NAME
from lakehouse.content_hash import Sums, combine, of_columns
from lakehouse.definitions import BY_NAME, PAYMENTS, QUARANTINE, RAW, VERSIONS, Table
from lakehouse.refs import read_head
from lakehouse.stored_hash import PartitionKey, buckets_of, stored_sums
from lakehouse.table_hash import of_arrow, shape_of
from streaming.table_sums import spark_sums
from tests.commands import paywave
from tests.pipeline import Pipeline
from tests.reference import Row, expected
from tests.streams import dirty

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.long]

EVENTS, HOURS, BATCHES = 200_000, 6, 4
SEED = int(os.environ.get("PAYWAVE_TEST_SEED") or 20261122)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.timeout(3600)
def test_tables_of_a_large_stream_hash_like_the_reference(pipeline: Pipeline) -> None:
    print(f"PAYWAVE_TEST_SEED={SEED}")
    assert pipeline.send_lines(dirty(EVENTS, SEED, HOURS * HOUR).lines()) == EVENTS
    pipeline.run_raw(EVENTS // BATCHES + 1)
    pipeline.run_curated(EVENTS // BATCHES + 1)
    wanted: dict[str, Iterable[Row]] = {n: rows.values() for n, rows in expected(pipeline.rows(RAW)).items()}
    assert set(wanted) == {VERSIONS, PAYMENTS, QUARANTINE}
    for name, rows in wanted.items():
        at = read_head(pipeline.catalog, name).snapshot.snapshot_id
        found, sums = by_engine(pipeline, name, at), by_reference(pipeline, name, rows)
        assert found["duckdb"] == sums, name
        assert found["pyiceberg"] == sums, name
        assert found["spark"] == sums, name
    assert pipeline.stock().conserved, pipeline.stock().breaks
    check_an_older_snapshot(pipeline)
    check_the_command(pipeline)


def by_engine(pipeline: Pipeline, name: str, snapshot_id: int) -> dict[str, dict[PartitionKey, Sums]]:
    table, properties = pipeline.catalog.load_table(name), pipeline.settings.catalog_properties()
    rows = pipeline.spark.read.option("versionAsOf", snapshot_id).table(f"{CATALOG_NAME}.{name}")
    return {
        "duckdb": stored_sums(table, snapshot_id, properties, "duckdb"),
        "pyiceberg": stored_sums(table, snapshot_id, properties, "pyiceberg"),
        "spark": spark_sums(rows, BY_NAME[name], buckets_of(table.spec())),
    }


def by_reference(pipeline: Pipeline, name: str, rows: Iterable[Row]) -> dict[PartitionKey, Sums]:
    """Add up rows in plain Python, by the partition that each must stand in."""
    table, buckets = BY_NAME[name], pipeline.settings.tables.buckets
    parts: dict[PartitionKey, list[Row]] = defaultdict(list)
    for row in rows:
        parts[partition_of(table, buckets, row)].append(row)
    shape = shape_of(table)
    return {key: of_columns(shape, [[r[c] for r in part] for c, _ in shape]) for key, part in parts.items()}


def partition_of(table: Table, buckets: int, row: Row) -> PartitionKey:
    hour = (row[table.hour_of] - EPOCH) // HOUR if table.hour_of else None
    bucket_of = BucketTransform[Hashable](buckets).transform(StringType())
    bucket = bucket_of(row[table.bucket_of]) if table.bucket_of else None
    return tuple(value for value in (hour, bucket) if value is not None)


def check_an_older_snapshot(pipeline: Pipeline) -> None:
    """After the first batch, before rows were merged away: another hash, again the same by all engines."""
    table = pipeline.catalog.load_table(PAYMENTS)
    older = table.metadata.snapshot_log[1].snapshot_id
    found = by_engine(pipeline, PAYMENTS, older)
    assert found["duckdb"] == found["pyiceberg"] == found["spark"]
    whole = combine(found["duckdb"].values()).fingerprint(shape_of(BY_NAME[PAYMENTS]))
    assert whole == of_arrow(BY_NAME[PAYMENTS], table.scan(snapshot_id=older).to_arrow())
    assert 0 < whole.rows < len(pipeline.rows(PAYMENTS))


def check_the_command(pipeline: Pipeline) -> None:
    """Now and then, whole and by partition, by both readers that need no Spark."""
    home = {"PAYWAVE_HOME": str(pipeline.settings.home)}

    def ask(*arguments: str) -> dict[str, Any]:
        done = paywave("hash", PAYMENTS, "--output", "json", *arguments, **home)
        assert done.code == 0, done.stderr
        return done.json

    now = ask("--by-partition")
    assert now["rows"] == len(pipeline.rows(PAYMENTS)) == sum(p["rows"] for p in now["partitions"].values())
    assert ask("--by-partition", "--reader", "pyiceberg", "--snapshot", now["snapshot"]) == now
    birth = pipeline.catalog.load_table(PAYMENTS).snapshots()[0].snapshot_id
    assert ask("--snapshot", str(birth))["rows"] == 0
    unknown = paywave("hash", "curated.payment", **home)
    assert unknown.code == 1
    assert PAYMENTS in unknown.stderr
