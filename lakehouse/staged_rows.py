"""What the rows of a staged snapshot must be, stated by pandera from the table's definition and the contract.

Belongs here: schemas made from the definitions, and holding added rows against them. Does not: counts and
keys (`audit.py`), any list of columns (`definitions/`), any limit (`quality/contract.py`).

The rows are read once, with pyarrow, and given to polars as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, cast

import pandera.polars as pandera
import polars as pl
import pyarrow as pa
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaErrors
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import (
    DecimalType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    StringType,
    StructType,
    TimestamptzType,
)

from lakehouse import audit
from lakehouse.definitions import BY_NAME, Table
from lakehouse.errors import AuditFailed
from lakehouse.fold import Coordinates
from lakehouse.refs import Head
from quality import contract
from quality.contract import AMOUNT_LIMIT, EVENT_TYPES, MAX_ID_BYTES, MAX_REVISION, NETWORKS, STATUSES
from quality.currencies import MINOR_UNITS
from quality.fields import masked
from quality.policy import STAGED_ROWS

EXAMPLES = 3
_COORDINATES = Coordinates._fields
_PLAIN: dict[type[IcebergType], pl.DataType] = {
    StringType: pl.String(),
    LongType: pl.Int64(),
    IntegerType: pl.Int32(),
    TimestamptzType: pl.Datetime("us", "UTC"),
}


def check_added(table: IcebergTable, staged: Snapshot, head: Head, count: int) -> None:
    """Check the rows that a stage added: how many, no key twice, each as table and contract want it.

    Raises `AuditFailed`; its message names the check and the first rows by their coordinates, values masked.
    """
    definition = BY_NAME[head.name]
    columns, key = [column.name for column in definition.columns], list(definition.key)
    keys = []
    for part in audit.added_parts(table, staged, head.snapshot.snapshot_id, columns):
        check_rows(part, definition)
        keys.append(part.select(key))
    rows = pa.concat_tables(keys) if keys else pa.table({name: [] for name in key})
    audit.check_count(rows.num_rows, count, "rows staged", head.name)
    audit.check_unique(rows, key, head.name)


def check_rows(rows: pa.Table, definition: Table) -> None:
    """Check every row against what pandera states of the table. Raises `AuditFailed`."""
    if not rows.num_rows:
        return
    frame = cast(pl.DataFrame, pl.from_arrow(rows))
    try:
        # Said here, or an environment variable could turn the check off.
        with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            schema_of(definition).validate(frame, lazy=True)
    except SchemaErrors as errors:
        told = "; ".join(_told(errors.failure_cases, frame))
        raise AuditFailed(
            f"table {definition.name}: staged rows are not what table and contract want: {told}",
            "the rows were spoilt on their way from raw: nothing was published",
            gate=STAGED_ROWS,
            table=definition.name,
        ) from None


def schema_of(definition: Table) -> pandera.DataFrameSchema:
    """State what the rows of a table are: types and nulls by its definition, values by the contract."""
    columns = {
        column.name: pandera.Column(
            _type(column.type), checks=_checks(column.name), nullable=not column.required
        )
        for column in definition.columns
    }
    names = set(columns)
    across = [_check(name, says) for needed, name, says in _ACROSS if needed <= names]
    return pandera.DataFrameSchema(columns, checks=across, strict=True, name=definition.name)


def _type(kind: IcebergType) -> pl.DataType:
    if isinstance(kind, DecimalType):
        return pl.Decimal(kind.precision, kind.scale)
    if isinstance(kind, ListType):
        return pl.List(_type(kind.element_type))
    if isinstance(kind, StructType):
        return pl.Struct({f.name: _type(f.field_type) for f in kind.fields})
    return _PLAIN[type(kind)]


def _checks(column: str) -> list[pandera.Check]:
    return [_check(name, says(pl.col(column))) for name, says in _VALUES.get(column, {}).items()]


def _check(name: str, says: pl.Expr) -> pandera.Check:
    """A check that every row must pass; null says nothing, whether it may be there is the column's to say."""
    return pandera.Check(lambda rows: rows.lazyframe.select(says.fill_null(True)), name=name)


def _matches(pattern: str) -> _Says:
    return lambda column: column.str.contains(pattern)


