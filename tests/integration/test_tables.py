"""Creating and evolving the tables on the real catalog, and reading them with every reader there is."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import cast

import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table as IcebergTable
from pyiceberg.types import DecimalType, ListType, LongType, NestedField, StringType, StructType
from pyspark.sql import SparkSession

from config.settings import Settings
from lakehouse.catalog import CATALOG_NAME, connect
from lakehouse.definitions import TABLES, Column, Table
from lakehouse.errors import TableMismatch
from lakehouse.offsets import OffsetVector
from lakehouse.query import run_query
from lakehouse.refs import MAIN, PROGRESS_TAG, ancestry, read_head
from lakehouse.tables import ensure_tables

pytestmark = pytest.mark.integration

BUCKETS = 4
NOTE = Column("note", StringType(), "A note", required=False)


@pytest.fixture
def catalog(stack: Settings) -> RestCatalog:
    return connect(stack.catalog_properties())


@pytest.fixture
def tables(catalog: RestCatalog) -> Iterator[tuple[Table, ...]]:
    """The project's tables, in namespaces of this test alone."""
    mark = uuid.uuid4().hex[:8]
    mine = tuple(replace(table, name=f"t{mark}_{table.name}") for table in TABLES)
    yield mine
    for table in mine:
        try:
            catalog.drop_table(table.name)
        except NoSuchTableError:
            continue


@pytest.fixture
def one(tables: tuple[Table, ...]) -> Table:
    """One of them: payments, which has lists, decimals and both kinds of partition."""
    return next(table for table in tables if table.name.endswith(".payments"))


def load(catalog: RestCatalog, table: Table) -> IcebergTable:
    return cast(IcebergTable, catalog.load_table(table.name))


def test_they_are_created_and_the_second_time_is_a_no_op(
    catalog: RestCatalog, tables: tuple[Table, ...]
) -> None:
    assert set(ensure_tables(catalog, BUCKETS, tables).values()) == {"created"}
    before = {table.name: load(catalog, table).metadata for table in tables}
    assert set(ensure_tables(catalog, BUCKETS, tables).values()) == {"unchanged"}
    assert {table.name: load(catalog, table).metadata for table in tables} == before


def test_each_is_what_its_definition_says(catalog: RestCatalog, tables: tuple[Table, ...]) -> None:
    ensure_tables(catalog, BUCKETS, tables)
    for definition in tables:
        table = load(catalog, definition)
        assert str(table.format_version) == definition.all_properties()["format-version"]
        assert {f.name: f.doc for f in table.schema().fields} == {
            c.name: c.meaning for c in definition.columns
        }
        assert {f.name for f in table.schema().fields if f.required} == {
            c.name for c in definition.columns if c.required
        }
        assert all(f.doc for f in nested_fields(table))
        names = [table.schema().find_column_name(f.source_id) for f in table.sort_order().fields]
        assert names == list(definition.sort_by)
        for name, value in definition.all_properties().items():
            assert name == "format-version" or table.properties[name] == value


def nested_fields(table: IcebergTable) -> list[NestedField]:
    lists = [f.field_type for f in table.schema().fields if isinstance(f.field_type, ListType)]
    structs = [kind.element_type for kind in lists if isinstance(kind.element_type, StructType)]
    return [f for struct in structs for f in struct.fields]


def test_each_is_born_with_one_empty_stamped_snapshot(
    catalog: RestCatalog, tables: tuple[Table, ...]
) -> None:
    ensure_tables(catalog, BUCKETS, tables)
    for definition in tables:
        table = load(catalog, definition)
        (birth,) = table.metadata.snapshots
        assert {name: ref.snapshot_id for name, ref in table.metadata.refs.items()} == {
            MAIN: birth.snapshot_id,
            PROGRESS_TAG: birth.snapshot_id,
        }
        head = read_head(catalog, definition.name)
        assert (head.progress.writer, head.offsets) == ("birth", OffsetVector())
        assert head.progress.progress is not None
        assert list(birth.manifests(table.io)) == []


def test_an_empty_table_is_readable_by_all(
    catalog: RestCatalog, stack: Settings, spark: SparkSession, tables: tuple[Table, ...]
) -> None:
    ensure_tables(catalog, BUCKETS, tables)
    for definition in tables:
        names = [c.name for c in definition.columns]
        frame = spark.table(f"{CATALOG_NAME}.{definition.name}")
        assert (frame.columns, frame.count()) == (names, 0)
        assert load(catalog, definition).scan().to_arrow().num_rows == 0
        found = run_query(catalog, stack.catalog_properties(), f"SELECT * FROM {definition.name}")
        assert (found.columns, found.rows) == (names, [])


