"""A lake without servers: our tables in pyiceberg's own catalog, with what the reference makes of records.

Belongs here: that. Does not: the real stack's way to these rows (`pipeline.py`), publishing under faults
(`lake.py`). Tables are of format v2, as pyiceberg writes no v3; their files carry Bloom filters, as Spark's.
"""

from __future__ import annotations

import copy
import shutil
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import pyarrow as writing
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, HourTransform
from pyiceberg.types import IcebergType

from lakehouse.definitions import BY_NAME, PAYMENTS, PUBLISH_LOG, QUARANTINE, RAW, TRANSACTIONS, VERSIONS
from lakehouse.investigations.rows import transaction_rows
from lakehouse.offsets import OffsetVector
from lakehouse.publish_log import rows_of
from lakehouse.refs import PROGRESS_TAG
from lakehouse.retired import NOTHING, Retired
from lakehouse.stamp import Stamp
from streaming.message import message_of
from tests.reference import expected

Row = dict[str, Any]
TOPIC_ID, PARTITIONS, BUCKETS = "topic-1", 2, 4
_TABLES = (RAW, VERSIONS, PAYMENTS, QUARANTINE, TRANSACTIONS, PUBLISH_LOG)
_BLOOM = "write.parquet.bloom-filter-enabled.column."


class SmallLake:
    """Tables in a folder. Each publish brings all of them to what the records come to by then."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.catalog: Any = _catalog_in(folder)
        self.raw: list[Row] = []
        self.offsets = OffsetVector()
        self._have: dict[str, dict[Any, Row]] = defaultdict(dict)
        for name in _TABLES:
            self.catalog.create_namespace_if_not_exists(name.split(".")[0])
            definition = BY_NAME[name]
            spec = definition.partition_spec(BUCKETS)
            self.catalog.create_table(name, schema=definition.schema(), partition_spec=spec)

    def copied_to(self, folder: Path) -> SmallLake:
        """A lake that begins as this one is now. It shares its files: no test may remove or change one."""
        folder.mkdir(parents=True)
        shutil.copyfile(self._folder / "lake.db", folder / "lake.db")
        new = copy.copy(self)
        new._folder, new.catalog = folder, _catalog_in(folder)
        new.raw, new._have = list(self.raw), defaultdict(dict, self._have)
        return new

    def load(self, name: str) -> Table:
        """Load a table as it is now."""
        table: Table = self.catalog.load_table(name)
        return table

    def take(self, lines: Iterable[bytes], source: str = "bank", at: datetime | None = None) -> datetime:
        """Publish lines as records that come a millisecond apart."""
        at = at or datetime.now(UTC).replace(microsecond=0)
        rows: list[Row] = []
        ends = self.offsets
        for number, line in enumerate(lines):
            message, partition = message_of(line, source), (len(self.raw) + number) % PARTITIONS
            offset = ends.next_offset(TOPIC_ID, partition)
            headers = [{"key": key, "value": value} for key, value in message.headers]
            rows.append(
                {"topic_id": TOPIC_ID, "topic": "t", "partition": partition, "offset": offset,
                 "kafka_ts": at + timedelta(milliseconds=number), "headers": headers, "key": message.key,
                 "value": message.value}
            )  # fmt: skip
            ends = ends.advanced(TOPIC_ID, {partition: offset + 1})
        return self.publish(rows)

    def publish(self, rows: Iterable[Row]) -> datetime:
        """Append rows of raw and bring the curated tables up to them; returns when readers saw payments."""
        rows = list(rows)
        self.raw += rows
        for row in rows:
            topic, partition = row["topic_id"], row["partition"]
            end = max(row["offset"] + 1, self.offsets.next_offset(topic, partition))
            self.offsets = self.offsets.advanced(topic, {partition: end})
        self._write(RAW, rows)
        self._move_progress()
        self.fold()
        return datetime.fromtimestamp(self.load(PAYMENTS).history()[-1].timestamp_ms / 1000).astimezone()

    def fold(self, shuffle: int | None = None) -> None:
        """Bring the curated tables to what raw comes to, by new rows alone where that does.

        With `shuffle` all rows are written again in other files, as compaction or a replay would.
        """
        wanted: dict[str, Mapping[Any, Row]] = dict(expected(self.raw))
        transactions = transaction_rows(wanted[PAYMENTS].values())
        wanted[TRANSACTIONS] = {tuple(row[c] for c in BY_NAME[TRANSACTIONS].key): row for row in transactions}
        for name, found in wanted.items():
            have, self._have[name] = self._have[name], dict(found)
            if shuffle is None and all(found.get(key) == row for key, row in have.items()):
                self._write(name, [row for key, row in found.items() if key not in have])
            else:
                rows = list(found.values())
                cut = (shuffle or 0) % max(1, len(rows))
                self._write(name, [*rows[cut:], *rows[:cut]], anew=True)

    def expire(self, name: str) -> None:
        """Keep nothing of a table's history but what refs point to; its publishes are logged before."""
        self._write(PUBLISH_LOG, list(rows_of(self.load(name))))
        table = self.load(name)
        kept = {ref.snapshot_id for ref in table.metadata.refs.values()}
        gone = [s.snapshot_id for s in table.snapshots() if s.snapshot_id not in kept]
        if gone:
            table.maintenance.expire_snapshots().by_ids(gone).commit()

    def lose(self, records: int, is_recorded: bool) -> None:
        """Drop the first records of partition 0 from raw for good, as retention records it or not."""
        below = OffsetVector({TOPIC_ID: {0: records}})
        stamp = self._stamp(Retired(datetime.now(UTC), below) if is_recorded else NOTHING)
        with _as_spark_writes(RAW):
            self.load(RAW).delete(f'partition = 0 AND "offset" < {records}', snapshot_properties=stamp)
        self._move_progress()
        self.expire(RAW)

    def _write(self, name: str, rows: Sequence[Row], anew: bool = False) -> None:
        """Add rows, or put them in the place of all there are: one snapshot, also of no rows."""
        table = self.load(name)
        schema = writing.schema_to_pyarrow(BY_NAME[name].schema(), include_field_ids=False)
        made = pa.Table.from_pylist(list(rows), schema)
        with _as_spark_writes(name), table.transaction() as transaction:
            update = transaction.update_snapshot(snapshot_properties=self._stamp())
            with update.overwrite() if anew else update.fast_append() as snapshot:
                for task in table.scan().plan_files() if anew else ():
                    snapshot.delete_data_file(task.file)
                files = writing._dataframe_to_data_files(table.metadata, made, table.io) if rows else ()
                for file in files:
                    snapshot.append_data_file(file)

    def _move_progress(self) -> None:
        """Set raw's progress to its newest snapshot; of the other tables nobody asks for it by its tag."""
        table = self.load(RAW)
        snapshot = table.current_snapshot()
        assert snapshot is not None
        if PROGRESS_TAG in table.refs():
            table.manage_snapshots().remove_tag(PROGRESS_TAG).commit()
        table.manage_snapshots().create_tag(snapshot.snapshot_id, PROGRESS_TAG).commit()

    def _stamp(self, retired: Retired = NOTHING) -> dict[str, str]:
        totals = {"records": len(self.raw)}
        return Stamp(
            uuid.uuid4().hex, "curated", self.offsets, 1, totals=totals, retired=retired, code_version="0.1.0"
        ).properties()


