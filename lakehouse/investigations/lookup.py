"""Rows of a table by an id: files chosen by partition, statistics and Bloom filters, the rest is not read.

Belongs here: choosing files, reading them, and counting both. Does not: what is looked for, how a Bloom
filter is asked (`bloom.py`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
from opentelemetry import trace
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.table import FileScanTask, Table

from lakehouse.investigations.bloom import Wanted, may_hold
from lakehouse.refs import total_of

_AT_ONCE = 16
_tracer = trace.get_tracer(__name__)
Keep = Callable[[pa.RecordBatch], pa.Array]
OnFile = Callable[[str, int, int], None]
"""Told the table, the files that were asked so far, and how many are to be."""


@dataclass
class Effort:
    """What it took to look into a table: files by what became of them, and bytes.

    `read` counts files whole, and so does `deletes`, each once though it may say what is deleted of several;
    `asked` what was really fetched of footers and Bloom filters. Manifests are left out: every reader of the
    table reads those.
    """

    table: str
    snapshot_id: int | None
    files: int
    bytes: int
    planned: set[str] = field(default_factory=set)
    asked: dict[str, int] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    read: dict[str, int] = field(default_factory=dict)
    deletes: dict[str, int] = field(default_factory=dict)

    @property
    def read_bytes(self) -> int:
        return sum(self.read.values()) + sum(self.deletes.values())

    @property
    def asked_bytes(self) -> int:
        return sum(self.asked.values())

    def as_json(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "snapshot": None if self.snapshot_id is None else str(self.snapshot_id),
            "files": self.files,
            "bytes": self.bytes,
            "files_after_partitions_and_statistics": len(self.planned),
            "files_denied_by_bloom_filters": len(self.denied - self.read.keys()),
            "files_read": len(self.read),
            "bytes_read": self.read_bytes,
            "footers_and_filters_bytes": self.asked_bytes,
        }


class Lookup:
    """Looks into one table at one snapshot, as often as it is asked, and adds up what that took."""

    def __init__(self, table: Table, snapshot_id: int | None = None, on_file: OnFile | None = None) -> None:
        self._table = table
        self._snapshot_id = snapshot_id
        self._on_file = on_file
        snapshot = (
            table.current_snapshot() if snapshot_id is None else table.metadata.snapshot_by_id(snapshot_id)
        )
        files, size = (total_of(snapshot, w) if snapshot else 0 for w in ("data-files", "files-size"))
        found = None if snapshot is None else snapshot.snapshot_id
        self.effort = Effort(".".join(table.name()), found, files, size)

    def rows(
        self,
        where: BooleanExpression = AlwaysTrue(),  # noqa: B008  # it never changes
        wanted: Wanted | None = None,
        keep: Keep | None = None,
        columns: Iterable[str] = ("*",),
    ) -> list[dict[str, Any]]:
        """Read rows.

        Args:
            where: holds for the rows; partitions and statistics of files are held against it.
            wanted: values that files are asked for by their Bloom filters, any of them.
            keep: chooses rows of a batch by a mask, for what `where` cannot say.
            columns: to be read; all unless given.
        """
        with _tracer.start_as_current_span("investigate.lookup", attributes={"table": self.effort.table}):
            tasks = list(self._tasks(where))
            self.effort.planned |= {task.file.file_path for task in tasks}
            if wanted is not None:
                tasks = self._asked(tasks, wanted)
            for task in tasks:
                self.effort.read[task.file.file_path] = task.file.file_size_in_bytes
                self.effort.deletes |= {d.file_path: d.file_size_in_bytes for d in task.delete_files}
            return [row for batch in self._batches(tasks, where, columns) for row in _kept(batch, keep)]

    def _tasks(self, where: BooleanExpression) -> Iterator[FileScanTask]:
        if self.effort.snapshot_id is None:
            return iter(())
        scan = self._table.scan(row_filter=where, snapshot_id=self._snapshot_id)
        return iter(scan.plan_files())

    def _batches(
        self, tasks: list[FileScanTask], where: BooleanExpression, columns: Iterable[str]
    ) -> Iterator[pa.RecordBatch]:
        scan = self._table.scan(
            row_filter=where, snapshot_id=self._snapshot_id, selected_fields=tuple(columns)
        )
        reader = ArrowScan(self._table.metadata, self._table.io, scan.projection(), where)
        for task in tasks:  # one by one: what is not kept is let go before the next
            yield from reader.to_record_batches([task])

    def _asked(self, tasks: list[FileScanTask], wanted: Wanted) -> list[FileScanTask]:
        kept = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = pool.map(lambda task: self._ask(task.file.file_path, wanted), tasks)
            for done, (task, is_possible) in enumerate(zip(tasks, answers, strict=True), start=1):
                if is_possible:
                    kept.append(task)
                else:
                    self.effort.denied.add(task.file.file_path)
                if self._on_file is not None:
                    self._on_file(self.effort.table, done, len(tasks))
        return kept

    def _ask(self, path: str, wanted: Wanted) -> bool:
        file = Counted(self._table.io, path)
        with file:
            answer = may_hold(cast(BinaryIO, file), wanted)
        self.effort.asked[path] = self.effort.asked.get(path, 0) + file.fetched
        return answer


class Counted(io.RawIOBase):
    """A file of the store, opened for reading, that counts the bytes which are fetched of it."""

    def __init__(self, store: FileIO, path: str) -> None:
        super().__init__()
        self._stream = store.new_input(path).open()
        self.fetched = 0

    def read(self, size: int | None = -1) -> bytes:
        data = self._stream.read() if size is None or size < 0 else self._stream.read(size)
        self.fetched += len(data)
        return bytes(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._stream.seek(offset, whence)
        return self._stream.tell()

    def tell(self) -> int:
        return self._stream.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def has_header(batch: pa.RecordBatch, values: Iterable[bytes]) -> pa.Array:
    """Say which rows of raw have a header with one of these values."""
    headers = pa.array(batch.column("headers"))
    found = pc.is_in(pc.struct_field(headers.flatten(), "value"), value_set=_like(headers, values))
    rows = pc.list_parent_indices(headers).filter(found)
    return pc.is_in(pa.array(range(len(batch)), rows.type), value_set=rows)


def has_value(batch: pa.RecordBatch, column: str, values: Iterable[Any]) -> pa.Array:
    """Say which rows have one of these values in a column."""
    found = batch.column(column)
    return pc.is_in(found, value_set=pa.array(list(values), found.type))


def _like(headers: pa.Array, values: Iterable[bytes]) -> pa.Array:
    return pa.array(list(values), headers.type.value_type.field("value").type)


def _kept(batch: pa.RecordBatch, keep: Keep | None) -> list[dict[str, Any]]:
    rows = batch if keep is None else batch.filter(keep(batch))
    found: list[dict[str, Any]] = rows.to_pylist()
    return found
