"""The publish protocol on the real catalog, through a proxy that loses, delays and contradicts its answers.

After every fault: each published row is there exactly once, the tag `progress` is right, no stage is left.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AssertTableUUID, TableUpdate
from pyiceberg.types import LongType, StringType
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from config.settings import Settings
from lakehouse import audit
from lakehouse.catalog import CATALOG_NAME, connect
from lakehouse.definitions import Column, Table
from lakehouse.errors import AuditFailed, ConcurrentWriter, LostRace, OutcomeUnknown, RolledBack
from lakehouse.offsets import OffsetVector
from lakehouse.patience import Patience
from lakehouse.publish import Plan, Published, Publisher, Stage
from lakehouse.refs import HOLD_TAG, MAIN, PROGRESS_TAG, Head, branch_to, read_head, tag_to
from lakehouse.staging import append, append_nothing, merge
from lakehouse.tables import ensure_tables
from lakehouse.turns import drop_abandoned, wait_for_turn
from tests.faulty_proxy import ALWAYS, Fault, FaultyProxy, Match, anything, drops, opens, reads, stages, swaps

pytestmark = pytest.mark.integration

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
        self, writer: str = "w", patience: Patience = QUICK, answer_seconds: float = 60
    ) -> Publisher:
        """A writer whose catalog is behind the proxy."""
        catalog = connect({**self.catalog.properties, "uri": self.proxy.url}, answer_seconds)
        return Publisher(catalog, writer, patience)

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
        view = f"odd_{stage.stamp.token}"
        records(spark, range(1, 10, 2)).createOrReplaceTempView(view)
        merge(stage, spark, "t.k = s.k WHEN MATCHED THEN UPDATE SET t.v = 'new'", view)

    return lambda head: Plan(write, doing(between))


# -- answers lost, late or wrong ---------------------------------------------------------------------------


def test_the_answer_to_the_swap_is_lost(lake: Lake) -> None:
    fault = lake.proxy.drop_answer(swaps(lake.table))
    published = lake.publisher().publish(lake.table, lake.consume(20))
    assert published is not None and published.attempts == 1
    assert (fault.hits, fault.statuses) == (1, [200])
    lake.check(range(20), 20)


def test_the_swap_never_arrives(lake: Lake) -> None:
    fault = lake.proxy.drop_request(swaps(lake.table), times=2)
    published = lake.publisher().publish(lake.table, lake.consume(20))
    assert published is not None and published.attempts == 1
    assert fault.hits == 2
    lake.check(range(20), 20)


def test_a_delayed_swap_lands_after_the_retry_and_is_refused(lake: Lake) -> None:
    fault = lake.proxy.delay(swaps(lake.table))
    published = lake.publisher(answer_seconds=TIME_OUT_SECONDS).publish(lake.table, lake.consume(20))
    assert published is not None and published.attempts == 1
    assert fault.release() == 409
    lake.check(range(20), 20)


def test_a_delayed_swap_lands_before_the_retry(lake: Lake) -> None:
    late = lake.proxy.delay(swaps(lake.table))
    lake.proxy.meanwhile(swaps(lake.table), lambda: released.append(late.release()))
    released: list[int] = []
    published = lake.publisher(answer_seconds=TIME_OUT_SECONDS).publish(lake.table, lake.consume(20))
    assert published is not None and published.attempts == 1
    assert released == [200]
    lake.check(range(20), 20)


def test_a_delayed_swap_lands_after_it_lost_and_was_built_again(lake: Lake) -> None:
    other = lake.stage_by_hand(100)
    late = lake.proxy.delay(swaps(lake.table))
    lake.proxy.meanwhile(
        lambda r: late.caught.is_set() and reads(lake.table)(r), lambda: lake.set_ref(branch_to(MAIN, other))
    )
    publisher = lake.publisher(answer_seconds=TIME_OUT_SECONDS)
    published = publisher.publish(lake.table, lake.consume(20))
    assert published is not None and published.attempts == 2
    assert late.release() == 409
    lake.check([*range(20), 100], 20)


def test_a_delayed_branch_lands_after_the_publish_and_is_swept(lake: Lake) -> None:
    late = lake.proxy.delay(opens(lake.table))
    assert lake.publisher(answer_seconds=TIME_OUT_SECONDS).publish(lake.table, lake.consume(20)) is not None
    assert late.release() == 200
    lake.check(range(20), 20, stages=1)
    assert len(drop_abandoned(lake.catalog, lake.table, "w", older_than=-1)) == 1
    lake.check(range(20), 20)


@pytest.mark.parametrize(
    ("request_of", "status"), [(opens, 409), (opens, 503), (swaps, 409), (swaps, 500), (swaps, 503)]
)
def test_an_error_although_it_was_applied(lake: Lake, request_of: MatchOf, status: int) -> None:
    fault = lake.proxy.apply_and_answer(request_of(lake.table), status)
    published = lake.publisher().publish(lake.table, lake.consume(20))
    assert published is not None and published.attempts == 1
    assert fault.statuses == [200]
    lake.check(range(20), 20)


def test_a_stage_that_cannot_be_dropped_is_left_to_the_sweep(lake: Lake) -> None:
    lake.proxy.answer(drops(lake.table), 503)
    race = once(lambda: lake.others_publish(100))
    assert lake.publisher().publish(lake.table, lake.consume(20, between=race)) is not None
    lake.check([*range(20), 100], 20, stages=1)
    assert len(drop_abandoned(lake.catalog, lake.table, "w", older_than=-1)) == 1
    lake.check([*range(20), 100], 20)


@pytest.mark.parametrize(
    ("request_of", "status", "times"),
    [(reads, 503, 3), (swaps, 409, 1), (swaps, 500, 1), (swaps, 503, 1), (swaps, 503, 3)],
)
def test_an_error_and_nothing_applied(lake: Lake, request_of: MatchOf, status: int, times: int) -> None:
    fault = lake.proxy.answer(request_of(lake.table), status, times)
    published = lake.publisher().publish(lake.table, lake.consume(20))
    assert published is not None and published.attempts == 1
    assert fault.hits == times
    lake.check(range(20), 20)


@pytest.mark.parametrize("status", [409, 503])
def test_opening_fails_and_nothing_was_applied(lake: Lake, status: int) -> None:
    fault = lake.proxy.answer(opens(lake.table), status)
    assert lake.publisher().publish(lake.table, lake.consume(20)) is not None
    assert fault.hits == 1
    lake.check(range(20), 20)


# -- staging -----------------------------------------------------------------------------------------------


def test_the_answer_to_the_engine_is_lost_while_it_stages(lake: Lake) -> None:
    fault = lake.proxy.drop_answer(stages(lake.table))
    published = lake.publisher().publish(lake.table, lake.consume(20, spark=spark_through(lake)))
    assert published is not None and published.attempts == 2
    assert fault.statuses == [200]
    lake.check(range(20), 20)
    lake.expire()  # the snapshot of the stage that was given up has lost its files: expiry must not stumble
    lake.check(range(20), 20)


@pytest.mark.parametrize("status", [409, 503])
def test_the_engine_hears_an_error_although_its_snapshot_was_staged(lake: Lake, status: int) -> None:
    """A 409 makes Spark commit again by itself: the rows must not be on the stage twice."""
    fault = lake.proxy.apply_and_answer(stages(lake.table), status)
    assert lake.publisher().publish(lake.table, lake.consume(20, spark=spark_through(lake))) is not None
    assert fault.statuses[0] == 200
    lake.check(range(20), 20)


def test_merge_hears_a_409_although_it_was_staged(lake: Lake) -> None:
    fault = lake.proxy.apply_and_answer(stages(lake.table), 409)
    session = spark_through(lake)
    assert lake.publisher().publish(lake.table, update_odd(lake, session)) is not None
    assert fault.statuses[0] == 200
    assert lake.rows() == {k: "new" if k % 2 else f"v{k}" for k in range(10)}
    lake.check(range(10), 10)


def test_staging_that_keeps_failing_surfaces_and_leaves_nothing(lake: Lake) -> None:
    calls: list[Stage] = []

    def fail(stage: Stage) -> None:
        calls.append(stage)
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        lake.publisher().publish(lake.table, lambda head: Plan(fail, lambda *_: None, progress_of(20)))
    assert len(calls) == QUICK.failed_stages
    lake.check(range(10), 10)


def test_a_swept_stage_is_built_again(lake: Lake) -> None:
    """The sweep of another instance takes the stage away, and expiry its snapshot, before the swap."""

    def sweep() -> None:
        assert drop_abandoned(lake.catalog, lake.table, "w", older_than=-1)
        lake.expire()

    published = lake.publisher().publish(lake.table, lake.consume(20, between=once(sweep)))
    assert published is not None and published.attempts == 2
    lake.check(range(20), 20)


# -- the audit ---------------------------------------------------------------------------------------------


def test_a_failed_audit_leaves_main_untouched(lake: Lake) -> None:
    main = lake.main()

    def twice(head: Head) -> Plan:
        rows = records(lake.spark, [10, 10])

        def check(table: IcebergTable, staged: Snapshot) -> None:
            audit.check_unique(
                audit.added_rows(table, staged, head.snapshot.snapshot_id, ["k"]), ["k"], lake.table
            )

        return Plan(lambda stage: append(stage, rows), check, progress_of(12))

    with pytest.raises(AuditFailed, match="1 staged rows repeat their key"):
        lake.publisher().publish(lake.table, twice)
    assert lake.main() == main
    lake.check(range(10), 10)


def test_a_foreign_snapshot_on_the_stage_is_not_published(lake: Lake) -> None:
    def write(stage: Stage) -> None:
        append(stage, records(lake.spark, [10]))
        records(lake.spark, [666]).writeTo(f"{CATALOG_NAME}.{stage.identifier}").append()

    with pytest.raises(AuditFailed, match="not ours"):
        lake.publisher().publish(lake.table, lambda head: Plan(write, lambda *_: None, progress_of(11)))
    lake.check(range(10), 10)


def test_a_stage_without_a_snapshot_is_not_published(lake: Lake) -> None:
    with pytest.raises(AuditFailed, match="nothing was staged"):
        lake.publisher().publish(
            lake.table, lambda head: Plan(lambda _: None, lambda *_: None, progress_of(11))
        )
    lake.check(range(10), 10)


def test_progress_moves_without_rows(lake: Lake) -> None:
    def build(head: Head) -> Plan:
        return Plan(lambda stage: append_nothing(stage, lake.spark), lambda *_: None, progress_of(15))

    assert lake.publisher().publish(lake.table, build) is not None
    lake.check(range(10), 15)


def test_nothing_to_do_leaves_nothing(lake: Lake) -> None:
    assert lake.publisher().publish(lake.table, lake.consume(10)) is None
    lake.check(range(10), 10)


# -- the catalog stays silent ------------------------------------------------------------------------------


@pytest.mark.parametrize("applied", [True, False])
def test_an_outcome_that_stays_unknown_is_exact_on_the_next_start(lake: Lake, applied: bool) -> None:
    silence: list[Fault] = []

    def go_silent() -> None:
        silence.append(lake.proxy.answer(anything, 503, ALWAYS))

    if applied:
        lake.proxy.drop_answer(swaps(lake.table), after=go_silent)
        build = lake.consume(20)
    else:
        build = lake.consume(20, between=go_silent)
    with pytest.raises(OutcomeUnknown, match="no answer within") as unknown:
        lake.publisher(patience=HASTY).publish(lake.table, build)
    assert unknown.value.hint
    silence[0].cancel()
    lake.check(range(20 if applied else 10), 20 if applied else 10, stages=0 if applied else 1)
    again = lake.publisher().publish(lake.table, lake.consume(20))
    assert (again is None) == applied
    assert len(drop_abandoned(lake.catalog, lake.table, "w", older_than=-1)) == (0 if applied else 1)
    lake.check(range(20), 20)


@pytest.mark.parametrize("lands_first", [True, False])
def test_a_swap_that_lands_long_after_its_writer_gave_up(lake: Lake, lands_first: bool) -> None:
    late = lake.proxy.delay(swaps(lake.table))
    silence = lake.proxy.answer(lambda r: late.caught.is_set(), 503, ALWAYS)
    with pytest.raises(OutcomeUnknown):
        lake.publisher(patience=HASTY, answer_seconds=TIME_OUT_SECONDS).publish(lake.table, lake.consume(20))
    silence.cancel()
    if lands_first:
        assert late.release() == 200
        assert lake.publisher().publish(lake.table, lake.consume(20)) is None
        lake.check(range(20), 20)
    else:
        assert lake.publisher().publish(lake.table, lake.consume(20)) is not None
        assert late.release() == 409
        lake.check(range(20), 20, stages=1)
        assert lake.publisher().publish(lake.table, lake.consume(20)) is None


def test_reading_a_silent_catalog_ends_too(lake: Lake) -> None:
    lake.proxy.drop_request(reads(lake.table), ALWAYS)
    with pytest.raises(OutcomeUnknown, match=f"reading the table {lake.table}"):
        lake.publisher(patience=HASTY).publish(lake.table, lake.consume(20))
    lake.check(range(10), 10)


# -- races -------------------------------------------------------------------------------------------------


def test_two_writers_that_consume_nothing_both_get_in(lake: Lake) -> None:
    both_staged = threading.Barrier(2)

    def work(name: str, first: int) -> list[Published | None]:
        catalog = connect({**lake.catalog.properties, "uri": lake.proxy.url})
        publisher = Publisher(catalog, name, Patience(first_pause=0.01, attempts=20))
        meet = once(lambda: both_staged.wait(60))
        return [publisher.publish(lake.table, lake.insert([first + i], between=meet)) for i in range(3)]

    with ThreadPoolExecutor(2) as pool:
        done = [task.result() for task in [pool.submit(work, "a", 100), pool.submit(work, "b", 200)]]
    won, lost = sorted(p.attempts for p in (done[0][0], done[1][0]) if p)
    assert won == 1 and lost > 1
    lake.check([*range(10), 100, 101, 102, 200, 201, 202], 10)


def test_of_two_writers_that_consume_the_same_one_wins(lake: Lake) -> None:
    both_staged = threading.Barrier(2)

    def work(_: int) -> Published | ConcurrentWriter | None:
        catalog = connect(lake.catalog.properties)
        meet = once(lambda: both_staged.wait(60))
        try:
            return Publisher(catalog, "w", QUICK).publish(lake.table, lake.consume(20, between=meet))
        except ConcurrentWriter as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(work, range(2)))
    stopped = [d for d in done if isinstance(d, ConcurrentWriter)]
    assert len(stopped) == 1 and len([d for d in done if isinstance(d, Published)]) == 1
    assert "two of them run against one table" in str(stopped[0]) and stopped[0].hint
    lake.check(range(20), 20)


def test_a_writer_that_was_overtaken_by_more_than_its_batch_stops(lake: Lake) -> None:
    def overtake() -> None:
        Publisher(lake.catalog, "zombie", QUICK).publish(lake.table, lake.consume(50))

    with pytest.raises(ConcurrentWriter, match="writer zombie"):
        lake.publisher().publish(lake.table, lake.consume(20, between=once(overtake)))
    lake.check(range(50), 50)


def test_a_writer_that_never_raced_still_notices_the_other_one(lake: Lake) -> None:
    first, second = lake.publisher(), Publisher(lake.catalog, "zombie", QUICK)
    first.publish(lake.table, lake.consume(20))
    second.publish(lake.table, lake.consume(30))
    with pytest.raises(ConcurrentWriter, match="writer zombie"):
        first.publish(lake.table, lake.consume(40))
    lake.check(range(30), 30)


def test_a_409_because_another_was_first_builds_again(lake: Lake) -> None:
    published = lake.publisher().publish(
        lake.table, lake.consume(20, between=once(lambda: lake.others_publish(100)))
    )
    assert published is not None and published.attempts == 2
    assert lake.heads[0].snapshot.snapshot_id != lake.heads[-1].snapshot.snapshot_id
    lake.check([*range(20), 100], 20)


def test_losing_every_race_gives_up_with_nothing_lost(lake: Lake) -> None:
    keys = iter(range(100, 200))
    with pytest.raises(LostRace, match="lost 3 races"):
        lake.publisher(patience=Patience(attempts=3)).publish(
            lake.table, lake.insert([50], between=lambda: lake.others_publish(next(keys)))
        )
    lake.check([*range(10), 100, 101, 102], 10)


def test_hold_is_set_after_two_lost_races_and_cleared_by_the_publish(lake: Lake) -> None:
    keys = iter(range(100, 200))
    lose = times(2, lambda: lake.others_publish(next(keys)))
    held: list[bool] = []
    consume = lake.consume(20, between=lose)

    def build(head: Head) -> Plan | None:
        held.append(not wait_for_turn(lake.catalog, lake.table, honoured=0))
        return consume(head)

    published = lake.publisher().publish(lake.table, build)
    assert published is not None and published.attempts == 3
    assert held == [False, False, True]
    assert HOLD_TAG not in lake.load().metadata.refs
    assert wait_for_turn(lake.catalog, lake.table, honoured=0)
    lake.check([*range(20), 100, 101], 20)


def test_writers_that_consume_nothing_set_no_hold(lake: Lake) -> None:
    keys = iter(range(100, 200))
    lose = times(3, lambda: lake.others_publish(next(keys)))
    assert lake.publisher().publish(lake.table, lake.insert([50], between=lose)) is not None
    assert HOLD_TAG not in lake.load().metadata.refs
    lake.check([*range(10), 50, 100, 101, 102], 10)


# -- maintenance in between --------------------------------------------------------------------------------


def test_compaction_between_staging_and_swap(lake: Lake) -> None:
    lake.others_publish(100)
    published = lake.publisher().publish(lake.table, lake.consume(20, between=once(lake.compact)))
    assert published is not None and published.attempts == 2
    lake.check([*range(20), 100], 20)


def test_compaction_between_staging_and_swap_of_a_merge(lake: Lake) -> None:
    lake.others_publish(100)
    published = lake.publisher().publish(lake.table, update_odd(lake, lake.spark, once(lake.compact)))
    assert published is not None and published.attempts == 2
    assert lake.rows() == {k: "new" if k % 2 else f"v{k}" for k in [*range(10), 100]}
    lake.check([*range(10), 100], 10)


def test_a_merge_while_a_rewrite_is_staged(lake: Lake) -> None:
    """The other way round: maintenance loses, and is done again on what the MERGE left."""
    lake.others_publish(100)
    other = Publisher(lake.catalog, "m", QUICK)
    merging = once(lambda: other.publish(lake.table, update_odd(lake, lake.spark)))

    def build(head: Head) -> Plan:
        def write(stage: Stage) -> None:
            rows = lake.spark.read.option("versionAsOf", head.snapshot.snapshot_id).table(
                f"{CATALOG_NAME}.{lake.table}"
            )
            writer = rows.coalesce(1).writeTo(f"{CATALOG_NAME}.{stage.identifier}")
            for name, value in stage.properties.items():
                writer = writer.option(f"snapshot-property.{name}", value)
            writer.overwrite(F.lit(True))

        return Plan(write, lambda *_: merging())

    published = lake.publisher("compact").publish(lake.table, build)
    assert published is not None and published.attempts == 2
    assert lake.rows() == {k: "new" if k in range(1, 10, 2) else f"v{k}" for k in [*range(10), 100]}
    lake.check([*range(10), 100], 10)


def test_compaction_and_expiry_keep_progress(lake: Lake) -> None:
    lake.compact()
    lake.expire()
    lake.check(range(10), 10)
    assert lake.publisher().publish(lake.table, lake.consume(20)) is not None
    lake.check(range(20), 20)


def test_expiry_between_staging_and_swap(lake: Lake) -> None:
    published = lake.publisher().publish(lake.table, lake.consume(20, between=once(lake.expire)))
    assert published is not None and published.attempts == 1
    lake.check(range(20), 20)


def test_the_parent_expires_before_the_branch_is_opened(lake: Lake) -> None:
    """The catalog refuses to start a branch at a snapshot that is gone, and the plan is built again."""
    lake.others_publish(100)

    def upkeep() -> None:
        lake.others_publish(101)
        lake.expire()

    lake.proxy.meanwhile(opens(lake.table), upkeep)
    published = lake.publisher().publish(lake.table, lake.consume(20))
    assert published is not None and published.attempts == 2
    lake.check([*range(20), 100, 101], 20)


def test_expiry_right_after_the_swap_that_was_not_answered(lake: Lake) -> None:
    lake.proxy.drop_answer(swaps(lake.table), after=lake.expire)
    published = lake.publisher().publish(lake.table, lake.consume(20))
    assert published is not None and published.attempts == 1
    lake.check(range(20), 20)


@pytest.mark.parametrize("consuming", [True, False])
def test_publishes_and_expiry_after_the_swap_that_was_not_answered(lake: Lake, consuming: bool) -> None:
    """Expiry has cut the published snapshot out of main's history before its writer asks for it."""

    def upkeep() -> None:
        lake.others_publish(100)
        lake.others_publish(101)
        lake.expire()

    lake.proxy.drop_answer(swaps(lake.table), after=upkeep)
    build = lake.consume(20) if consuming else lake.insert(range(10, 20))
    published = lake.publisher().publish(lake.table, build)
    assert published is not None and published.attempts == 1
    lake.check([*range(20), 100, 101], 20 if consuming else 10)