def _catalog_in(folder: Path) -> SqlCatalog:
    return SqlCatalog("lake", uri=f"sqlite:///{folder}/lake.db", warehouse=f"file://{folder}/lake")


@contextmanager
def _as_spark_writes(name: str) -> Iterator[None]:
    """Let pyiceberg write Bloom filters, which it cannot, and divide rows by hours and buckets.

    For the latter it has only the slow way without its Rust library.
    """
    columns = [n.removeprefix(_BLOOM) for n in BY_NAME[name].properties if n.startswith(_BLOOM)]
    blooms = {column.replace(".element", ".list.element"): {"ndv": 1000} for column in columns}
    options = writing._get_parquet_writer_kwargs

    def transform(self: Any, kind: IcebergType) -> Callable[[pa.Array], pa.Array]:
        one = self.transform(kind)
        return lambda column: pa.array([one(value) for value in _plain(column)], pa.int32())

    def with_blooms(properties: Any) -> dict[str, Any]:
        return {**options(properties), "bloom_filter_options": blooms or None}

    with ExitStack() as stack:
        stack.enter_context(patch.object(writing, "_get_parquet_writer_kwargs", with_blooms))
        for kind in (HourTransform, BucketTransform):
            stack.enter_context(patch.object(kind, "pyarrow_transform", transform))
        yield


def _plain(column: pa.Array) -> list[Any]:
    is_time = pa.types.is_timestamp(column.type)
    values: list[Any] = (column.cast(pa.int64()) if is_time else column).to_pylist()
    return values
