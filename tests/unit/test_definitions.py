"""The tables as data: complete, consistent, and rendered to Iceberg without a collision."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import IcebergType, ListType, NestedField, StructType

from lakehouse.definitions import (
    ACCESS_LOG,
    BY_NAME,
    DRIFT,
    FILE_DIGESTS,
    GATE_LOG,
    LEGAL_HOLDS,
    PARTNER_FILES,
    PARTNER_HOURS,
    PAYMENTS,
    PUBLISH_LOG,
    QUARANTINE,
    RAW,
    RECONCILIATION,
    RETENTION_LOG,
    TABLES,
    TRANSACTIONS,
    VERSIONS,
    Table,
)

WITHOUT_SPARK = {PARTNER_FILES, FILE_DIGESTS, LEGAL_HOLDS, ACCESS_LOG}
each_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


def nested(kind: IcebergType) -> Iterator[tuple[int, NestedField | None]]:
    """Every id within a type, with its field where it is one of a struct."""
    if isinstance(kind, ListType):
        yield kind.element_id, None
        yield from nested(kind.element_type)
    if isinstance(kind, StructType):
        for f in kind.fields:
            yield f.field_id, f
            yield from nested(f.field_type)


def ids_of(schema: Schema) -> list[int]:
    return [f.field_id for f in schema.fields] + [i for f in schema.fields for i, _ in nested(f.field_type)]


def test_the_tables_of_the_design_are_there() -> None:
    assert set(BY_NAME) == {
        RAW,
        VERSIONS,
        PAYMENTS,
        QUARANTINE,
        TRANSACTIONS,
        PARTNER_FILES,
        PARTNER_HOURS,
        PUBLISH_LOG,
        DRIFT,
        GATE_LOG,
        RECONCILIATION,
        RETENTION_LOG,
        ACCESS_LOG,
        FILE_DIGESTS,
        LEGAL_HOLDS,
    }
    assert len(BY_NAME) == len(TABLES)


@each_table
def test_every_column_says_what_it_means(table: Table) -> None:
    assert table.meaning
    assert all(len(c.meaning) > 3 for c in table.columns)
    inner = [f for c in table.columns for _, f in nested(c.type) if f is not None]
    assert all(f.doc for f in inner)
    assert [f.doc for f in table.schema().fields] == [c.meaning for c in table.columns]


@each_table
def test_ids_and_names_are_unique(table: Table) -> None:
    ids = ids_of(table.schema())
    assert len(ids) == len(set(ids))
    names = [c.name for c in table.columns]
    assert len(names) == len(set(names))


@each_table
def test_key_sort_and_partitions_name_columns(table: Table) -> None:
    names = {c.name for c in table.columns}
    partitions = {c for c in (table.hour_of, table.bucket_of) if c}
    assert {*table.key, *table.sort_by, *partitions} <= names


@each_table
def test_partition_columns_are_required(table: Table) -> None:
    required = {c.name for c in table.columns if c.required}
    assert {c for c in (table.hour_of, table.bucket_of) if c} <= required


@each_table
def test_rendering_twice_gives_the_same(table: Table) -> None:
    assert table.schema() == table.schema()
    assert table.partition_spec(4) == table.partition_spec(4)


@pytest.mark.parametrize("buckets", [4, 64])
@each_table
def test_partitions_as_the_design_has_them(table: Table, buckets: int) -> None:
    spec, schema = table.partition_spec(buckets), table.schema()
    found = [f"{f.transform}({schema.find_column_name(f.source_id)})" for f in spec.fields]
    account, event_hour = f"bucket[{buckets}](account_id)", "hour(event_ts)"
    assert (
        found
        == {
            RAW: ["hour(kafka_ts)"],
            VERSIONS: [event_hour, account],
            PAYMENTS: [event_hour, account],
            QUARANTINE: ["hour(kafka_ts)"],
            TRANSACTIONS: [account],
            PARTNER_FILES: [],
            PUBLISH_LOG: [],
            DRIFT: [],
            GATE_LOG: [],
            RECONCILIATION: [],
            RETENTION_LOG: [],
            ACCESS_LOG: [],
            PARTNER_HOURS: [],
            FILE_DIGESTS: [],
            LEGAL_HOLDS: [],
        }[table.name]
    )


@each_table
def test_every_table_that_spark_writes_is_v3_and_every_one_zstd_and_cleans_its_metadata(table: Table) -> None:
    properties = table.all_properties()
    assert properties["format-version"] == ("2" if table.name in WITHOUT_SPARK else "3")
    assert properties["write.parquet.compression-codec"] == "zstd"
    assert properties["write.metadata.delete-after-commit.enabled"] == "true"
    assert properties["comment"] == table.meaning
    assert all(isinstance(value, str) for value in properties.values())


def test_no_curated_column_tells_when_it_was_computed() -> None:
    clock = {"processed_at", "updated_at", "loaded_at", "created_at", "batch_id", "snapshot_id"}
    for name in (VERSIONS, PAYMENTS, TRANSACTIONS):
        assert not clock & {c.name for c in BY_NAME[name].columns}
