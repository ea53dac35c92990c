"""A table's metadata built by hand: snapshots, refs, expiry and rollback, for tests of what reads them."""

from __future__ import annotations

from typing import Any, cast

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.refs import SnapshotRef, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, SnapshotLogEntry, Summary
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import LongType, NestedField

from lakehouse.offsets import OffsetVector
from lakehouse.refs import MAIN
from lakehouse.stamp import Stamp

NAME = "test.t"


def offsets(records: int) -> OffsetVector:
    """Progress after so many records of one partition."""
    return OffsetVector({"topic": {0: records}})


class History:
    """Snapshots are named by small numbers; each new one has the next sequence number, as in a catalog."""

    def __init__(self) -> None:
        self.snapshots: dict[int, Snapshot] = {}
        self.refs: dict[str, SnapshotRef] = {}
        self.log: list[SnapshotLogEntry] = []
        self._clock = 0
        self._sequence = 0

    def add(self, number: int, on: int | None = None, stamp: Stamp | None = None) -> Snapshot:
        """Add a snapshot with a parent; no ref moves."""
        self._sequence += 1
        self.snapshots[number] = Snapshot(
            snapshot_id=number,
            parent_snapshot_id=on,
            sequence_number=self._sequence,
            manifest_list=f"memory://{number}",
            summary=Summary(Operation.APPEND, **(stamp.properties() if stamp else {})),
        )
        return self.snapshots[number]

    def publish(
        self, number: int, on: int | None, progress: int | None = None, writer: str = "w"
    ) -> Snapshot:
        """Add a stamped snapshot and set main to it, and the tag `progress` if it consumes."""
        consumed = None if progress is None else offsets(progress)
        snapshot = self.add(number, on, Stamp(f"token-{number}", writer, consumed))
        self.branch(MAIN, number)
        if progress is not None:
            self.tag("progress", number)
        return snapshot

    def branch(self, name: str, number: int) -> None:
        """Set a branch; of main, the log tells when it was set: a second after it was set before."""
        self.refs[name] = _ref(number, SnapshotRefType.BRANCH)
        if name == MAIN:
            self._clock += 1000
            entry = {"snapshot-id": number, "timestamp-ms": self._clock}
            self.log.append(SnapshotLogEntry.model_validate(entry))

    def tag(self, name: str, number: int) -> None:
        """Set a tag."""
        self.refs[name] = _ref(number, SnapshotRefType.TAG)

    def expire(self) -> None:
        """Keep nothing but what a ref points to."""
        kept = {ref.snapshot_id for ref in self.refs.values()}
        self.snapshots = {number: s for number, s in self.snapshots.items() if number in kept}
        gone = [i for i, entry in enumerate(self.log) if entry.snapshot_id not in kept]
        self.log = self.log[gone[-1] + 1 :] if gone else self.log  # as a catalog does: no gaps

    def table(self) -> Table:
        """The table as it is now."""
        schema = Schema(NestedField(1, "k", LongType()))
        empty = new_table_metadata(
            schema, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, "memory://t", {"format-version": "3"}
        )
        metadata = empty.model_copy(
            update={
                "snapshots": list(self.snapshots.values()),
                "refs": dict(self.refs),
                "current_snapshot_id": self.refs[MAIN].snapshot_id if MAIN in self.refs else None,
                "last_sequence_number": self._sequence,
                "snapshot_log": list(self.log),
            }
        )
        return Table(("test", "t"), metadata, "memory://t.json", PyArrowFileIO(), self.catalog())

    def catalog(self) -> RestCatalog:
        """A catalog that can only load this table."""
        return cast(RestCatalog, _Loader(self))


def _ref(number: int, kind: SnapshotRefType) -> SnapshotRef:
    return SnapshotRef.model_validate({"snapshot-id": number, "type": kind})


class _Loader:
    def __init__(self, history: History) -> None:
        self._history = history

    def load_table(self, name: Any) -> Table:
        assert name == NAME
        return self._history.table()
