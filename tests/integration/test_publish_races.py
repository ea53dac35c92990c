"""The publish protocol beside others: races, compaction, expiry and rollback in between, stages left behind.

After every fault: each published row is there exactly once, the tag `progress` is right, no stage is left.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pytest
from pyspark.sql import functions as F

from lakehouse.catalog import CATALOG_NAME, connect
from lakehouse.errors import ConcurrentWriter, LostRace, RolledBack
from lakehouse.patience import Patience
from lakehouse.publish import Plan, Published, Publisher, Stage
from lakehouse.refs import MAIN, PROGRESS_TAG, Head, branch_to, tag_to
from lakehouse.right_of_way import HOLD_TAG, TURN_TAG, ask
from lakehouse.tables import ensure_tables
from lakehouse.turns import drop_abandoned, wait_for_turn
from tests.faulty_proxy import opens, swaps
from tests.lake import (
    QUICK,
    Lake,
    definition,
    once,
    times,
    update_odd,
)

pytestmark = pytest.mark.integration


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


def test_one_that_takes_turns_is_let_pass_once_it_lost(lake: Lake) -> None:
    """The live writer commits faster than any attempt of the other one takes, and would be first for ever."""
    live, consumed = lake.publisher("live"), iter(range(11, 100))
    live.publish(lake.table, lake.consume(next(consumed)))
    waiting: list[Future[Published | None]] = []

    def live_goes_first() -> None:
        if TURN_TAG in lake.load().metadata.refs:  # from now on it waits: in a thread of its own
            waiting.append(pool.submit(live.publish, lake.table, lake.consume(next(consumed))))
        else:
            live.publish(lake.table, lake.consume(next(consumed)))

    with ThreadPoolExecutor(1) as pool:
        backfill = lake.publisher("backfill", takes_turns=True)
        published = backfill.publish(lake.table, lake.insert([50], between=live_goes_first))
        assert published is not None and published.attempts == 2
        (last,) = [one.result(60) for one in waiting]
    assert last is not None and last.attempts == 1, "it lost nothing by waiting"
    assert TURN_TAG not in lake.load().metadata.refs
    lake.check([*range(13), 50], 13)


def test_a_turn_that_nobody_takes_is_waited_for_once(lake: Lake) -> None:
    live = lake.publisher("live", patience=replace(QUICK, turn_seconds=0.2))
    live.publish(lake.table, lake.consume(11))
    ask(lake.catalog, lake.load(), TURN_TAG)
    assert live.publish(lake.table, lake.consume(12)) is not None
    assert TURN_TAG not in lake.load().metadata.refs
    lake.check(range(12), 12)


def test_one_that_gives_up_leaves_no_turn_behind(lake: Lake) -> None:
    keys = iter(range(100, 200))
    with pytest.raises(LostRace):
        lake.publisher(patience=replace(QUICK, attempts=3), takes_turns=True).publish(
            lake.table, lake.insert([50], between=lambda: lake.others_publish(next(keys)))
        )
    assert TURN_TAG not in lake.load().metadata.refs


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
