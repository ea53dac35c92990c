"""Comparing a table with its definition: what may be added, and what is refused with the difference."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.types import DecimalType, IntegerType, ListType, LongType, NestedField, StringType, StructType
from pyiceberg.types import TimestamptzType as Time

from lakehouse.definitions import TABLES, Column, Table
from lakehouse.tables import compare
from tests.history import History

INNER = StructType(
    NestedField(1, "name", StringType(), required=True, doc="Name"),
    NestedField(2, "value", StringType(), required=False, doc="Value"),
)
BASE = Table(
    name="test.t",
    meaning="A table of the tests.",
    columns=(
        Column("id", StringType(), "Identity"),
        Column("at", Time(), "When"),
        Column("amount", DecimalType(19, 4), "Amount", required=False),
        Column("tags", ListType(1, StringType(), True), "Tags"),
        Column("pairs", ListType(1, INNER, True), "Pairs"),
    ),
    key=("id",),
    sort_by=("id", "at"),
    hour_of="at",
    bucket_of="id",
)


def made(definition: Table, buckets: int = 4, version: str = "3") -> IcebergTable:
    """The table as a catalog makes it from a definition."""
    metadata = new_table_metadata(
        definition.schema(),
        definition.partition_spec(buckets),
        definition.sort_order(),
        "memory://t",
        {**definition.all_properties(), "format-version": version},
    )
    return IcebergTable(("test", "t"), metadata, "memory://t.json", PyArrowFileIO(), History().catalog())


def with_column(name: str, column: Column) -> Table:
    return replace(BASE, columns=tuple(column if c.name == name else c for c in BASE.columns))


def with_more(*columns: Column) -> Table:
    return replace(BASE, columns=(*BASE.columns, *columns))


@pytest.mark.parametrize("definition", [*TABLES, BASE], ids=lambda table: table.name)
def test_a_table_equals_the_definition_that_it_was_made_from(definition: Table) -> None:
    version = definition.all_properties()["format-version"]
    assert compare(made(definition, version=version), definition, 4) == []


def test_new_optional_columns_are_no_difference() -> None:
    note = Column("note", StringType(), "Note", required=False)
    more = Column("more", ListType(1, INNER, True), "More", required=False)
    assert compare(made(BASE), with_more(note, more), 4) == []


def test_a_new_meaning_is_no_difference() -> None:
    reworded = with_column("id", Column("id", StringType(), "Identity, in other words"))
    assert compare(made(BASE), reworded, 4) == []


DIFFERENT: dict[str, tuple[Table, str]] = {
    "a new column that is required": (
        with_more(Column("note", StringType(), "Note")),
        "column note: new and required; a new column must be optional",
    ),
    "another type": (
        with_column("id", Column("id", LongType(), "Identity")),
        "column id: type is string, the definition says long",
    ),
    "another precision": (
        with_column("amount", Column("amount", DecimalType(28, 4), "Amount", required=False)),
        "column amount: type is decimal(19, 4), the definition says decimal(28, 4)",
    ),
    "now required": (
        with_column("amount", Column("amount", DecimalType(19, 4), "Amount")),
        "column amount: required is False, the definition says True",
    ),
    "no longer required": (
        with_column("tags", Column("tags", ListType(1, StringType(), True), "Tags", required=False)),
        "column tags: required is True, the definition says False",
    ),
    "another element": (
        with_column("tags", Column("tags", ListType(1, IntegerType(), True), "Tags")),
        "column tags: type is list<string>, the definition says list<int>",
    ),
    "an element that may be null": (
        with_column("tags", Column("tags", ListType(1, StringType(), False), "Tags")),
        "column tags: type is list<string>, the definition says list<string or null>",
    ),
    "another nested field": (
        with_column("pairs", Column("pairs", ListType(1, StructType(INNER.fields[0]), True), "Pairs")),
        "column pairs: type is list<struct<name: string, value: string or null>>, "
        "the definition says list<struct<name: string>>",
    ),
    "a column that is gone": (
        replace(BASE, columns=BASE.columns[:-1]),
        "column pairs: in the table, not in the definition",
    ),
    "a column renamed": (
        with_column("amount", Column("total", DecimalType(19, 4), "Amount", required=False)),
        "column amount: in the table, not in the definition",
    ),
    "other partitions": (
        replace(BASE, bucket_of=None),
        "partitions is hour(at), bucket[4](id), the definition says hour(at)",
    ),
    "another order": (
        replace(BASE, sort_by=("at",)),
        "sort order is id, at, the definition says at",
    ),
}


@pytest.mark.parametrize(("definition", "difference"), DIFFERENT.values(), ids=DIFFERENT)
def test_anything_else_is_a_difference(definition: Table, difference: str) -> None:
    assert compare(made(BASE), definition, 4) == [difference]


def test_other_buckets_are_a_difference() -> None:
    assert compare(made(BASE), BASE, 64) == [
        "partitions is hour(at), bucket[4](id), the definition says hour(at), bucket[64](id)"
    ]


def test_another_format_version_is_a_difference() -> None:
    assert compare(made(BASE, version="2"), BASE, 4) == ["format version is 2, the definition says 3"]


def test_every_difference_is_told() -> None:
    other = replace(
        with_column("id", Column("id", LongType(), "Identity")), hour_of=None, bucket_of=None, sort_by=()
    )
    found = compare(made(BASE), other, 4)
    assert [text.split(" is ")[0] for text in found] == ["column id: type", "partitions", "sort order"]
    assert found[1].endswith("the definition says none") and found[2].endswith("the definition says none")
