"""Finding the rows of an export: which files of the pinned snapshots to read, and reading just these.

Belongs here: filters, planning by partition, streams of Arrow batches. Does not: joining, sorting and
writing them (`parts.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any, NamedTuple

import pyarrow as pa
from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
    EqualTo,
    GreaterThanOrEqual,
    In,
    LessThan,
    LessThanOrEqual,
    Or,
)
from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
from pyiceberg.table import FileScanTask, Table
from pyiceberg.types import NestedField

from lakehouse.exports.request import Request

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST_ACCOUNTS = 200
_MOST_NAMED = 100


class Span(NamedTuple):
    """Offsets of one partition of a topic that are wanted: how many, the first and the last."""

    topic_id: str
    partition: int
    records: int
    first: int
    last: int


class Planned(NamedTuple):
    """The files of one hour of a table that may hold wanted rows, and those rows at most."""

    tasks: Sequence[FileScanTask]
    rows: int
    bytes: int


class Source:
    """One table at its pinned snapshot."""

    def __init__(self, table: Table, snapshot_id: int) -> None:
        self.table, self._snapshot_id = table, snapshot_id
        self._projection = table.scan(snapshot_id=snapshot_id).projection()

    @property
    def schema(self) -> pa.Schema:
        """The table's columns as they were at the snapshot, in Arrow's types."""
        return schema_to_pyarrow(self._projection, include_field_ids=False)

    @property
    def fields(self) -> tuple[NestedField, ...]:
        """The same as the catalog says them, with what they mean."""
        return self._projection.fields

    def plan(self, wanted: BooleanExpression) -> dict[int, Planned]:
        """Find the files by hour (since 1970-01-01 UTC) that may hold rows, by partitions and statistics."""
        by_hour: dict[int, list[FileScanTask]] = defaultdict(list)
        for task in self.table.scan(row_filter=wanted, snapshot_id=self._snapshot_id).plan_files():
            by_hour[task.file.partition[0]].append(task)
        return {hour: _planned(tasks) for hour, tasks in sorted(by_hour.items())}

    def read(self, wanted: BooleanExpression, tasks: Iterable[FileScanTask]) -> pa.RecordBatchReader:
        """Stream the wanted rows of some files, one after the other: all at once would all be held."""
        scan = ArrowScan(self.table.metadata, self.table.io, self._projection, wanted)
        schema = self.schema

        def batches() -> Iterator[pa.RecordBatch]:
            for task in tasks:
                for batch in scan.to_record_batches([task]):
                    yield from pa.Table.from_batches([batch]).cast(schema).to_batches()

        return pa.RecordBatchReader.from_batches(schema, batches())


def payments_wanted(request: Request) -> BooleanExpression:
    """Write the condition for the payments of a request."""
    scope = request.scope
    named = _that(EqualTo, scope.column, scope.value) if scope.column else AlwaysTrue()
    return And(named, between("event_ts", request.start, request.end))


def transaction_wanted(request: Request) -> BooleanExpression:
    """Write the condition for the versions that name a request's transaction."""
    reference = _that(EqualTo, "transaction_ref", request.scope.value)
    return And(reference, between("event_ts", request.start, request.end))


def versions_wanted(request: Request, accounts: Sequence[str] | None) -> BooleanExpression:
    """Write the condition for versions that may be of the payments' events; None: of any account."""
    of_accounts = AlwaysTrue() if accounts is None else _that(In, "account_id", accounts)
    return And(of_accounts, between("event_ts", request.start, request.end))


def quarantine_wanted(request: Request) -> BooleanExpression:
    """Write the condition for rows of quarantine: by Kafka time, as an event time that broke is none."""
    scope = request.scope
    named = _that(EqualTo, "source", scope.value) if scope.kind == "partner" else AlwaysTrue()
    return And(named, between("kafka_ts", request.start, request.end))


def records_wanted(
    spans: Sequence[Span], exact: Sequence[tuple[str, int, int]], hour: int | None
) -> BooleanExpression:
    """Write the condition for records of raw in one hour of Kafka time (None: of any).

    Args:
        spans: what is wanted of each partition.
        exact: every single record, where they are few: then files are found by their statistics of offsets.
    """
    start, end = (None, None) if hour is None else (start_of(hour), start_of(hour + 1))
    within = between("kafka_ts", start, end)
    if exact:
        return And(within, reduce(Or, (_record(*record) for record in exact)))
    if len(spans) <= _MOST_NAMED:
        return And(within, reduce(Or, (_span(span) for span in spans)))
    bounds = min(s.first for s in spans), max(s.last for s in spans)
    return And(within, _offsets(*bounds))


def few(spans: Sequence[Span]) -> bool:
    """Whether the records are so few that each can be named."""
    return sum(span.records for span in spans) <= _MOST_NAMED


def between(column: str, start: datetime | None, end: datetime | None) -> BooleanExpression:
    """Write the condition for times from `start` (inclusive) to `end` (exclusive); None: without a limit."""
    after = _that(GreaterThanOrEqual, column, start.isoformat()) if start is not None else AlwaysTrue()
    before = _that(LessThan, column, end.isoformat()) if end is not None else AlwaysTrue()
    return And(after, before)


def start_of(hour: int) -> datetime:
    """Return the moment at which an hour, counted from 1970-01-01 UTC, begins."""
    return _EPOCH + timedelta(hours=hour)


def name_of(hour: int | None) -> str:
    """Name an hour's file."""
    return "unknown-hour" if hour is None else start_of(hour).strftime("%Y-%m-%dT%H")


def totals(planned: Mapping[int, Planned]) -> tuple[int, int, int]:
    """Sum up: files, rows at most, bytes at most."""
    files = sum(len(p.tasks) for p in planned.values())
    return files, sum(p.rows for p in planned.values()), sum(p.bytes for p in planned.values())


def _planned(tasks: Sequence[FileScanTask]) -> Planned:
    ordered = sorted(tasks, key=lambda task: task.file.file_path)
    rows = sum(task.file.record_count for task in ordered)
    return Planned(ordered, rows, sum(task.file.file_size_in_bytes for task in ordered))


def _span(span: Span) -> BooleanExpression:
    return And(_partition(span.topic_id, span.partition), _offsets(span.first, span.last))


def _record(topic_id: str, partition: int, offset: int) -> BooleanExpression:
    return And(_partition(topic_id, partition), _that(EqualTo, "offset", offset))


def _partition(topic_id: str, partition: int) -> BooleanExpression:
    return And(_that(EqualTo, "topic_id", topic_id), _that(EqualTo, "partition", partition))


def _offsets(first: int, last: int) -> BooleanExpression:
    return And(_that(GreaterThanOrEqual, "offset", first), _that(LessThanOrEqual, "offset", last))


def _that(kind: Any, column: str, value: Any) -> BooleanExpression:
    """Compare a column: pyiceberg's types do not know that its predicates take their two values in order."""
    found: BooleanExpression = kind(column, value)
    return found
