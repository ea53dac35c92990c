"""Up to which Kafka time a reader has every record: what the answers of Kafka mean."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from streaming import completeness
from streaming.completeness import (
    CLOCKS,
    LADDER,
    NEW_LEADER,
    REPLICATION,
    complete_to,
    is_complete,
    settling,
)
from streaming.topic_state import TopicState

NOW = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)
IN_MILLISECONDS = NOW.replace(microsecond=123000)


def state(latest: Mapping[int, int], replicas: int = 1, in_sync: int = 1) -> TopicState:
    return TopicState("t", "id", dict.fromkeys(latest, 0), latest, NOW, replicas, in_sync)


@pytest.mark.parametrize(
    ("first_after", "reached", "complete"),
    [
        ({0: None, 1: None}, {0: 10, 1: 20}, True),
        ({0: 7, 1: 15}, {0: 7, 1: 15}, True),
        ({0: 7, 1: 15}, {0: 9, 1: 20}, True),
        ({0: 7, 1: 15}, {0: 6, 1: 20}, False),
        ({0: None, 1: 15}, {0: 9, 1: 20}, False),
        ({0: 0, 1: 0}, {}, True),
        ({0: 0, 1: 1}, {}, False),
        ({0: None, 1: 0}, {}, False),
    ],
)
def test_complete_is_read_up_to_the_first_record_that_is_later(
    first_after: dict[int, int | None], reached: dict[int, int], complete: bool
) -> None:
    assert is_complete(first_after, {0: 10, 1: 20}, reached) is complete


def test_an_empty_partition_is_complete() -> None:
    assert is_complete({0: None}, {0: 0}, {})


@pytest.mark.parametrize(
    ("replicas", "in_sync", "wait"),
    [
        (1, 1, CLOCKS),
        (3, 3, CLOCKS + REPLICATION),
        (3, 2, CLOCKS + REPLICATION),
        (3, 1, None),
        (2, 1, None),
    ],
)
def test_records_may_be_hidden_until_replicas_have_them(
    replicas: int, in_sync: int, wait: timedelta | None
) -> None:
    assert settling(state({0: 0}, replicas, in_sync)) == wait


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """A topic of one partition with a record every second, the newest of now; returns what it was asked."""
    asked: list[datetime] = []

    def answer(_: Mapping[str, str], of: TopicState, moment: datetime) -> dict[int, int | None]:
        asked.append(moment)
        offset = of.latest[0] - int((NOW - moment).total_seconds())
        return {0: max(0, offset)}

    monkeypatch.setattr(completeness, "first_offsets_after", answer)
    return asked


def test_one_question_is_enough_for_a_reader_that_has_caught_up(kafka: list[datetime]) -> None:
    assert complete_to({}, state({0: 100_000}), {0: 100_000}) == IN_MILLISECONDS - CLOCKS
    assert len(kafka) == 1


def test_with_replicas_a_new_leader_may_give_a_later_record_an_earlier_time(kafka: list[datetime]) -> None:
    found = complete_to({}, state({0: 100_000}, replicas=3, in_sync=3), {0: 100_000})
    assert kafka == [IN_MILLISECONDS - CLOCKS - REPLICATION]
    assert found == kafka[0] - NEW_LEADER


def test_one_that_lags_is_complete_as_of_the_first_step_back_that_holds(kafka: list[datetime]) -> None:
    found = complete_to({}, state({0: 100_000}), {0: 100_000 - 200})
    assert found == IN_MILLISECONDS - CLOCKS - timedelta(minutes=5)
    assert kafka == [IN_MILLISECONDS - CLOCKS - back for back in LADDER[:4]]


def test_one_that_lags_by_more_than_the_ladder_is_told_nothing(kafka: list[datetime]) -> None:
    assert complete_to({}, state({0: 100_000}), {0: 100}) is None
    assert len(kafka) == len(LADDER)


def test_nothing_is_asked_while_records_may_be_hidden(kafka: list[datetime]) -> None:
    assert complete_to({}, state({0: 10}, replicas=3, in_sync=1), {0: 10}) is None
    assert not kafka
