"""How far behind Snowflake is, from what both sides say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowflake_external.deployment import Bearer, Deployment, RestCatalog, S3Volume
from snowflake_external.errors import Denied
from snowflake_external.freshness import OBJECTIVE, Commit, Freshness, Seen, State, judge
from snowflake_external.watch import refresh

START = datetime(2026, 11, 26, 12, tzinfo=UTC)
COMMITS = [Commit(number, START + timedelta(seconds=10 * number)) for number in range(1, 6)]
DEPLOYMENT = Deployment(S3Volume("s3://b/w"), RestCatalog("https://c.example", Bearer("t")))


def judged(shows: int | None, state: State = State.RUNNING, after_s: float = 60) -> Freshness:
    return judge("t", COMMITS, Seen(state, "", shows, {}), START + timedelta(seconds=after_s))


def test_the_oldest_commit_that_is_not_shown_says_how_late_it_is() -> None:
    assert (judged(5).behind, judged(5).lag_s) == (0, 0)
    assert (judged(2).behind, judged(2).lag_s) == (3, 30)
    assert (judged(None).behind, judged(None).lag_s) == (5, 50)
    assert (judged(99).behind, judged(99).lag_s) == (5, 50), "older than all that the lake still knows"


def test_a_table_is_refreshed_by_hand_if_it_is_late_or_will_not_come_by_itself() -> None:
    late_s = 10 + OBJECTIVE.total_seconds()
    assert not judged(None, after_s=late_s).needs_refresh
    assert judged(None, after_s=late_s + 1).needs_refresh
    for state in (State.STALLED, State.STOPPED, State.OFF, State.NOT_INITIALIZED):
        assert judged(4, state).needs_refresh
        assert not judged(5, state).needs_refresh, "nothing is missing"


def test_delays_are_from_the_commit_to_its_refresh() -> None:
    refreshed = {1: START + timedelta(seconds=12), 3: START + timedelta(seconds=50), 77: START}
    found = judge("t", COMMITS, Seen(State.RUNNING, "", 3, refreshed), START + timedelta(seconds=60))
    assert found.delays_s == (2, 20)
    assert (found.delay_s(0.5), found.delay_s(0.95)) == (2, 20)
    assert judged(5).delay_s(0.95) is None


@given(st.one_of(st.none(), st.integers(0, 7)), st.integers(0, 10**6))
def test_lag_is_there_exactly_if_commits_are_missing(shows: int | None, after_s: int) -> None:
    found = judged(shows, after_s=51 + after_s)  # after the last commit
    assert (found.lag_s > 0) == (found.behind > 0)
    assert found.lag_s <= 41 + after_s, "nothing is older than the first commit"


@pytest.mark.parametrize(("fails", "attempts", "is_done"), [(0, 1, True), (2, 3, True), (9, 4, False)])
def test_a_refresh_is_tried_again_with_longer_pauses_and_then_told(
    fails: int, attempts: int, is_done: bool
) -> None:
    sent: list[str] = []
    pauses: list[float] = []

    def ask(text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        sent.append(text)
        if len(sent) <= fails:
            raise Denied("no USAGE on the integration")
        return []

    (done,) = refresh(DEPLOYMENT, ask, ["curated.payments"], pauses.append)
    assert set(sent) == {'ALTER ICEBERG TABLE "PAYWAVE_LAKE"."CURATED"."PAYMENTS" REFRESH'}
    assert (done.attempts, done.error is None) == (attempts, is_done)
    assert pauses == sorted(pauses)
    assert len(pauses) == attempts - 1
