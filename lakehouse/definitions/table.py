"""What a table is made of: columns with their meaning, partitions, sort order, properties.

Belongs here: the types, and what holds for every table. Does not: any table (the modules beside it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import BucketTransform, HourTransform, IdentityTransform, Transform
from pyiceberg.types import (
    BinaryType,
    DecimalType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestamptzType,
)

SNAPSHOTS_KEPT = 240
FIRST_PARTITION_ID = 1000
TEXT, TIME, LONG, INT, BYTES = StringType(), TimestamptzType(), LongType(), IntegerType(), BinaryType()
AMOUNT, SUM = DecimalType(19, 4), DecimalType(28, 4)


@dataclass(frozen=True)
class Column:
    """One column. `meaning` becomes its doc in the catalog and everywhere docs are generated from it."""

    name: str
    type: IcebergType
    meaning: str
    required: bool = True


@dataclass(frozen=True)
class Table:
    """One table. `hour_of` and `bucket_of` name the partition columns, `key` what is unique in it."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    sort_by: tuple[str, ...]
    hour_of: str | None = None
    bucket_of: str | None = None
    properties: dict[str, str] = field(default_factory=dict)

    def schema(self) -> Schema:
        """Render the Iceberg schema; nested ids follow the top-level ones."""
        number = _counter(len(self.columns))
        fields = [
            NestedField(i, c.name, _with_ids(c.type, number), required=c.required, doc=c.meaning)
            for i, c in enumerate(self.columns, start=1)
        ]
        return Schema(*fields)

    def partition_spec(self, buckets: int) -> PartitionSpec:
        """Render the partition spec: `<column>_hour`, `<column>_bucket`."""
        parts: list[tuple[str, str, Transform[object, int]]] = []
        if self.hour_of:
            parts.append((self.hour_of, f"{self.hour_of}_hour", HourTransform()))
        if self.bucket_of:
            parts.append((self.bucket_of, f"{self.bucket_of}_bucket", BucketTransform(buckets)))
        ids = {f.name: f.field_id for f in self.schema().fields}
        return PartitionSpec(
            *(
                PartitionField(ids[column], FIRST_PARTITION_ID + i, transform, name)
                for i, (column, name, transform) in enumerate(parts)
            )
        )

    def sort_order(self) -> SortOrder:
        """Render the sort order within files."""
        ids = {f.name: f.field_id for f in self.schema().fields}
        return SortOrder(
            *(
                SortField(ids[name], IdentityTransform(), SortDirection.ASC, NullOrder.NULLS_FIRST)
                for name in self.sort_by
            )
        )

    def all_properties(self) -> dict[str, str]:
        """Render the table properties: those of every table, then this one's."""
        return {**_EVERY_TABLE, **self.properties, "comment": self.meaning}


# Of a ledger whose rows are chained (`lakehouse/chain.py`).
CHAIN = (
    Column("seq", LONG, "Counts the rows, from 1, without a gap"),
    Column("link", TEXT, "sha256 of this row and the link before it, in hex: the chain"),
)
# Of a ledger that pyiceberg writes, in a moment and without Spark: it cannot append to v3. Internal, so no
# refresh depends on it (ADR 0017). The manifests are merged, or each read would open one per append.
WITHOUT_SPARK = {"format-version": "2", "commit.manifest-merge.enabled": "true"}

_EVERY_TABLE = {
    # v3 from the first day: an upgrade by another engine stops Snowflake's refresh (ADR 0003)
    "format-version": "3",
    "write.parquet.compression-codec": "zstd",
    # ids and hashes never repeat: a large dictionary of them is work for nothing; a higher level hardly helps
    "write.parquet.compression-level": "1",
    "write.parquet.dict-size-bytes": "65536",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": str(SNAPSHOTS_KEPT),
    "write.delete.mode": "merge-on-read",
    "write.update.mode": "merge-on-read",
    "write.merge.mode": "merge-on-read",
    # the publish protocol shuffles where it pays; a shuffle by partition on every write would not
    "write.distribution-mode": "none",
    "write.merge.distribution-mode": "hash",
}


def bloom_filters(*columns: str) -> dict[str, str]:
    """Properties that have each file carry a Bloom filter of these columns, named as Iceberg does.

    For ids that are looked for without knowing when they came: statistics do not tell where a random id is.
    The smallest filter that does is kept, down to a sixteenth of the largest, so that small files stay small.
    """
    enabled = {f"write.parquet.bloom-filter-enabled.column.{column}": "true" for column in columns}
    return {
        **enabled,
        "write.parquet.bloom-filter-adaptive-enabled": "true",
        "write.parquet.bloom-filter-max-bytes": "131072",  # 1 % false among 100,000 ids, 10 % among 200,000
    }


def _counter(start: int) -> Callable[[], int]:
    number = start

    def following() -> int:
        nonlocal number
        number += 1
        return number

    return following


def _with_ids(kind: IcebergType, number: Callable[[], int]) -> IcebergType:
    if isinstance(kind, ListType):
        element_id = number()
        return ListType(element_id, _with_ids(kind.element_type, number), kind.element_required)
    if isinstance(kind, StructType):
        return StructType(
            *(
                NestedField(number(), f.name, f.field_type, required=f.required, doc=f.doc)
                for f in kind.fields
            )
        )
    return kind
