"""How far behind Snowflake is, from what both sides say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from assets.snowflake import snowflake_lag
from snowflake_external.freshness import (
    LOOK,
    OBJECTIVE,
    PROMISED,
    Commit,
    Freshness,
    Seen,
    State,
    first_shown,
    held,
    judge,
    objective_of,
    shows,
)

START = datetime(2026, 11, 26, 12, tzinfo=UTC)
COMMITS = [Commit(number, START + timedelta(seconds=10 * number)) for number in range(1, 6)]


def judged(shows: int | None, state: State = State.RUNNING, after_s: float = 60) -> Freshness:
    return judge("t", COMMITS, Seen(state, "", shows), START + timedelta(seconds=after_s))


def test_the_oldest_commit_that_is_not_shown_says_how_late_it_is() -> None:
    assert (judged(5).behind, judged(5).lag_s) == (0, 0)
    assert (judged(2).behind, judged(2).lag_s) == (3, 30)
    assert (judged(None).behind, judged(None).lag_s) == (5, 50)
    assert (judged(99).behind, judged(99).lag_s) == (5, 50), "older than all that the lake still knows"


def test_a_table_is_refreshed_by_hand_if_it_is_late_or_will_not_come_by_itself() -> None:
    late_s = 10 + OBJECTIVE.total_seconds()
    assert not judged(None, after_s=late_s).needs_refresh
    assert judged(None, after_s=late_s + 1).needs_refresh
    for state in set(State) - {State.RUNNING}:
        assert judged(4, state).needs_refresh, state
    for state in (State.RUNNING, State.STALLED, State.UNKNOWN):
        assert not judged(5, state).needs_refresh, "nothing is missing, and it goes on by itself"
    for state in (State.STOPPED, State.OFF, State.NOT_INITIALIZED):
        assert judged(5, state).needs_refresh, "the next commit would be missing"


def test_a_longer_interval_is_no_lateness() -> None:
    assert objective_of(30) == objective_of(20) == OBJECTIVE
    assert objective_of(300) == timedelta(seconds=600)
    late = judge("t", COMMITS, Seen(State.RUNNING, "", 1), START + timedelta(seconds=600), objective_of(300))
    assert not late.is_late
    assert judge("t", COMMITS, Seen(State.RUNNING, "", 1), START + timedelta(seconds=600)).is_late


def test_a_word_that_is_not_documented_is_no_error() -> None:
    assert State.of("PAUSED_FOR_NOW") is State.UNKNOWN
    assert [State.of(state.value) for state in State] == list(State)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_delays_are_from_the_commit_until_it_or_a_later_one_was_shown() -> None:
    refreshed = {1: at(12), 3: at(50), 77: START}
    found = judge("t", COMMITS, Seen(State.RUNNING, "", 3, at(50), refreshed), at(60))
    assert found.delays_s == (2, 30, 20), "2 was passed over, and waited longest"
    assert (found.delay_s(0.5), found.delay_s(0.95), found.last_delay_s) == (20, 30, 20)
    assert (judged(5).delays_s, judged(5).delay_s(0.95), judged(5).last_delay_s) == (None, None, None)


def test_commits_from_before_the_history_have_no_delay() -> None:
    found = judge("t", COMMITS, Seen(State.RUNNING, "", 4, at(45), {2: at(39), 4: at(45)}), at(60))
    assert found.delays_s == (5,), "1, 2 and 3 were there when it began"


def test_with_three_commits_to_a_poll_the_slowest_counts() -> None:
    commits = [Commit(number, at(10 * number)) for number in range(61)]
    refreshed = {number: at(10 * number + 5) for number in range(0, 61, 3)}
    found = judge("t", commits, Seen(State.RUNNING, "", 60, at(605), refreshed), at(610))
    assert (found.delay_s(0.5), found.delay_s(0.95)) == (15, 25)


@given(st.lists(st.integers(0, 9), unique=True), st.dictionaries(st.integers(0, 9), st.integers(0, 99)))
def test_a_commit_is_shown_no_later_than_those_after_it(ids: list[int], refreshed: dict[int, int]) -> None:
    found = first_shown(ids, {key: at(seconds) for key, seconds in refreshed.items()})
    for place, one in enumerate(found):
        later = [at(refreshed[key]) for key in ids[place:] if key in refreshed]
        assert one == min(later, default=None)


def test_a_table_shows_a_commit_if_it_stands_there_or_later() -> None:
    assert shows(COMMITS, 3, 3)
    assert shows(COMMITS, 4, 3)
    assert not shows(COMMITS, 2, 3)
    assert not shows(COMMITS, None, 3)
    assert not shows(COMMITS, 99, 3)


def test_history_is_kept_for_a_reader_from_where_it_stands_but_not_for_ever() -> None:
    assert held(COMMITS, 2, at(0)) == 2
    assert held(COMMITS, 2, at(35)) is None, "older than what is kept for it"
    assert held(COMMITS, 99, at(0)) is None, "its snapshot is gone already"
    assert held(COMMITS, None, at(35)) == 4, "it may stand at any of them"
    assert held(COMMITS, None, at(60)) is None


@given(st.one_of(st.none(), st.integers(0, 7)), st.integers(0, 10**6))
def test_lag_is_there_exactly_if_commits_are_missing(shows: int | None, after_s: int) -> None:
    found = judged(shows, after_s=51 + after_s)  # after the last commit
    assert (found.lag_s > 0) == (found.behind > 0)
    assert found.lag_s <= 41 + after_s, "nothing is older than the first commit"


def test_what_is_late_is_noticed_before_readers_miss_what_they_were_promised() -> None:
    assert OBJECTIVE + LOOK <= PROMISED
    assert snowflake_lag.minimum_interval_seconds == LOOK.total_seconds()
