"""Counting what each partner's hours look like: rows of raw to rows of quality.partner_hours.

Belongs here: a batch's counts. Does not: what a record counts for (`quality/profile.py`), adding up
(`streaming/counting.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.arrivals_sql import CLOSED_AFTER
from lakehouse.definitions.partner_hours import PARTNER_HOURS
from quality.contract import Event
from quality.judge import micros
from quality.profile import Counted, of_record
from streaming.counting import HOUR_US, TIME, Tally, in_microseconds
from streaming.decode import marks_of, to_judge, verdicts

SCHEMA = pa.schema(
    [
        pa.field("kafka_hour", TIME, False),
        pa.field("source", pa.string(), False),
        pa.field("measure", pa.string(), False),
        pa.field("value", pa.string(), False),
        pa.field("records", pa.int64(), False),
    ]
)
_COUNTED = "kafka_hour LONG, source STRING, measure STRING, value STRING, records LONG"
_AS_COUNTED = in_microseconds(SCHEMA)


def count(raw: DataFrame) -> pa.Table:
    """Count rows of raw, each judged as of its Kafka time. Returns the table's columns, one row per key."""
    counted = to_judge(raw).mapInArrow(_count_batches, _COUNTED)
    sums = counted.groupBy(*TALLY.key).agg(F.sum("records").alias("records"))
    return sums.toArrow().select(SCHEMA.names).cast(_AS_COUNTED).cast(SCHEMA)


TALLY = Tally(PARTNER_HOURS, "profile", SCHEMA, count, also={})


def _count_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        hours: dict[tuple[int, str], Counter[Counted]] = {}
        when, sources = (batch.column(name).to_pylist() for name in ("kafka_ts", "source"))
        judged = verdicts(batch, marks_of(batch))
        for kafka_ts, source, (by, verdict) in zip(when, sources, judged, strict=True):
            hour = micros(kafka_ts) // HOUR_US * HOUR_US, source or ""
            event = verdict if isinstance(verdict, Event) else None
            hours.setdefault(hour, Counter()).update(of_record(event, kafka_ts, CLOSED_AFTER, by))
        rows = [
            dict(zip(SCHEMA.names, (*hour, *counted, records), strict=True))
            for hour, counts in hours.items()
            for counted, records in counts.items()
        ]
        yield pa.RecordBatch.from_pylist(rows, _AS_COUNTED)
