"""Counts of raw's records that add up: what a counting table holds, as Arrow rows.

Belongs here: adding up rows of equal keys. Does not: what is counted, publishing (`counting_job.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from lakehouse.definitions import BY_NAME

HOUR_US = 3_600_000_000
TIME = pa.timestamp("us", "UTC")
RECORDS = "records"


@dataclass(frozen=True)
class Tally:
    """What is counted into a table whose rows have an hour of Kafka time, and `records`.

    Args:
        schema: the table's columns, in its order.
        count: counts rows of raw; returns the schema's columns, one row per key of the table.
        also: columns beside `records` that are no key, and how those of equal keys are put together.
    """

    table: str
    writer: str
    schema: pa.Schema
    count: Callable[[DataFrame], pa.Table]
    also: Mapping[str, str]

    @property
    def key(self) -> tuple[str, ...]:
        return BY_NAME[self.table].key

    def same_keys(self, rows: pa.Table, counts: pa.Table) -> pa.Table:
        """The rows whose key is among the counts."""
        found = rows.join(counts.select(self.key), keys=list(self.key), join_type="left semi")
        return found.select(self.schema.names).cast(self.schema)

    def total(self, *parts: pa.Table) -> pa.Table:
        """Add up rows of equal keys."""
        ways = {**self.also, RECORDS: "sum"}
        sums = pa.concat_tables(parts).group_by(list(self.key)).aggregate(list(ways.items()))
        return sums.rename_columns([*self.key, *ways]).select(self.schema.names).cast(self.schema)


def records_in(rows: pa.Table) -> int:
    """Sum what rows count."""
    return int(pc.sum(rows[RECORDS]).as_py() or 0)


def in_microseconds(schema: pa.Schema) -> pa.Schema:
    """The schema in which counts leave Spark: times as microseconds, which no session's zone touches."""
    return pa.schema([pa.field(f.name, pa.int64() if f.type == TIME else f.type) for f in schema])
