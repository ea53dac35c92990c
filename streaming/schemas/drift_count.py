"""Counting what raw's records carry beside the contract: per hour, partner, field and type.

Belongs here: a batch's counts, and adding them to those that the table has. Does not: what counts as unknown
(`quality/drift.py`), publishing (`drift_job.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.definitions import BY_NAME, DRIFT
from quality.drift import unknown_fields
from streaming.decode import to_judge

KEY = BY_NAME[DRIFT].key
MORE = "(more fields)"
MAX_FIELDS = 1_000  # in one batch of Arrow rows: a partner that uses ids for names must not fill the memory
_HOUR_US = 3_600_000_000
_TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        pa.field("kafka_hour", _TIME, False),
        pa.field("source", pa.string(), False),
        pa.field("field", pa.string(), False),
        pa.field("json_type", pa.string(), False),
        pa.field("first_seen", _TIME, False),
        pa.field("last_seen", _TIME, False),
        pa.field("records", pa.int64(), False),
    ]
)
# Times go through Spark as microseconds since 1970, which no session's time zone touches.
_COUNTED = (
    "kafka_hour LONG, source STRING, field STRING, json_type STRING, "
    "first_seen LONG, last_seen LONG, records LONG"
)
_AS_COUNTED = pa.schema([pa.field(f.name, pa.int64() if f.type == _TIME else f.type) for f in SCHEMA])


def count(raw: DataFrame) -> pa.Table:
    """Count the unknown fields in rows of raw. Returns the table's columns, one row per key."""
    rows = to_judge(raw).select("kafka_ts", "source", "value").mapInArrow(_count_batches, _COUNTED)
    sums = rows.groupBy(*KEY).agg(
        F.min("first_seen").alias("first_seen"),
        F.max("last_seen").alias("last_seen"),
        F.sum("records").alias("records"),
    )
    return sums.toArrow().select(SCHEMA.names).cast(_AS_COUNTED).cast(SCHEMA)


def same_keys(rows: pa.Table, counts: pa.Table) -> pa.Table:
    """The rows whose key is among the counts."""
    found = rows.join(counts.select(KEY), keys=list(KEY), join_type="left semi")
    return found.select(SCHEMA.names).cast(SCHEMA)


def total(*parts: pa.Table) -> pa.Table:
    """Add up rows of equal keys."""
    sums = (
        pa.concat_tables(parts)
        .group_by(list(KEY))
        .aggregate([("first_seen", "min"), ("last_seen", "max"), ("records", "sum")])
    )
    return sums.rename_columns([*KEY, "first_seen", "last_seen", "records"]).cast(SCHEMA)


def _count_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        counts: dict[tuple[int, str, str, str], tuple[int, int, int]] = {}
        times = batch.column("kafka_ts").cast(pa.int64()).to_pylist()
        sources = batch.column("source").to_pylist()
        for time, source, value in zip(times, sources, batch.column("value").to_pylist(), strict=True):
            for field, json_type in unknown_fields(value):
                key = (time // _HOUR_US * _HOUR_US, source or "", field, json_type)
                if key not in counts and len(counts) >= MAX_FIELDS:
                    key = (*key[:2], MORE, "")
                first, last, records = counts.get(key, (time, time, 0))
                counts[key] = (min(first, time), max(last, time), records + 1)
        rows = [dict(zip(SCHEMA.names, (*key, *seen), strict=True)) for key, seen in counts.items()]
        yield pa.RecordBatch.from_pylist(rows, _AS_COUNTED)
