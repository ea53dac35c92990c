"""The publish protocol on the real catalog, whose answers are lost, late or wrong; staging that fails.

After every fault: each published row is there exactly once, the tag `progress` is right, no stage is left.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot

from lakehouse import audit
from lakehouse.catalog import CATALOG_NAME
from lakehouse.errors import AuditFailed, OutcomeUnknown
from lakehouse.publish import Plan, Stage
from lakehouse.refs import MAIN, Head, branch_to
from lakehouse.staging import append, append_nothing
from lakehouse.turns import drop_abandoned
from tests.faulty_proxy import ALWAYS, Fault, anything, drops, opens, reads, stages, swaps
from tests.lake import (
    HASTY,
    QUICK,
    TIME_OUT_SECONDS,
    Lake,
    MatchOf,
    once,
    progress_of,
    records,
    spark_through,
    update_odd,
)

pytestmark = pytest.mark.integration


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
    patience = replace(HASTY, resolve_seconds=5)  # what comes before the swap may be slow, and is asked again
    with pytest.raises(OutcomeUnknown):
        lake.publisher(patience=patience, answer_seconds=TIME_OUT_SECONDS).publish(
            lake.table, lake.consume(20)
        )
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
