"""Counting what raw's records carry beside the contract: per hour, partner, field and type.

Belongs here: a batch's counts. Does not: what counts as unknown (`quality/drift.py`), adding up
(`streaming/counting.py`), publishing (`drift_job.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.definitions import DRIFT
from quality.drift import unknown_fields
from streaming.counting import HOUR_US, TIME, Tally, in_microseconds
from streaming.decode import to_judge

MORE = "(more fields)"
MAX_FIELDS = 1_000  # in one batch of Arrow rows: a partner that uses ids for names must not fill the memory
SCHEMA = pa.schema(
    [
        pa.field("kafka_hour", TIME, False),
        pa.field("source", pa.string(), False),
        pa.field("field", pa.string(), False),
        pa.field("json_type", pa.string(), False),
        pa.field("first_seen", TIME, False),
        pa.field("last_seen", TIME, False),
        pa.field("records", pa.int64(), False),
    ]
)
_COUNTED = (
    "kafka_hour LONG, source STRING, field STRING, json_type STRING, "
    "first_seen LONG, last_seen LONG, records LONG"
)
_AS_COUNTED = in_microseconds(SCHEMA)


def count(raw: DataFrame) -> pa.Table:
    """Count the unknown fields in rows of raw. Returns the table's columns, one row per key."""
    rows = to_judge(raw).select("kafka_ts", "source", "value").mapInArrow(_count_batches, _COUNTED)
    sums = rows.groupBy(*TALLY.key).agg(
        F.min("first_seen").alias("first_seen"),
        F.max("last_seen").alias("last_seen"),
        F.sum("records").alias("records"),
    )
    return sums.toArrow().select(SCHEMA.names).cast(_AS_COUNTED).cast(SCHEMA)


TALLY = Tally(DRIFT, "drift", SCHEMA, count, also={"first_seen": "min", "last_seen": "max"})


def _count_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        counts: dict[tuple[int, str, str, str], tuple[int, int, int]] = {}
        times = batch.column("kafka_ts").cast(pa.int64()).to_pylist()
        sources = batch.column("source").to_pylist()
        for time, source, value in zip(times, sources, batch.column("value").to_pylist(), strict=True):
            for field, json_type in unknown_fields(value):
                key = (time // HOUR_US * HOUR_US, source or "", field, json_type)
                if key not in counts and len(counts) >= MAX_FIELDS:
                    key = (*key[:2], MORE, "")
                first, last, records = counts.get(key, (time, time, 0))
                counts[key] = (min(first, time), max(last, time), records + 1)
        rows = [dict(zip(SCHEMA.names, (*key, *seen), strict=True)) for key, seen in counts.items()]
        yield pa.RecordBatch.from_pylist(rows, _AS_COUNTED)