# -- rollback ----------------------------------------------------------------------------------------------


def test_a_rollback_below_progress_halts_the_writer(lake: Lake) -> None:
    before = lake.main()
    assert lake.publisher().publish(lake.table, lake.consume(20)) is not None
    lake.roll_back(before)
    for build in (lake.consume(30), lake.insert([50])):
        with pytest.raises(RolledBack) as halted:
            lake.publisher().publish(lake.table, build)
    assert halted.value.hint
    assert sorted(lake.rows()) == list(range(10))
    lake.set_ref(tag_to(PROGRESS_TAG, before))
    assert lake.publisher().publish(lake.table, lake.consume(20)) is not None
    lake.check(range(20), 20)


def test_a_rollback_between_staging_and_swap_halts_the_writer(lake: Lake) -> None:
    birth = lake.load().current_snapshot()
    assert birth is not None and birth.parent_snapshot_id is not None
    back = birth.parent_snapshot_id
    with pytest.raises(RolledBack):
        lake.publisher().publish(lake.table, lake.consume(20, between=once(lambda: lake.roll_back(back))))
    assert lake.rows() == {} and lake.stages() == []


def test_a_rollback_of_the_swap_that_was_not_answered_is_not_undone(lake: Lake) -> None:
    parent = lake.main()
    lake.proxy.drop_answer(swaps(lake.table), after=lambda: lake.roll_back(parent))
    with pytest.raises(RolledBack):
        lake.publisher().publish(lake.table, lake.consume(20))
    assert sorted(lake.rows()) == list(range(10)) and lake.stages() == []


