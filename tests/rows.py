"""Random rows of a table, from its definition, with all that a type can hold; and the same as Arrow."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.types import (
    BinaryType,
    DecimalType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    StringType,
    StructType,
    TimestamptzType,
)

from lakehouse.definitions import Table

Row = dict[str, Any]
TEXTS = ["", "-", "0:", "1:a", "é", "日本", "💳", "'\"`\\", "a\x00b", "\x00", "e\u0301", "{}", " ", "$1%s{0}"]
TIMES = [
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(1582, 10, 4, 12, tzinfo=UTC),
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
]
_EDGES: dict[type[IcebergType], list[Any]] = {
    StringType: TEXTS,
    TimestamptzType: TIMES,
    BinaryType: [b"", b"\x00", b"\xff-"],
    IntegerType: [0, -1, 2**31 - 1, -(2**31)],
    LongType: [0, -1, 2**63 - 1, -(2**63)],
}
_text = st.sampled_from(TEXTS) | st.text(st.characters(codec="utf-8"), max_size=8)
_times = st.sampled_from(TIMES) | st.datetimes(timezones=st.just(UTC))


def rows_of(table: Table, nulls: bool = True) -> st.SearchStrategy[Row]:
    """Rows of a table. With `nulls` any column may be null, also one that is required."""
    return st.fixed_dictionaries(
        {c.name: _maybe(_values(c.type), nulls or not c.required) for c in table.columns}
    )


def arrow(table: Table, rows: list[Row]) -> pa.Table:
    """The rows as Arrow, in the types that pyiceberg reads the table with; every column may be null."""
    schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
    return pa.Table.from_pylist(rows, pa.schema([_nullable(f) for f in schema]))


def edge_rows(table: Table) -> list[Row]:
    """A few rows, not random: each type's extremes and nulls, every text of `TEXTS`."""
    size = max(len(TEXTS), len(TIMES))
    edges = {c.name: [*_edges(c.type), None] for c in table.columns}
    return [
        {name: values[(i + shift) % len(values)] for shift, (name, values) in enumerate(edges.items())}
        for i in range(size + 1)
    ]


def _values(kind: IcebergType) -> st.SearchStrategy[Any]:
    if isinstance(kind, ListType):
        return st.lists(_maybe(_values(kind.element_type), True), max_size=3)
    if isinstance(kind, StructType):
        return st.fixed_dictionaries({f.name: _maybe(_values(f.field_type), True) for f in kind.fields})
    if isinstance(kind, DecimalType):
        most = 10**kind.precision - 1
        return st.integers(-most, most).map(lambda n: _decimal(n, kind.scale))
    if isinstance(kind, StringType):
        return _text
    if isinstance(kind, TimestamptzType):
        return _times
    if isinstance(kind, BinaryType):
        return st.binary(max_size=5)
    return st.sampled_from(_edges(kind)) | st.integers(-1000, 1000)


def _edges(kind: IcebergType) -> list[Any]:
    if isinstance(kind, ListType):
        element = _edges(kind.element_type)
        return [[], element[:1], element[:3], [None], [None, element[0]]]
    if isinstance(kind, StructType):
        firsts = {f.name: _edges(f.field_type)[0] for f in kind.fields}
        return [dict.fromkeys(firsts), firsts]
    if isinstance(kind, DecimalType):
        most = 10**kind.precision - 1
        return [_decimal(n, kind.scale) for n in (0, 1, -1, most, -most, 10**kind.scale)]
    return _EDGES[type(kind)]


def _decimal(unscaled: int, scale: int) -> Decimal:
    digits = tuple(int(d) for d in str(abs(unscaled)))
    return Decimal((int(unscaled < 0), digits, -scale))  # no arithmetic: its precision may be too small


def _maybe(values: st.SearchStrategy[Any], nulls: bool) -> st.SearchStrategy[Any]:
    return st.none() | values if nulls else values


def _nullable(field: pa.Field) -> pa.Field:
    kind = field.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = pa.list_(_nullable(kind.value_field))
    elif pa.types.is_struct(kind):
        kind = pa.struct([_nullable(f) for f in kind.fields])
    return pa.field(field.name, kind, nullable=True)
