"""One table of a test, reached directly or through the faulty proxy, and writers to put on it."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AssertTableUUID, TableUpdate
from pyiceberg.types import LongType, StringType
from pyspark.sql import DataFrame, SparkSession

from config.settings import Settings
from lakehouse import audit
from lakehouse.catalog import CATALOG_NAME, connect
from lakehouse.definitions import Column, Table
from lakehouse.offsets import OffsetVector
from lakehouse.patience import Patience
from lakehouse.publish import Plan, Publisher, Stage
from lakehouse.refs import MAIN, Head, branch_to, read_head
from lakehouse.staging import append, merge
from lakehouse.tables import ensure_tables
from tests.faulty_proxy import FaultyProxy, Match

QUICK = Patience(resolve_seconds=20, first_pause=0.01, longest_pause=0.1, attempts=6)
HASTY = Patience(resolve_seconds=0.3, first_pause=0.01, longest_pause=0.05, failed_stages=1)
TIME_OUT_SECONDS = 0.7  # how long a client waits for an answer that is delayed
TOPIC = "topic"
Between = Callable[[], object]
MatchOf = Callable[[str], Match]


def progress_of(records: int) -> OffsetVector:
    return OffsetVector({TOPIC: {0: records}})


@dataclass
class Lake:
    """One table, the ways to reach it directly or through the proxy, and the writers of the tests."""

    catalog: RestCatalog
    proxy: FaultyProxy
    spark: SparkSession
    table: str
    heads: list[Head] = field(default_factory=list)

    def publisher(
        self,
        writer: str = "w",
        patience: Patience = QUICK,
        answer_seconds: float = 60,
        takes_turns: bool = False,
    ) -> Publisher:
        """A writer whose catalog is behind the proxy."""
        catalog = connect({**self.catalog.properties, "uri": self.proxy.url}, answer_seconds)
        return Publisher(catalog, writer, patience, takes_turns)

    def consume(
        self, up_to: int, between: Between | None = None, spark: SparkSession | None = None
    ) -> Callable[[Head], Plan | None]:
        """Build plans that append the source's records `k` from the table's progress up to `up_to`.

        `between` runs after staging and before the swap.
        """

        def build(head: Head) -> Plan | None:
            self.heads.append(head)
            start = head.offsets.next_offset(TOPIC, 0)
            if start >= up_to:
                return None
            rows = records(spark or self.spark, range(start, up_to))

            def check(table: IcebergTable, staged: Snapshot) -> None:
                found = audit.added_rows(table, staged, head.snapshot.snapshot_id, ["k"])
                audit.check_count(found.num_rows, up_to - start, "records", self.table)
                audit.check_unique(found, ["k"], self.table)
                if between is not None:
                    between()

            return Plan(lambda stage: append(stage, rows), check, progress=progress_of(up_to))

        return build

    def insert(self, keys: Iterable[int], between: Between | None = None) -> Callable[[Head], Plan | None]:
        """Build plans that append keys and consume no source, as a backfill does."""
        rows = records(self.spark, keys)
        return lambda head: Plan(lambda stage: append(stage, rows), doing(between))

    def others_publish(self, *keys: int) -> None:
        """Publish rows directly, as another writer that consumes no source."""
        assert Publisher(self.catalog, "other", QUICK).publish(self.table, self.insert(keys)) is not None

    def stage_by_hand(self, *keys: int) -> int:
        """Stage rows on a branch of no writer, so that setting main to them takes a moment only."""
        self.set_ref(branch_to("by_hand", self.main()))
        records(self.spark, keys).writeTo(f"{CATALOG_NAME}.{self.table}.branch_by_hand").append()
        return self.load().metadata.refs["by_hand"].snapshot_id

    def set_ref(self, update: TableUpdate) -> None:
        """Set a branch or tag directly."""
        table = self.load()
        self.catalog.commit_table(table, (AssertTableUUID(uuid=table.metadata.table_uuid),), (update,))

    def main(self) -> int:
        """The snapshot that main is at."""
        return self.load().metadata.refs[MAIN].snapshot_id

    def compact(self) -> None:
        """Rewrite all data files, straight on main."""
        self._call("rewrite_data_files", "options => map('rewrite-all', 'true')")

    def expire(self) -> None:
        """Expire everything that may expire."""
        self._call("expire_snapshots", "older_than => TIMESTAMP '2999-01-01 00:00:00', retain_last => 1")

    def roll_back(self, snapshot_id: int) -> None:
        """Set main back to one of its ancestors."""
        self._call("rollback_to_snapshot", f"snapshot_id => {snapshot_id}")

    def _call(self, procedure: str, arguments: str) -> None:
        self.spark.sql(
            f"CALL {CATALOG_NAME}.system.{procedure}(table => '{self.table}', {arguments})"
        ).collect()

    def load(self) -> IcebergTable:
        return cast(IcebergTable, self.catalog.load_table(self.table))

    def stages(self) -> list[str]:
        return [ref for ref in self.load().metadata.refs if ref.startswith("stage_")]

    def rows(self) -> dict[int, str]:
        """The published rows by key, as pyiceberg reads them; each key must be there once."""
        found = self.load().scan().to_arrow().to_pylist()
        repeated = {k: n for k, n in Counter(row["k"] for row in found).items() if n > 1}
        assert not repeated, f"keys more than once: {repeated}"
        return {row["k"]: row["v"] for row in found}

    def check(self, keys: Iterable[int], progress: int, stages: int = 0) -> None:
        """Check what must hold after every fault."""
        assert sorted(self.rows()) == sorted(keys)
        assert read_head(self.catalog, self.table).offsets.next_offset(TOPIC, 0) == progress
        assert len(self.stages()) == stages


def records(spark: SparkSession, keys: Iterable[int]) -> DataFrame:
    """Rows of these keys; the value says the key."""
    return spark.createDataFrame([(k, f"v{k}") for k in keys], "k long, v string").coalesce(1)


def doing(between: Between | None) -> Callable[[IcebergTable, Snapshot], None]:
    """An audit that passes everything, after doing something in the time between staging and swap."""

    def check(_: IcebergTable, __: Snapshot) -> None:
        if between is not None:
            between()

    return check


def definition(name: str = "") -> Table:
    return Table(
        name=name or f"publish_faults.t_{uuid.uuid4().hex[:12]}",
        meaning="Rows of a test.",
        columns=(Column("k", LongType(), "Key"), Column("v", StringType(), "Value", required=False)),
        key=("k",),
        sort_by=("k",),
    )


@pytest.fixture
def proxy(stack: Settings) -> Iterator[FaultyProxy]:
    with FaultyProxy(stack.catalog_properties()["uri"]) as proxy:
        yield proxy


@pytest.fixture
def lake(stack: Settings, spark: SparkSession, proxy: FaultyProxy) -> Iterator[Lake]:
    """A table of its own with ten records published."""
    properties = stack.catalog_properties()
    catalog = connect(properties)
    table = definition()
    ensure_tables(catalog, 1, [table])
    lake = Lake(catalog, proxy, spark, table.name)
    assert Publisher(catalog, "w", QUICK).publish(table.name, lake.consume(10)) is not None
    lake.heads.clear()
    yield lake
    catalog.drop_table(table.name)


def spark_through(lake: Lake) -> SparkSession:
    """A session whose catalog is behind the proxy."""
    session = lake.spark.newSession()
    session.conf.set(f"spark.sql.catalog.{CATALOG_NAME}.uri", lake.proxy.url)
    return session


def times(count: int, do: Between) -> Callable[[], None]:
    """Do something the first `count` times it is called."""
    left = iter(range(count))

    def limited() -> None:
        if next(left, None) is not None:
            do()

    return limited


def once(do: Between) -> Callable[[], None]:
    """Do something the first time it is called."""
    return times(1, do)


def update_odd(
    lake: Lake, spark: SparkSession, between: Between | None = None
) -> Callable[[Head], Plan | None]:
    """Build plans that MERGE a new value into the odd keys and consume no source."""

    def write(stage: Stage) -> None:
        odd = records(spark, range(1, 10, 2))
        merge(stage, odd, "t.k = s.k WHEN MATCHED THEN UPDATE SET t.v = 'new'")

    return lambda head: Plan(write, doing(between))
