"""What another contract version would change, added up over rows of raw.

Belongs here: moving rows to `quality.contract_diff` and adding up. Does not: what counts as a change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.fold import Coordinates
from lakehouse.redrive_mark import Mark
from quality.contract import Contract, contract, in_force
from quality.contract_diff import Change, difference
from quality.judge import judge
from streaming.decode import marks_of, to_judge

EXAMPLES = 3
_COORDINATES = Coordinates._fields
_KINDS = ("change", "rules", "event_type", "currency")
_COLUMNS = (
    "topic_id string, partition int, offset long, "
    "change string, rules string, event_type string, currency string, amount decimal(19,4)"
)
_AMOUNT = pa.decimal128(19, 4)


def contract_changes(raw: DataFrame, version: int) -> DataFrame:
    """Compare the contract in force at each record's Kafka time with another version.

    Args:
        raw: rows of raw.
        version: the version to compare with.

    Returns:
        One row per kind of change, the most frequent first: `change`, `rules`, `event_type`, `currency` (as
        `quality.contract_diff.Change` has them), `records`, `amount` (their sum), and `examples`: coordinates
        (`topic_id`, `partition`, `offset`) of the first records. No row: nothing would change.

    Raises:
        UnknownContract: there is no such version.
    """
    changed = to_judge(raw).mapInArrow(partial(_compare, contract(version)), _COLUMNS)
    nth = F.row_number().over(Window.partitionBy(*_KINDS).orderBy(*_COORDINATES))
    example = F.when(nth <= EXAMPLES, F.struct(*_COORDINATES))
    return (
        changed.withColumn("example", example)
        .groupBy(*_KINDS)
        .agg(
            F.count("*").alias("records"),
            F.sum("amount").cast("decimal(28,4)").alias("amount"),
            F.sort_array(F.collect_list("example")).alias("examples"),
        )
        .orderBy(F.desc("records"), *_KINDS)
    )


def _compare(other: Contract, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        columns = {name: batch.column(name).to_pylist() for name in ("value", "kafka_ts", "is_archive")}
        judged = zip(*columns.values(), marks_of(batch), strict=True)
        found = [_difference(other, *row) for row in judged]
        rows = [nth for nth, change in enumerate(found) if change is not None]
        yield _batch(batch, rows, [change for change in found if change is not None])


def _difference(
    other: Contract, value: bytes | None, kafka_ts: datetime, is_archive: bool, mark: Mark | None
) -> Change | None:
    own = in_force(kafka_ts)
    if own == other:
        return None
    as_of = mark.first_time if mark else kafka_ts
    return difference(judge(value, as_of, own, is_archive), judge(value, as_of, other, is_archive))


def _batch(batch: pa.RecordBatch, rows: list[int], changes: list[Change]) -> pa.RecordBatch:
    where = batch.select(_COORDINATES).take(pa.array(rows, pa.int64()))
    told = zip(*changes, strict=True) if changes else [()] * len(Change._fields)
    arrays = [
        pa.array(values, _AMOUNT if name == "amount" else pa.string())
        for name, values in zip(Change._fields, told, strict=True)
    ]
    return pa.RecordBatch.from_arrays([*where.columns, *arrays], names=[*_COORDINATES, *Change._fields])
