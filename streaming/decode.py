"""Raw rows judged: one pass of the contract's plain Python over Arrow batches, inside Spark.

Belongs here: moving rows between Spark and `quality.judge`.
Does not: any rule (docs/adr/0006-one-contract.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    DecimalType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from lakehouse.fold import Coordinates
from lakehouse.redrive_mark import OF, Mark, read_mark, written
from quality.contract import HISTORY, Contract, Event, Violation, contract, in_force
from quality.judge import judge
from streaming.frames import header_text

_TEXT, _TIME = StringType(), TimestampType()
_TRANSPORT = ("topic_id", "topic", "partition", "offset", "kafka_ts", "source")
_EVENT_TYPES = {
    "event_ts": _TIME,
    "ingest_ts": _TIME,
    "amount": DecimalType(19, 4),
    "revision": LongType(),
}
_VIOLATION = StructType([StructField(name, _TEXT, False) for name in Violation._fields])
SCHEMA = StructType(
    [
        StructField("topic_id", _TEXT, False),
        StructField("topic", _TEXT, False),
        StructField("partition", IntegerType(), False),
        StructField("offset", LongType(), False),
        StructField("kafka_ts", _TIME, False),
        StructField("source", _TEXT),
        StructField("redrive_of", _TEXT),
        StructField("contract_version", IntegerType(), False),
        *(StructField(name, _EVENT_TYPES.get(name, _TEXT)) for name in Event._fields),
        StructField("violations", ArrayType(_VIOLATION, False)),
    ]
)
_ARROW_EVENT_TYPES = {
    "event_ts": pa.timestamp("us", "UTC"),
    "ingest_ts": pa.timestamp("us", "UTC"),
    "amount": pa.decimal128(19, 4),
    "revision": pa.int64(),
}
_ARROW_VIOLATIONS = pa.list_(pa.struct([pa.field(name, pa.string(), False) for name in Violation._fields]))
_NO_EVENT = (None,) * len(Event._fields)


def decode(raw: DataFrame, version: int | None = None) -> DataFrame:
    """Judge raw rows: `Event`'s columns, or `violations` (null for a valid record), with the coordinates.

    Each record is judged by the contract that was in force at its Kafka time; or all by one `version`, to see
    what it would change. `redrive_of` says which record a redriven one stands for. Raises `UnknownContract`.
    """
    # The driver says what the history is, not the workers: they must not disagree.
    history = HISTORY if version is None else (contract(version),)
    return to_judge(raw).mapInArrow(partial(_judge_batches, history), SCHEMA)


def to_judge(raw: DataFrame) -> DataFrame:
    """Select what `quality.judge` looks at: `value`, `kafka_ts`, `is_archive`; coordinates and source too.

    `redrive_headers` are the headers of a redriven record (`marks_of` reads them), null for nearly all.
    """
    is_redrive = F.exists("headers", lambda h: h["key"] == F.lit(OF))
    return raw.select(
        "topic_id",
        "topic",
        "partition",
        "offset",
        "kafka_ts",
        header_text("ce_source").alias("source"),
        F.coalesce(header_text("archive") == "true", F.lit(False)).alias("is_archive"),
        F.when(is_redrive, F.col("headers")).alias("redrive_headers"),
        "value",
    )


def marks_of(batch: pa.RecordBatch) -> list[Mark | None]:
    """Read the marks of redriven records in a batch of `to_judge`; None for any other record."""
    headers = batch.column("redrive_headers")
    if headers.null_count == len(headers):
        return [None] * len(headers)
    where = map(Coordinates, *(batch.column(name).to_pylist() for name in Coordinates._fields))
    moments = batch.column("kafka_ts").to_pylist()
    return [
        read_mark(h, *at) if h else None for h, *at in zip(headers.to_pylist(), where, moments, strict=True)
    ]


def _judge_batches(
    history: tuple[Contract, ...], batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        marks = marks_of(batch)
        yield judged_batch(columns, [_row(*found) for found in verdicts(batch, marks, history)], marks)


def verdicts(
    batch: pa.RecordBatch, marks: Iterable[Mark | None], history: tuple[Contract, ...] = HISTORY
) -> Iterator[tuple[Contract, Event | list[Violation]]]:
    """Judge a batch of `to_judge`, a redriven record as of the time of the one that it stands for.

    Args:
        marks: what `marks_of` says of the batch.

    Returns:
        For each record the contract that was in force, and its verdict.
    """
    values, is_archive = (batch.column(name).to_pylist() for name in ("value", "is_archive"))
    moments = _moments(batch.column("kafka_ts"), history)
    for value, (kafka_ts, by), archive, mark in zip(values, moments, is_archive, marks, strict=True):
        yield by, judge(value, mark.first_time if mark else kafka_ts, by, archive)


def _moments(column: pa.Array, history: tuple[Contract, ...]) -> list[tuple[datetime, Contract]]:
    """Make each moment and look up its contract once: Kafka gives one to all that it took at a time."""
    encoded = column.dictionary_encode()
    moments = [(moment, in_force(moment, history)) for moment in encoded.dictionary.to_pylist()]
    return [moments[index] for index in encoded.indices.to_pylist()]


def _row(by: Contract, verdict: Event | list[Violation]) -> tuple[Any, ...]:
    if isinstance(verdict, Event):
        return (by.version, *verdict, None)
    return (by.version, *_NO_EVENT, [v._asdict() for v in verdict])


def judged_batch(
    columns: dict[str, pa.Array], judged: list[tuple[Any, ...]], marks: Sequence[Mark | None] = ()
) -> pa.RecordBatch:
    """Put verdicts beside their records' coordinates: contract version, the fields of `Event`, violations."""
    nothing = [()] * (2 + len(Event._fields))
    contract_versions, *events, violations = zip(*judged, strict=True) if judged else nothing
    arrays = [columns[name] for name in _TRANSPORT]
    stands_for = [mark and written(mark.of) for mark in marks] or [None] * len(judged)
    arrays.append(pa.array(stands_for, pa.string()))
    arrays.append(pa.array(contract_versions, pa.int32()))
    arrays += [
        pa.array(values, _ARROW_EVENT_TYPES.get(name, pa.string()))
        for name, values in zip(Event._fields, events, strict=True)
    ]
    arrays.append(pa.array(violations, _ARROW_VIOLATIONS))
    return pa.RecordBatch.from_arrays(arrays, names=SCHEMA.names)