def _one_of(values: Iterable[str]) -> _Says:
    return lambda column: column.is_in(sorted(values))


def _is_identifier(column: pl.Expr) -> pl.Expr:
    return column.str.len_bytes().is_between(1, MAX_ID_BYTES)


def _has_no_more_places(amount: pl.Expr, currency: pl.Expr) -> pl.Expr:
    """Tell whether the amount needs no more decimal places than its currency has."""
    exact = pl.lit(False)
    for places in sorted(set(MINOR_UNITS.values())):
        of_these = currency.is_in([code for code, units in MINOR_UNITS.items() if units == places])
        exact = exact | (of_these & (amount.round(places) == amount))
    return exact


def _told(failures: pl.DataFrame, rows: pl.DataFrame) -> Iterator[str]:
    """Tell each check that fell short: how often, and the first rows by their coordinates."""
    by = ("schema_context", "column", "check")
    for (context, column, check), cases in failures.group_by(by, maintain_order=True):
        is_value = context == "Column"
        found = cases.head(EXAMPLES).select("failure_case", "index").iter_rows()
        examples = ", ".join(_example(is_value, case, index, rows) for case, index in found)
        yield f"{column if is_value else 'row'}: {check} ({cases.height}: {examples})"


def _example(is_value: bool, case: Any, index: int | None, rows: pl.DataFrame) -> str:
    if index is None or not set(_COORDINATES) <= set(rows.columns):
        return masked(case)
    topic, partition, offset = rows.select(_COORDINATES).row(index)
    where = f"{topic}-{partition}@{offset}"
    return f"{where} {masked(case)!r}" if is_value else where


_Says = Callable[[pl.Expr], pl.Expr]
_HASH: dict[str, _Says] = {"a sha256 in lower case hex": _matches(r"^[0-9a-f]{64}$")}
_ID: dict[str, _Says] = {f"1 to {MAX_ID_BYTES} bytes": _is_identifier}
_NAME: dict[str, _Says] = {"a UUID in lower case": _matches(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")}
_COUNT: dict[str, _Says] = {"0 or more": lambda column: column >= 0}
_SOME: dict[str, _Says] = {"at least one": lambda column: column.list.len() > 0}
# What the contract says of a column, whichever table it stands in.
_VALUES: dict[str, dict[str, _Says]] = {
    "event_id": _NAME,
    "original_event_id": _NAME,
    "event_type": {"a known type": _one_of(EVENT_TYPES)},
    "account_id": _ID,
    "card_id": _ID,
    "merchant_id": _ID,
    "transaction_ref": _ID,
    "amount": {
        "0 or more, as the column holds it": lambda a: a.is_between(Decimal(0), AMOUNT_LIMIT, closed="left")
    },
    "currency": {"a known currency": _one_of(MINOR_UNITS)},
    "network": {"a known network": _one_of(NETWORKS)},
    "status": {"a known status": _one_of(STATUSES)},
    "revision": {"1 or more": lambda column: column.is_between(1, MAX_REVISION)},
    "attributes": {"an object": lambda column: column.str.starts_with("{") & column.str.ends_with("}")},
    "content_hash": _HASH,
    "business_key": _HASH,
    "event_ids": _SOME,
    "violations": _SOME,
    "contract_version": {
        "a known version": lambda column: column.is_in([known.version for known in contract.HISTORY])
    },
    "partition": _COUNT,
    "offset": _COUNT,
}
# What it says of several columns of a row, wherever all of them stand.
_ACROSS: tuple[tuple[set[str], str, pl.Expr], ...] = (
    (
        {"amount", "currency"},
        "no more decimal places than the currency has",
        _has_no_more_places(pl.col("amount"), pl.col("currency")),
    ),
    (
        {"event_ts", "kafka_ts"},
        "not further ahead of its record than any contract allows",
        pl.col("event_ts") - pl.col("kafka_ts") <= max(known.max_future for known in contract.HISTORY),
    ),
    (
        {"event_id", "original_event_id", "event_ids"},
        "the event that is shown, or that its notice names, is a member",
        pl.any_horizontal(
            pl.col("event_ids").list.contains(pl.col(name)).fill_null(False)
            for name in ("event_id", "original_event_id")
        ),
    ),
)
