"""The fold inside Spark: `lakehouse.fold` itself, run over groups of versions that belong together.

Belongs here: grouping versions so that the reference can fold each group alone, and moving the rows.
Does not: any rule of the fold. It is no second implementation (docs/adr/0002-stateless-fold.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import (
    ArrayType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from lakehouse.fold import Version, fold_events, fold_payments

# An event's account and time never change, and both are part of the business key: whatever versions,
# events and payments have to do with each other agree in these two.
GROUP = ("account_id", "event_ts")
# What the rules look at, in the order of the fields of `Version`; the group comes first.
DECIDING = (
    *GROUP,
    "event_type",
    "event_id",
    "content_hash",
    "business_key",
    "status",
    "revision",
    "original_event_id",
    "transaction_ref",
    "first_ingest_ts",
)
EARLIEST_COPY = ("source", "first_ingest_ts", "topic_id", "topic", "partition", "offset")
VERSION_KEY = ("event_id", "content_hash")
PAYMENT_KEY = ("business_key", "transaction_ref")
# Two rows of one payment that agree in these agree in all: the content hash stands for the content.
ROW_STATE = (*VERSION_KEY, "status", "event_ids", "flags", *EARLIEST_COPY)
TRANSPORT = ("source", "topic_id", "topic", "partition", "offset")
_INPUT = (*DECIDING, *TRANSPORT)
_ROWS_PER_BATCH = 10_000
_TEXT, _TIME = StringType(), TimestampType()
_TEXTS = ArrayType(_TEXT, False)
_SCHEMA = StructType(
    [
        StructField("account_id", _TEXT),
        StructField("event_ts", _TIME),
        StructField("business_key", _TEXT),
        StructField("transaction_ref", _TEXT),
        StructField("event_id", _TEXT),
        StructField("content_hash", _TEXT),
        StructField("status", _TEXT),
        StructField("event_ids", _TEXTS),
        StructField("flags", _TEXTS),
        StructField("first_ingest_ts", _TIME),
        StructField("source", _TEXT),
        StructField("topic_id", _TEXT),
        StructField("topic", _TEXT),
        StructField("partition", IntegerType()),
        StructField("offset", LongType()),
    ]
)
_MOMENT, _STRINGS = pa.timestamp("us", "UTC"), pa.list_(pa.string())
_ARROW = {
    "event_ts": _MOMENT,
    "first_ingest_ts": _MOMENT,
    "event_ids": _STRINGS,
    "flags": _STRINGS,
    "partition": pa.int32(),
    "offset": pa.int64(),
}


def fold_groups(versions: DataFrame) -> DataFrame:
    """Fold whole groups of versions to one row per payment: its key, what it shows, members and flags.

    Args:
        versions: every version of each group (`GROUP`), with the columns of event_versions.

    Returns:
        `GROUP`, `PAYMENT_KEY` and `ROW_STATE`; the content itself joins by `VERSION_KEY`.
    """
    together = versions.select(*_INPUT).repartition(*GROUP).sortWithinPartitions(*GROUP)
    return together.mapInArrow(_fold_sorted, _SCHEMA)


def _fold_sorted(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    rows = (row for batch in batches for row in zip(*(c.to_pylist() for c in batch.columns), strict=True))
    payments = (payment for _, group in groupby(rows, _group_of) for payment in _fold_group(list(group)))
    while some := list(islice(payments, _ROWS_PER_BATCH)):
        columns = zip(*some, strict=True)
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(c, _ARROW.get(name, pa.string()))
                for name, c in zip(_SCHEMA.names, columns, strict=True)
            ],
            names=_SCHEMA.names,
        )


def _group_of(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row[: len(GROUP)]


def _fold_group(rows: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    versions = [Version(*row[: len(DECIDING)]) for row in rows]
    transport = {v.content_hash: row[len(DECIDING) :] for v, row in zip(versions, rows, strict=True)}
    for payment in fold_payments(fold_events(versions)):
        shown = payment.row
        yield (
            *rows[0][: len(GROUP)],
            payment.business_key,
            payment.transaction_ref,
            shown.event_id,
            shown.content_hash,
            payment.status,
            payment.event_ids,
            payment.flags,
            shown.first_ingest_ts,
            *transport[shown.content_hash],
        )
