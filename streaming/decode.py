"""Raw rows judged: one pass of the contract's plain Python over Arrow batches, inside Spark.

Belongs here: moving rows between Spark and `quality.judge`.
Does not: any rule (docs/adr/0006-one-contract.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
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

from quality.contract import Contract, Event, Violation, contract, in_force
from quality.judge import judge

_TEXT, _TIME = StringType(), TimestampType()
_COORDINATES = ("topic_id", "topic", "partition", "offset", "kafka_ts", "source")
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
    what it would change. Raises `UnknownContract`.
    """
    only = None if version is None else contract(version)
    return to_judge(raw).mapInArrow(partial(_judge_batches, only), SCHEMA)


def to_judge(raw: DataFrame) -> DataFrame:
    """Select what `quality.judge` looks at: `value`, `kafka_ts`, `is_archive`; coordinates and source too."""
    return raw.select(
        "topic_id",
        "topic",
        "partition",
        "offset",
        "kafka_ts",
        _header("ce_source").alias("source"),
        F.coalesce(_header("archive") == "true", F.lit(False)).alias("is_archive"),
        "value",
    )


def _header(name: str) -> Column:
    """Text of the first header of this name; null where there is none or it is not UTF-8."""
    found = F.filter("headers", lambda h: h["key"] == F.lit(name))
    return F.try_validate_utf8(F.get(found, F.lit(0))["value"].cast("string"))


def _judge_batches(only: Contract | None, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        values, is_archive = columns["value"].to_pylist(), columns["is_archive"].to_pylist()
        rows = zip(values, _moments(columns["kafka_ts"]), is_archive, strict=True)
        yield judged_batch(columns, [_judge(only, *row) for row in rows])


def _moments(column: pa.Array) -> list[datetime]:
    """Make each moment once: Kafka gives one to all the records that it took at a time."""
    encoded = column.dictionary_encode()
    moments = encoded.dictionary.to_pylist()
    return [moments[index] for index in encoded.indices.to_pylist()]


def _judge(
    only: Contract | None, value: bytes | None, kafka_ts: datetime, is_archive: bool
) -> tuple[Any, ...]:
    by = only or in_force(kafka_ts)
    verdict = judge(value, kafka_ts, by, is_archive)
    if isinstance(verdict, Event):
        return (by.version, *verdict, None)
    return (by.version, *_NO_EVENT, [v._asdict() for v in verdict])


def judged_batch(columns: dict[str, pa.Array], judged: list[tuple[Any, ...]]) -> pa.RecordBatch:
    """Put verdicts beside their records' coordinates: contract version, the fields of `Event`, violations."""
    nothing = [()] * (2 + len(Event._fields))
    contract_versions, *events, violations = zip(*judged, strict=True) if judged else nothing
    arrays = [columns[name] for name in _COORDINATES]
    arrays.append(pa.array(contract_versions, pa.int32()))
    arrays += [
        pa.array(values, _ARROW_EVENT_TYPES.get(name, pa.string()))
        for name, values in zip(Event._fields, events, strict=True)
    ]
    arrays.append(pa.array(violations, _ARROW_VIOLATIONS))
    return pa.RecordBatch.from_arrays(arrays, names=SCHEMA.names)
