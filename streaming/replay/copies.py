"""Every copy of the events in a replay's partitions, gathered from raw into a scratch table.

Belongs here: filling and reading that table. Does not: what becomes of the copies (`apply.py`).

A partition of the curated tables is told by records from anywhere in raw. Reading raw once and keeping what
speaks of the partitions spares reading it once for each of them, and a replay that was killed goes on where
the scratch table's own progress is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import DataFrame, SparkSession

from lakehouse import audit
from lakehouse.changed_partitions import changed_partitions
from lakehouse.definitions import BY_NAME, PAYMENTS, RAW, VERSIONS, Table
from lakehouse.maintenance.scratch import NAMESPACE
from lakehouse.offsets import OffsetVector
from lakehouse.publish import Plan, Publisher
from lakehouse.refs import Head, read_head
from lakehouse.staging import append
from lakehouse.tables import ensure_tables
from streaming.frames import Frames
from streaming.partitions import Partition, predicate
from streaming.raw_reader import between
from streaming.replay.expected import COORDINATES, judged, valid
from streaming.replay.pinned import read_partitions, stored_sizes
from streaming.replay.ranges import RawRange

WRITER = "replay"


def definition_of(name: str) -> Table:
    """The scratch table: a row per copy, in the columns and partitions of event_versions."""
    return replace(
        BY_NAME[VERSIONS],
        name=f"{NAMESPACE}.{name}",
        meaning="Scratch of a replay: every copy of the events in its partitions. Dropped when it is done.",
        key=COORDINATES,
        properties={"write.distribution-mode": "hash"},  # few files: a chunk may speak of many partitions
    )


class Copies:
    """The copies of the events of some partitions (None: of all) below a vector that moves on."""

    def __init__(
        self,
        catalog: RestCatalog,
        spark: SparkSession,
        buckets: int,
        name: str,
        partitions: Iterable[Partition] | None,
    ) -> None:
        self._catalog = catalog
        self._spark = spark
        self._buckets = buckets
        self._table = definition_of(name)
        self._partitions = None if partitions is None else sorted(partitions)
        self._publisher = Publisher(catalog, WRITER)

    def create(self) -> None:
        """Create the table where it is missing."""
        ensure_tables(self._catalog, self._buckets, [self._table])

    def drop(self) -> None:
        """Drop the table with its files; one that is gone already is fine."""
        try:
            self._catalog.purge_table(self._table.name)
        except NoSuchTableError:
            return

    @property
    def vector(self) -> OffsetVector:
        """Where raw has been read up to."""
        return read_head(self._catalog, self._table.name).offsets

    def gather(self, source: RawRange, chunk_records: int) -> Iterator[tuple[RawRange, DataFrame]]:
        """Read a range of raw, chunk by chunk, and keep what speaks of the partitions.

        Yields each chunk and its decoded records before it is kept, so that more can be done with them.
        """
        for chunk in source.after(self.vector).chunks(chunk_records):
            with Frames() as keep:
                decoded = keep(judged(self._spark, self._catalog, chunk))
                yield chunk, decoded
                rows = keep(self._of_interest(valid(decoded)))
                self._publisher.publish(self._table.name, self._plan(rows, chunk.end))

    def catch_up(self, source: RawRange, chunk_records: int) -> None:
        """Gather what raw has had since, up to where the tables are: no attempt is to read that again.

        Not where every partition is gathered: each chunk of that is put right in quarantine too, elsewhere.
        The vector is taken first: a head of raw from before it would lack records that the vector counts in.
        """
        if self._partitions is None:
            return
        vector = read_head(self._catalog, PAYMENTS).offsets
        if self.vector.covers(vector):
            return
        raw = read_head(self._catalog, RAW).snapshot.snapshot_id
        since = replace(source, snapshot_id=raw, start=self.vector, end=vector, until=None)
        for _ in self.gather(since, chunk_records):
            pass

    def are_same(self, partitions: list[Partition], before: Head, after: Head, source: RawRange) -> bool:
        """Tell whether nothing happened to partitions between two heads: not to a file, nor in raw.

        What retention dropped meanwhile may be rows that a difference was to bring.
        """
        if before.retired != after.retired:
            return False
        changed = changed_partitions(after.table, before.snapshot, after.snapshot)
        if not changed.isdisjoint(partitions):
            return False
        since = between(before.offsets, after.offsets)
        return self.below(partitions, after.offsets, source).where(since).isEmpty()

    def below(self, partitions: list[Partition] | None, vector: OffsetVector, source: RawRange) -> DataFrame:
        """Return every copy in these partitions (None: in all that were gathered) that lies below a vector.

        What `source`, the range that was gathered, has beyond the scratch table's progress is decoded anew.
        """
        kept = read_partitions(self._spark, self._table.name, self._buckets, partitions)
        kept = kept.where(between(OffsetVector(), vector))
        gathered = self.vector
        if gathered.covers(vector):
            return kept
        raw = read_head(self._catalog, RAW).snapshot.snapshot_id
        since = replace(source, snapshot_id=raw, start=gathered, end=vector, until=None)
        late = self._of_interest(valid(judged(self._spark, self._catalog, since)))
        if partitions is not None:
            late = late.where(predicate(partitions, self._buckets))
        return kept.unionByName(late)

    def sizes(self) -> dict[Partition, int]:
        """Count the copies in each partition."""
        head = read_head(self._catalog, self._table.name)
        return stored_sizes(head.table, head.snapshot.snapshot_id)

    def _of_interest(self, copies: DataFrame) -> DataFrame:
        if self._partitions is None:
            return copies
        return copies.where(predicate(self._partitions, self._buckets))

    def _plan(self, rows: DataFrame, end: OffsetVector) -> Callable[[Head], Plan | None]:
        count = rows.count()

        def plan(head: Head) -> Plan | None:
            if head.offsets.covers(end):
                return None

            def check(table: IcebergTable, staged: Snapshot) -> None:
                found = audit.added_rows(table, staged, head.snapshot.snapshot_id, COORDINATES)
                audit.check_count(found.num_rows, count, "copies staged", head.name)
                audit.check_unique(found, COORDINATES, head.name)

            return Plan(lambda stage: append(stage, rows), check, progress=head.offsets.greatest(end))

        return plan
