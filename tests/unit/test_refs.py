"""What the refs of a table say: its head and progress, a rollback, and what became of a lost swap."""

from __future__ import annotations

import pytest

from lakehouse.errors import AuditFailed, LakehouseError, RolledBack
from lakehouse.offsets import OffsetVector
from lakehouse.publish import Outcome, Stage, check_chain, resolve
from lakehouse.refs import ancestry, read_head
from lakehouse.stamp import Stamp
from tests.history import NAME, History, offsets

BRANCH = "stage_w_1_abc"
MINE = Stamp("mine", "w", offsets(30))


@pytest.fixture
def history() -> History:
    """Birth, and two publishes that consumed 10 and 20 records."""
    history = History()
    history.publish(1, None, 0)
    history.publish(2, 1, 10)
    history.publish(3, 2, 20)
    return history


# -- the head ----------------------------------------------------------------------------------------------


def test_the_head_is_main_with_the_progress_of_the_tag(history: History) -> None:
    history.publish(4, 3, None, writer="compact")
    head = read_head(history.catalog(), NAME)
    assert (head.name, head.snapshot.snapshot_id, head.offsets) == (NAME, 4, offsets(20))
    assert (head.progress.writer, head.progress.token) == ("w", "token-3")


def test_a_table_without_its_first_snapshot_is_refused() -> None:
    with pytest.raises(LakehouseError, match="no first snapshot"):
        read_head(History().catalog(), NAME)


def test_a_progress_tag_on_a_foreign_snapshot_is_refused(history: History) -> None:
    history.add(4, 3)
    history.branch("main", 4)
    history.tag("progress", 4)
    with pytest.raises(LakehouseError, match="no stamp"):
        read_head(history.catalog(), NAME)


def test_birth_is_progress_at_the_beginning() -> None:
    history = History()
    history.add(1, None, Stamp("t", "birth", OffsetVector()))
    history.branch("main", 1)
    history.tag("progress", 1)
    assert read_head(history.catalog(), NAME).offsets == OffsetVector()


def test_ancestry_ends_where_expiry_cut_it(history: History) -> None:
    metadata = history.table().metadata
    assert [s.snapshot_id for s in ancestry(metadata, history.snapshots[3])] == [3, 2, 1]
    del history.snapshots[2]
    assert [s.snapshot_id for s in ancestry(history.table().metadata, history.snapshots[3])] == [3]


# -- rolled back -------------------------------------------------------------------------------------------


def test_main_set_back_below_progress_is_a_rollback(history: History) -> None:
    history.branch("main", 2)
    with pytest.raises(RolledBack, match=r"main is at snapshot 2.*snapshot 3"):
        read_head(history.catalog(), NAME)


def test_new_commits_on_a_main_that_was_set_back_do_not_hide_it(history: History) -> None:
    history.publish(4, 2, None, writer="compact")
    history.publish(5, 4, None, writer="compact")
    with pytest.raises(RolledBack):
        read_head(history.catalog(), NAME)


def test_a_rollback_shows_after_expiry_too(history: History) -> None:
    history.branch("main", 2)
    history.expire()
    with pytest.raises(RolledBack):
        read_head(history.catalog(), NAME)


def test_maintenance_above_progress_is_no_rollback(history: History) -> None:
    history.publish(4, 3, None, writer="compact")
    history.publish(5, 4, None, writer="compact")
    assert read_head(history.catalog(), NAME).offsets == offsets(20)
    history.expire()
    assert read_head(history.catalog(), NAME).offsets == offsets(20)


def test_undoing_maintenance_only_is_no_rollback(history: History) -> None:
    history.publish(4, 3, None, writer="compact")
    history.branch("main", 3)
    assert read_head(history.catalog(), NAME).offsets == offsets(20)


# -- what became of a swap ---------------------------------------------------------------------------------