def test_a_table_created_again_gets_nothing_that_was_staged_for_the_old_one(lake: Lake) -> None:
    def create_again() -> None:
        lake.catalog.drop_table(lake.table)
        ensure_tables(lake.catalog, 1, [definition(lake.table)])

    with pytest.raises(ConcurrentWriter):
        lake.publisher().publish(lake.table, lake.consume(20, between=once(create_again)))
    lake.check([], 0)


# -- stages left behind ------------------------------------------------------------------------------------


def test_abandoned_stages_go_by_age_and_owner(lake: Lake) -> None:
    hour_ago, now = int((time.time() - 3600) * 1000), int(time.time() * 1000)
    old, young = f"stage_w_{hour_ago}_aaaaaaaaaaaa", f"stage_w_{now}_bbbbbbbbbbbb"
    others = [f"stage_other_{hour_ago}_cccccccccccc", f"stage_w2_{hour_ago}_dddddddddddd"]
    of_people = ["stage_w_try_this", "experiment", "stage_w_"]
    for name in [old, young, *others, *of_people]:
        lake.set_ref(branch_to(name, lake.main()))
    assert drop_abandoned(lake.catalog, lake.table, "w", older_than=600) == [old]
    assert drop_abandoned(lake.catalog, lake.table, "w", older_than=600) == []
    left = set(lake.load().metadata.refs)
    assert left == {MAIN, PROGRESS_TAG, young, *others, *of_people}
    assert drop_abandoned(lake.catalog, lake.table, "w", older_than=-1) == [young]


def test_a_writer_names_itself_in_letters_and_digits(lake: Lake) -> None:
    with pytest.raises(ValueError, match="letters and digits"):
        Publisher(lake.catalog, "raw_2")
