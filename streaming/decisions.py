"""What a batch changes: decided by the reference, wherever a group is more than one new record.

Belongs here: bringing together what such a group has, and saying what becomes of its copies and payments.
Does not: any rule of the fold (`lakehouse/fold.py`), the writing (`curated_batch.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby, islice
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from lakehouse.fold import Coordinates, Payment, Version, fold_events, fold_payments, fold_versions
from quality.contract import STATUSES
from streaming.fold_groups import DECIDING, GROUP, TRANSPORT
from streaming.frames import few

INSERT, LOWER, COPY = "insert", "lower", "copy"
REPLACE, DELETE, KEEP = "replace", "delete", "keep"
A_COPY, A_VERSION, A_PAYMENT = "copy", "version", "payment"
_ROWS_PER_BATCH = 10_000


class Decision(NamedTuple):
    """What becomes of a copy, of a payment, or of both at once where the payment shows that copy.

    `record_*` says where the copy stands; null where what the payment shows is in no copy of the batch.
    `becomes` of the copy: `insert`, `lower` (it came before the copy that the table tells the version by) or
    `copy` (nothing). `change` of the payment: `insert`, `replace`, `delete`, or `keep`: the copy shows none.
    The other fields are the payment's row, its content aside; a deleted payment has its key and group only.
    """

    record_topic_id: str | None
    record_partition: int | None
    record_offset: int | None
    becomes: str | None
    change: str
    account_id: str
    event_ts: Any
    event_id: str | None = None
    content_hash: str | None = None
    business_key: str | None = None
    transaction_ref: str | None = None
    status: str | None = None
    event_ids: tuple[str, ...] | None = None
    flags: tuple[str, ...] | None = None
    first_ingest_ts: Any = None
    source: str | None = None
    topic_id: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None


RECORD, STATE = Decision._fields[:3], Decision._fields[7:]
_TYPES = {
    **dict.fromkeys(("event_ts", "first_ingest_ts"), pa.timestamp("us", "UTC")),
    **dict.fromkeys(("event_ids", "flags"), pa.list_(pa.string())),
    **dict.fromkeys(("partition", "record_partition"), pa.int32()),
    **dict.fromkeys(("offset", "record_offset"), pa.int64()),
}
SCHEMA = pa.schema([pa.field(name, _TYPES.get(name, pa.string())) for name in Decision._fields])


_PAYMENT_ONLY = ("event_ids", "flags")
_INPUT = (*DECIDING, *TRANSPORT, *_PAYMENT_ONLY, "kind")


class Row(NamedTuple):
    """A copy, a version or a payment of a group; the last two fields but one are of payments only."""

    version: Version
    transport: tuple[Any, ...]
    event_ids: list[str] | None
    flags: list[str] | None
    kind: str

    @classmethod
    def of(cls, values: tuple[Any, ...]) -> Row:
        transport = values[len(DECIDING) : -3]
        _, topic_id, _, partition, offset = transport
        version = Version(*values[: len(DECIDING)])
        where = Coordinates(topic_id, partition, offset)
        return cls(version._replace(coordinates=where), transport, *values[-3:])

    @property
    def payment(self) -> tuple[Any, ...]:
        """Its state as `_state` has it."""
        v = self.version
        key = v.event_id, v.content_hash, v.business_key, v.transaction_ref, v.status
        return (
            *key,
            tuple(self.event_ids or ()),
            tuple(self.flags or ()),
            v.first_ingest_ts,
            *self.transport,
        )


def decide(copies: DataFrame, versions: DataFrame, payments: DataFrame) -> pa.Table:
    """Decide about every copy whose group holds anything else, and about the payments of those groups.

    A copy that no decision names is alone in its group: a new version, and the payment that `alone` says.

    Args:
        copies: the valid records, with the columns of event_versions.
        versions, payments: the rows of the partitions that the batch touches.

    Returns:
        Rows of `Decision`, by `SCHEMA`: few, as long as nearly all records are new.
    """
    groups = F.broadcast(copies.select(_group()))
    stored = _rows(versions, A_VERSION).unionByName(_rows(payments, A_PAYMENT))
    known = few(copies.sparkSession, stored.join(groups, "in_group", "left_semi").toArrow())
    repeated = copies.groupBy(_group()).count().where("count > 1").select("in_group")
    crowded = F.broadcast(repeated.union(known.select("in_group")))
    together = _rows(copies, A_COPY).join(crowded, "in_group", "left_semi").unionByName(known)
    by_group = together.select(*_INPUT).repartition(*GROUP).sortWithinPartitions(*GROUP)
    return by_group.mapInArrow(_decide_sorted, from_arrow_schema(SCHEMA)).toArrow()


@cache
def alone() -> dict[str, Payment]:
    """Fold a version of each status by itself: the payment of a record that is alone in its group."""
    nothing: Any = None
    versions = {s: Version("", nothing, "", "", "", "", s, None, None, None, nothing) for s in STATUSES}
    return {status: fold_payments(fold_events([version]))[0] for status, version in versions.items()}


def _group() -> Column:
    # A collision makes a lone copy look crowded, which costs a moment and changes nothing.
    return F.xxhash64(*GROUP).alias("in_group")


def _rows(frame: DataFrame, kind: str) -> DataFrame:
    columns = [
        F.col(c)
        if kind == A_PAYMENT or c not in _PAYMENT_ONLY
        else F.lit(None).cast("array<string>").alias(c)
        for c in _INPUT[:-1]
    ]
    return frame.select(*columns, F.lit(kind).alias("kind"), _group())


def _decide_sorted(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    values = (row for batch in batches for row in zip(*(c.to_pylist() for c in batch.columns), strict=True))
    groups = groupby(values, lambda row: row[: len(GROUP)])
    decisions = (one for group, rows in groups for one in decide_group(group, [Row.of(row) for row in rows]))
    while some := list(islice(decisions, _ROWS_PER_BATCH)):
        columns = zip(*some, strict=True)
        arrays = [pa.array(c, field.type) for c, field in zip(columns, SCHEMA, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def decide_group(group: tuple[Any, ...], rows: list[Row]) -> Iterator[Decision]:
    """Decide about the copies and payments of one group, from all that it has."""
    copies = [row for row in rows if row.kind == A_COPY]
    known = [row.version for row in rows if row.kind == A_VERSION]
    before = {state[2:4]: state for state in (row.payment for row in rows if row.kind == A_PAYMENT)}
    # Of two equals the first is taken: a record that the table has already is no earlier copy of itself.
    versions = fold_versions([*known, *(row.version for row in copies)])
    told = {row.version.coordinates: row.transport for row in rows if row.kind != A_PAYMENT}
    folded = (_state(p, told[p.row.coordinates]) for p in fold_payments(fold_events(versions)))
    after = {state[2:4]: state for state in folded}
    shows = {
        state[1]: _about(group, REPLACE if key in before else INSERT, state)
        for key, state in after.items()
        if before.get(key) != state
    }
    yield from _of_copies(group, copies, known, versions, shows)
    yield from shows.values()
    for key in before.keys() - after.keys():
        yield _about(group, DELETE, (None, None, *key))


def _of_copies(
    group: tuple[Any, ...],
    copies: list[Row],
    known: list[Version],
    versions: list[Version],
    shows: dict[str, Decision],
) -> Iterator[Decision]:
    """Decide about the copies; takes from `shows` the payments that the batch can tell whole."""
    stored = {v.content_hash for v in known}
    earliest = {v.content_hash: v for v in versions}
    for row in copies:
        content, where = row.version.content_hash, row.version.coordinates
        is_first = earliest[content] is row.version
        becomes = COPY if not is_first else LOWER if content in stored else INSERT
        shown = shows.pop(content, None) or _about(group, KEEP, row.version[3:5])
        assert where is not None
        yield shown._replace(
            record_topic_id=where.topic_id,
            record_partition=where.partition,
            record_offset=where.offset,
            becomes=becomes,
        )


def _state(payment: Payment, transport: tuple[Any, ...]) -> tuple[Any, ...]:
    """Say what a payment's row has besides its content: the fields of `Decision` from `event_id` on."""
    shown = payment.row
    key = shown.event_id, shown.content_hash, payment.business_key, payment.transaction_ref
    return (*key, payment.status, payment.event_ids, payment.flags, shown.first_ingest_ts, *transport)


def _about(group: tuple[Any, ...], change: str, state: tuple[Any, ...]) -> Decision:
    return Decision(None, None, None, None, change, *group, *state)