class Attempt:
    """A stage on the history's head, with snapshot 4 staged and its swap still open."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.stage = Stage(read_head(history.catalog(), NAME), BRANCH, MINE)
        self.staged = history.add(4, self.stage.head.snapshot.snapshot_id, MINE)
        history.branch(BRANCH, 4)

    def apply(self) -> None:
        """Do what the swap does."""
        self.history.branch("main", 4)
        self.history.tag("progress", 4)
        del self.history.refs[BRANCH]

    def outcome(self) -> Outcome:
        return resolve(self.history.table(), self.stage, self.staged)


@pytest.fixture
def attempt(history: History) -> Attempt:
    return Attempt(history)


def test_main_still_at_the_parent_leaves_it_open(attempt: Attempt) -> None:
    assert attempt.outcome() is Outcome.PENDING


def test_it_was_applied(attempt: Attempt) -> None:
    attempt.apply()
    assert attempt.outcome() is Outcome.PUBLISHED


def test_others_on_top_do_not_change_that(attempt: Attempt) -> None:
    attempt.apply()
    attempt.history.publish(5, 4, 40)
    attempt.history.publish(6, 5, None, writer="compact")
    assert attempt.outcome() is Outcome.PUBLISHED


@pytest.mark.parametrize("on_top", [1, 2, 3])
def test_nor_does_expiry_that_cuts_it_off_main(attempt: Attempt, on_top: int) -> None:
    attempt.apply()
    for number in range(5, 5 + on_top):
        attempt.history.publish(number, number - 1, 10 * number)
    attempt.history.expire()
    assert attempt.outcome() is Outcome.PUBLISHED


def test_another_was_first(attempt: Attempt) -> None:
    attempt.history.publish(5, 3, None, writer="compact")
    assert attempt.outcome() is Outcome.LOST


@pytest.mark.parametrize("others", [1, 2, 3])
def test_others_were_first_and_expiry_cut_the_parent_off(attempt: Attempt, others: int) -> None:
    for number in range(5, 5 + others):
        attempt.history.publish(number, 3 if number == 5 else number - 1, None, writer="compact")
    attempt.history.expire()
    assert attempt.outcome() is Outcome.LOST


def test_one_that_staged_before_us_was_first(history: History) -> None:
    other = history.add(9, 3, Stamp("other", "compact"))
    attempt = Attempt(history)
    history.branch("main", other.snapshot_id)
    history.expire()
    assert attempt.outcome() is Outcome.LOST


def test_a_swept_stage_is_not_submitted_again(attempt: Attempt) -> None:
    del attempt.history.refs[BRANCH]
    assert attempt.outcome() is Outcome.LOST
    attempt.history.expire()
    assert attempt.outcome() is Outcome.LOST


def test_a_rollback_to_the_parent_is_not_undone(attempt: Attempt) -> None:
    attempt.apply()
    attempt.history.branch("main", 3)
    assert attempt.outcome() is Outcome.LOST


def test_a_rollback_below_the_parent_is_not_undone(attempt: Attempt) -> None:
    attempt.apply()
    attempt.history.branch("main", 2)
    assert attempt.outcome() is Outcome.LOST


def test_a_branch_that_a_delayed_request_made_again_says_nothing(attempt: Attempt) -> None:
    attempt.apply()
    attempt.history.publish(5, 4, 50)
    attempt.history.publish(6, 5, 60)
    attempt.history.branch(BRANCH, 3)
    attempt.history.expire()
    assert attempt.outcome() is Outcome.PUBLISHED


# -- the staged chain --------------------------------------------------------------------------------------


def test_a_chain_of_ours_that_ends_at_the_parent_is_good(attempt: Attempt) -> None:
    second = attempt.history.add(5, 4, MINE)
    check_chain(attempt.history.table(), second, attempt.stage)


def test_a_foreign_snapshot_on_the_stage_is_refused(attempt: Attempt) -> None:
    foreign = attempt.history.add(5, 4, Stamp("theirs", "w"))
    mine = attempt.history.add(6, 5, MINE)
    for last in (foreign, mine):
        with pytest.raises(AuditFailed, match="snapshot 5 on stage_w_1_abc is not ours"):
            check_chain(attempt.history.table(), last, attempt.stage)


def test_an_unstamped_snapshot_on_the_stage_is_refused(attempt: Attempt) -> None:
    bare = attempt.history.add(5, 4)
    with pytest.raises(AuditFailed, match="not ours"):
        check_chain(attempt.history.table(), bare, attempt.stage)


def test_a_chain_that_misses_the_parent_is_refused(attempt: Attempt) -> None:
    astray = attempt.history.add(5, None, MINE)
    with pytest.raises(AuditFailed, match="does not end at its parent 3"):
        check_chain(attempt.history.table(), astray, attempt.stage)
