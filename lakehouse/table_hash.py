"""The content hash of a table: as one SELECT for Spark or DuckDB, or from Arrow data in plain Python.

Belongs here: what `content_hash.py` means for our tables and in each engine. Does not: running SQL, choosing
snapshots and partitions; the caller does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
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

from lakehouse.content_hash import (
    LANE_DIGITS,
    LANES,
    Binary,
    Fingerprint,
    Fixed,
    Kind,
    Many,
    Record,
    Shape,
    Sums,
    Text,
    Time,
    Whole,
    combine,
    of_columns,
    of_lanes,
)
from lakehouse.definitions import Table
from lakehouse.errors import LakehouseError

DialectName = Literal["spark", "duckdb"]
# Beyond this Spark without ANSI mode writes small decimals as 1E-7.
_MAX_SCALE = 6
_SIMPLE: dict[type[IcebergType], Kind] = {
    StringType: Text(),
    IntegerType: Whole(),
    LongType: Whole(),
    TimestamptzType: Time(),
    BinaryType: Binary(),
}


class NotHashable(LakehouseError):
    """A column that the table has not, or whose type no encoding is agreed for."""


@dataclass(frozen=True)
class _Dialect:
    """What differs between engines, as templates."""

    quote: str
    length: str
    micros: str
    digest: str
    number: str
    member: str
    joined: str


_DIALECTS: dict[DialectName, _Dialect] = {
    "spark": _Dialect(
        quote="`",
        length="octet_length({0})",
        micros="unix_micros({0})",
        digest="sha2({0}, 256)",
        number="CAST(conv({0}, 16, 10) AS BIGINT)",
        member="{0}.`{1}`",
        joined="array_join(transform({0}, {1} -> {2}), '')",
    ),
    "duckdb": _Dialect(
        quote='"',
        length="strlen({0})",  # in bytes, by its documentation; length() counts characters
        micros="epoch_us({0})",
        digest="sha256({0})",
        number="CAST('0x' || {0} AS BIGINT)",
        member="struct_extract({0}, '{1}')",
        # joining an empty list gives null there
        joined="CASE WHEN {0} IS NOT NULL THEN"
        " coalesce(array_to_string(list_transform({0}, lambda {1}: {2}), ''), '') END",
    ),
}


def shape_of(table: Table, columns: Sequence[str] | None = None) -> Shape:
    """Return how a table's columns (all, or the named ones, in the table's order) are written.

    Raises `NotHashable` for an unknown column or type.
    """
    known = {c.name for c in table.columns}
    if columns is not None and (unknown := sorted(set(columns) - known)):
        raise NotHashable(f"{table.name} has no column {', '.join(unknown)}", f"it has {', '.join(known)}")
    wanted = known if columns is None else set(columns)
    return tuple((c.name, _kind(c.type)) for c in table.columns if c.name in wanted)


def sql(
    table: Table,
    dialect: DialectName,
    *,
    source: str | None = None,
    columns: Sequence[str] | None = None,
    partition: Mapping[str, str] | None = None,
    where: str | None = None,
) -> str:
    """Write the SELECT whose rows `sums_by_partition` reads.

    Args:
        source: what stands after FROM, the table's name unless given.
        columns: columns to hash, all unless given.
        partition: name -> expression of what to group by; one row of sums per group. None: one row in all.
        where: condition on the rows.
    """
    words, groups = _DIALECTS[dialect], dict(partition or {})
    digest = row_digest(table, dialect, columns)
    named = [f"{expression} AS {_quoted(name, words)}" for name, expression in groups.items()]
    rows = f"SELECT {', '.join([*named, f'{digest} AS digest'])} FROM {source or table.name}"  # noqa: S608
    if where:
        rows += f" WHERE {where}"
    keys = [_quoted(name, words) for name in groups]
    select = f"SELECT {', '.join([*keys, 'count(*) AS row_count', *_lanes(words)])} FROM ({rows}) AS hashed"  # noqa: S608
    return select + (f" GROUP BY {', '.join(keys)}" if keys else "")


def row_digest(table: Table, dialect: DialectName, columns: Sequence[str] | None = None) -> str:
    """Write the SQL expression of one row's digest: 64 hex digits, equal for equal rows only."""
    words = _DIALECTS[dialect]
    fields = [_field(kind, _quoted(name, words), words) for name, kind in shape_of(table, columns)]
    return words.digest.format(f"concat({', '.join(fields)})")