def test_spark_appends_to_what_was_born(catalog: RestCatalog, spark: SparkSession, one: Table) -> None:
    """The first snapshot is written without Spark: Spark must take it as a parent like any other."""
    plain = replace(one, columns=(Column("k", LongType(), "Key"),), key=("k",), sort_by=("k",))
    plain = replace(plain, hour_of=None, bucket_of=None)
    ensure_tables(catalog, BUCKETS, [plain])
    birth = read_head(catalog, plain.name).snapshot
    for start in (0, 3):
        spark.range(start, start + 3).toDF("k").coalesce(1).writeTo(f"{CATALOG_NAME}.{plain.name}").append()
    table = load(catalog, plain)
    assert sorted(row["k"] for row in table.scan().to_arrow().to_pylist()) == list(range(6))
    last = table.current_snapshot()
    assert last is not None
    assert [s.snapshot_id for s in ancestry(table.metadata, last)][-1] == birth.snapshot_id
    rows = spark.sql(f"SELECT _row_id FROM {CATALOG_NAME}.{plain.name}").collect()
    assert sorted(row["_row_id"] for row in rows) == list(range(6))


def test_two_at_once_make_each_table_once(
    catalog: RestCatalog, stack: Settings, tables: tuple[Table, ...]
) -> None:
    def ensure(_: int) -> dict[str, str]:
        return ensure_tables(connect(stack.catalog_properties()), BUCKETS, tables)

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(ensure, range(3)))
    for definition in tables:
        assert [d[definition.name] for d in done].count("created") == 1
        assert len(load(catalog, definition).metadata.snapshots) == 1


def test_a_crash_between_creation_and_birth_heals(catalog: RestCatalog, one: Table) -> None:
    catalog.create_namespace_if_not_exists(one.name.split(".")[0])
    catalog.create_table(
        one.name,
        schema=one.schema(),
        partition_spec=one.partition_spec(BUCKETS),
        sort_order=one.sort_order(),
        properties=one.all_properties(),
    )
    assert load(catalog, one).current_snapshot() is None
    assert ensure_tables(catalog, BUCKETS, [one]) == {one.name: "unchanged"}
    assert read_head(catalog, one.name).progress.writer == "birth"


# -- evolution ---------------------------------------------------------------------------------------------


def test_a_new_optional_column_is_added(catalog: RestCatalog, spark: SparkSession, one: Table) -> None:
    ensure_tables(catalog, BUCKETS, [one])
    pairs = StructType(NestedField(1, "name", StringType(), required=True, doc="Name"))
    more = Column("pairs", ListType(1, pairs, True), "Pairs", required=False)
    evolved = replace(one, columns=(*one.columns, NOTE, more))
    assert ensure_tables(catalog, BUCKETS, [evolved]) == {one.name: "evolved: +note, +pairs"}
    table = load(catalog, one)
    assert table.schema().find_field("note").doc == "A note"
    assert not table.schema().find_field("pairs").required
    assert spark.table(f"{CATALOG_NAME}.{one.name}").columns[-2:] == ["note", "pairs"]
    assert len(table.metadata.snapshots) == 1
    assert ensure_tables(catalog, BUCKETS, [evolved]) == {one.name: "unchanged"}


def test_docs_and_properties_are_brought_up_to_date(catalog: RestCatalog, one: Table) -> None:
    ensure_tables(catalog, BUCKETS, [one])
    reworded = replace(one.columns[0], meaning="Said better")
    changed = replace(
        one,
        columns=(reworded, *one.columns[1:]),
        meaning="Told better",
        properties={"write.parquet.row-group-size-bytes": "1048576"},
    )
    done = ensure_tables(catalog, BUCKETS, [changed])[one.name]
    assert done == (
        f"evolved: doc of {reworded.name}, property write.parquet.row-group-size-bytes, property comment"
    )
    table = load(catalog, one)
    assert table.schema().find_field(reworded.name).doc == "Said better"
    assert table.properties["comment"] == "Told better"
    assert ensure_tables(catalog, BUCKETS, [changed]) == {one.name: "unchanged"}


def test_properties_that_the_definition_does_not_speak_of_stay(catalog: RestCatalog, one: Table) -> None:
    ensure_tables(catalog, BUCKETS, [one])
    with load(catalog, one).transaction() as transaction:
        transaction.set_properties({"owner": "somebody"})
    assert ensure_tables(catalog, BUCKETS, [one]) == {one.name: "unchanged"}
    assert load(catalog, one).properties["owner"] == "somebody"


def test_anything_else_is_refused_with_the_difference_and_nothing_is_changed(
    catalog: RestCatalog, one: Table
) -> None:
    ensure_tables(catalog, BUCKETS, [one])
    before = load(catalog, one).metadata
    wider = tuple(
        replace(c, type=DecimalType(28, 4)) if c.name == "amount" else c
        for c in one.columns
        if c.name != "flags"
    )
    with pytest.raises(TableMismatch) as refused:
        ensure_tables(catalog, 64, [replace(one, columns=(*wider, NOTE))])
    text = str(refused.value)
    assert one.name in text and refused.value.hint
    assert "column amount: type is decimal(19, 4), the definition says decimal(28, 4)" in text
    assert "column flags: in the table, not in the definition" in text
    assert "bucket[4](account_id), the definition says hour(event_ts), bucket[64](account_id)" in text
    assert load(catalog, one).metadata == before
