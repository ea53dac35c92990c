"""A lake in a folder: the exported tables in a catalog on SQLite, written by pyiceberg, without any server.

Belongs here: filling it by the reference fold. Does not: the publish protocol. Its tables are of format v2,
as pyiceberg writes no v3; the real ones are for the tests on the stack.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, HourTransform
from pyiceberg.types import IcebergType

from lakehouse.definitions import BY_NAME, PAYMENTS, PUBLISH_LOG, QUARANTINE, RAW, VERSIONS
from lakehouse.offsets import OffsetVector
from lakehouse.retired import NOTHING, Retired
from lakehouse.stamp import Stamp
from streaming.message import message_of
from tests.reference import expected

TABLES = (RAW, VERSIONS, PAYMENTS, QUARANTINE)
TOPIC_ID, PARTITIONS, BUCKETS = "topic-1", 2, 4


class SmallLake:
    """Raw that grows by lines, and the tables that follow from it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.catalog: Any = SqlCatalog(
            "lake", uri=f"sqlite:///{folder}/lake.db", warehouse=f"file://{folder}/lake"
        )
        for name in (*TABLES, PUBLISH_LOG):
            self.catalog.create_namespace_if_not_exists(name.split(".")[0])
            definition = BY_NAME[name]
            self.catalog.create_table(
                name, schema=definition.schema(), partition_spec=definition.partition_spec(BUCKETS)
            )
        self.raw: list[dict[str, Any]] = []
        self.offsets = OffsetVector()

    def load(self, name: str) -> Table:
        table: Table = self.catalog.load_table(name)
        return table

    def take(self, lines: Iterable[bytes], source: str = "bank", at: datetime | None = None) -> None:
        """Append lines to raw as records, a millisecond apart, and fold all of raw again."""
        at = at or datetime.now(UTC).replace(microsecond=0)
        new = []
        for line in lines:
            message = message_of(line, source)
            partition = len(self.raw) % PARTITIONS
            offset = self.offsets.next_offset(TOPIC_ID, partition)
            headers = [{"key": key, "value": value} for key, value in message.headers]
            new.append(
                {"topic_id": TOPIC_ID, "topic": "t", "partition": partition, "offset": offset, "kafka_ts": at,
                 "headers": headers, "key": message.key, "value": message.value}
            )  # fmt: skip
            self.raw.append(new[-1])
            self.offsets = self.offsets.advanced(TOPIC_ID, {partition: offset + 1})
            at += timedelta(milliseconds=1)
        self._append(RAW, new)
        self.fold()

    def fold(self, shuffle: int = 0) -> None:
        """Write the curated tables anew: as compaction or a replay would, in other files."""
        for name, rows in expected(self.raw).items():
            listed = list(rows.values())
            cut = shuffle % max(1, len(listed))
            self._overwrite(name, [*listed[cut:], *listed[:cut]])

    def expire(self, name: str) -> None:
        """Expire whatever no ref points to."""
        table = self.load(name)
        kept = {ref.snapshot_id for ref in table.metadata.refs.values()}
        gone = [s.snapshot_id for s in table.snapshots() if s.snapshot_id not in kept]
        if gone:
            table.maintenance.expire_snapshots().by_ids(gone).commit()

    def lose(self, records: int, is_recorded: bool) -> None:
        """Drop the first records of partition 0 from raw for good, as retention records it or not."""
        below = OffsetVector({TOPIC_ID: {0: records}})
        retired = Retired(datetime.now(UTC), below) if is_recorded else NOTHING
        table, stamp = self.load(RAW), self._stamp(retired)
        with _writing():
            table.delete(f'partition = 0 AND "offset" < {records}', snapshot_properties=stamp)
        self.expire(RAW)

    def _append(self, name: str, rows: list[dict[str, Any]]) -> None:
        with _writing():
            self.load(name).append(_arrow(name, rows), snapshot_properties=self._stamp())

    def _overwrite(self, name: str, rows: list[dict[str, Any]]) -> None:
        with _writing():
            self.load(name).overwrite(_arrow(name, rows), snapshot_properties=self._stamp())

    def _stamp(self, retired: Retired = NOTHING) -> dict[str, str]:
        totals = {"records": len(self.raw)}
        token = uuid.uuid4().hex
        return Stamp(
            token, "test", self.offsets, contract_version=1, totals=totals, retired=retired
        ).properties()


def _arrow(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema_to_pyarrow(BY_NAME[name].schema(), include_field_ids=False))


@contextmanager
def _writing() -> Iterator[None]:
    """Let pyiceberg divide rows by hours and buckets: it has only the slow way without its Rust library."""

    def transform(self: Any, kind: IcebergType) -> Callable[[pa.Array], pa.Array]:
        one = self.transform(kind)
        return lambda column: pa.array([one(value) for value in _plain(column)], pa.int32())

    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", UserWarning)  # an overwrite of an empty table deletes nothing
        for kind in (HourTransform, BucketTransform):
            stack.enter_context(patch.object(kind, "pyarrow_transform", transform))
        yield


def _plain(column: pa.Array) -> list[Any]:
    is_time = pa.types.is_timestamp(column.type)
    values: list[Any] = (column.cast(pa.int64()) if is_time else column).to_pylist()
    return values