def sums_by_partition(rows: Iterable[Sequence[Any]]) -> dict[tuple[Any, ...], Sums]:
    """Read the rows that the SELECT of `sql` gave: the partition's values, `()` for none, and its sums."""
    width = 1 + LANES
    return {
        tuple(row[:-width]): of_lanes(int(row[-width]), [int(lane) for lane in row[1 - width :]])
        for row in rows
    }


def of_arrow(table: Table, data: pa.Table, columns: Sequence[str] | None = None) -> Fingerprint:
    """Return the fingerprint of rows read by pyiceberg or pyarrow, without any engine."""
    return sums_of_batches(table, data.to_batches(), columns).fingerprint(shape_of(table, columns))


def sums_of_batches(
    table: Table, batches: Iterable[pa.RecordBatch], columns: Sequence[str] | None = None
) -> Sums:
    """Add up record batches as they come, so that a scan need not fit into memory."""
    shape = shape_of(table, columns)
    return combine(
        of_columns(shape, [_values(kind, batch.column(name)) for name, kind in shape]) for batch in batches
    )


def _kind(kind: IcebergType) -> Kind:
    if isinstance(kind, ListType):
        return Many(_kind(kind.element_type))
    if isinstance(kind, StructType):
        return Record(tuple((f.name, _kind(f.field_type)) for f in kind.fields))
    if isinstance(kind, DecimalType) and kind.scale <= _MAX_SCALE and kind.scale < kind.precision:
        return Fixed(kind.scale)
    if type(kind) in _SIMPLE:
        return _SIMPLE[type(kind)]
    raise NotHashable(f"no encoding is agreed for {kind}", "add one to lakehouse/table_hash.py")


def _lanes(words: _Dialect) -> list[str]:
    starts = [1 + LANE_DIGITS * i for i in range(LANES)]
    lanes = [words.number.format(f"substr(digest, {start}, {LANE_DIGITS})") for start in starts]
    return [f"coalesce(sum({lane}), 0) AS lane_{i}" for i, lane in enumerate(lanes)]


def _field(kind: Kind, value: str, words: _Dialect, depth: int = 0) -> str:
    """SQL of what `quality.canonical.encode_fields` writes for one field; it is never null."""
    text = _text(kind, value, words, depth)
    return f"coalesce({words.length.format(text)} || ':' || {text}, '-')"


def _text(kind: Kind, value: str, words: _Dialect, depth: int) -> str:
    """SQL of `Kind.text`; null where the value is."""
    match kind:
        case Text():
            return value
        case Time():
            return f"CAST({words.micros.format(value)} AS STRING)"
        case Binary():
            return f"lower(hex({value}))"
        case Many(element):
            each = f"e{depth}"
            return words.joined.format(value, each, _field(element, each, words, depth + 1))
        case Record(fields):
            members = [_field(k, words.member.format(value, n), words, depth) for n, k in fields]
            return f"CASE WHEN {value} IS NOT NULL THEN concat({', '.join(members)}) END"
        case _:
            return f"CAST({value} AS STRING)"


def _values(kind: Kind, column: pa.Array) -> Iterable[Any]:
    if isinstance(kind, Time):  # Python's datetime ends at the year 9999, and is slow to make
        column = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    values: list[Any] = column.to_pylist()
    return values


def _quoted(name: str, words: _Dialect) -> str:
    return f"{words.quote}{name}{words.quote}"
