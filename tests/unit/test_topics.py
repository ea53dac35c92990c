"""The plan that leads from a topic as it is to the topic as it must be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cli.context import topic_of
from config.settings import load_settings
from streaming.errors import StreamingError
from streaming.kafka_client import PINNED
from streaming.topic_plan import IMPOSSIBLE, Change, Topic, durability_problems, partitions_for, plan
from streaming.topics import ensure_topics, payments_topic, refuse_impossible

WANTED = payments_topic("payments.events", 4, 3, 2, 30)


def actions(changes: list[Change]) -> list[str]:
    return [change.action for change in changes]


def test_the_topic_is_as_the_design_wants_it() -> None:
    assert WANTED.config["message.timestamp.type"] == "LogAppendTime"
    assert WANTED.config["cleanup.policy"] == "delete"
    assert WANTED.config["retention.ms"] == "2592000000"
    assert WANTED.config["min.insync.replicas"] == "2"


def test_a_missing_topic_is_created() -> None:
    (change,) = plan(WANTED, None)
    assert (change.action, change.topic) == ("create", WANTED)


def test_nothing_is_done_when_nothing_differs() -> None:
    existing = replace(WANTED, config={**WANTED.config, "segment.bytes": "1"})
    assert plan(WANTED, existing) == []


def test_only_what_differs_is_changed() -> None:
    existing = replace(WANTED, partitions=2, config={**WANTED.config, "cleanup.policy": "compact"})
    changes = plan(WANTED, existing)
    assert actions(changes) == ["grow", "configure"]
    assert changes[1].topic.config == {"cleanup.policy": "delete"}
    assert "compact -> delete" in changes[1].said


@pytest.mark.parametrize("existing", [replace(WANTED, partitions=8), replace(WANTED, replication_factor=1)])
def test_what_kafka_cannot_do_is_shown_and_refused_with_both_sides(existing: Topic) -> None:
    changes = plan(WANTED, replace(existing, config={}))
    assert actions(changes) == ["impossible", "configure"]
    with pytest.raises(StreamingError, match=r"is (8|1), the settings say (4|3).* nothing was changed"):
        refuse_impossible(changes)


def test_the_topic_of_production_is_durable_and_sized_for_its_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"bootstrap_servers": "b:1"}, {"uri": "http://c", "warehouse": "w"}
    settings = load_settings(home=tmp_path, profile="aws", kafka=given[0], catalog=given[1])
    production = topic_of(settings)
    assert durability_problems(production) == []
    assert production.partitions == partitions_for(450_000, 1_200) == 216


def test_partitions_follow_the_load_and_spread_evenly() -> None:
    assert partitions_for(1, 1) == 12
    assert partitions_for(900_000, 1_200) == 432


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min.insync.replicas", "1"),
        ("unclean.leader.election.enable", "true"),
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", str(30 * 24 * 3600 * 1000 - 1)),
        ("retention.bytes", "1000000"),
        ("message.timestamp.type", "CreateTime"),
    ],
)
def test_each_setting_that_could_lose_records_is_named(name: str, value: str) -> None:
    (problem,) = durability_problems(replace(WANTED, config={**WANTED.config, name: value}))
    assert problem.startswith(f"{name} is {value}: ")
    missing = {key: text for key, text in WANTED.config.items() if key != name}
    (problem,) = durability_problems(replace(WANTED, config=missing))
    assert problem.startswith(f"{name} is not known: ")


def test_a_topic_without_three_copies_is_not_durable_and_one_kept_for_ever_is() -> None:
    (problem,) = durability_problems(replace(WANTED, replication_factor=2))
    assert problem.startswith("replication factor is 2: ")
    assert durability_problems(replace(WANTED, config={**WANTED.config, "retention.ms": "-1"})) == []


def test_topic_and_producers_agree_on_the_codec() -> None:
    assert WANTED.config["compression.type"] == PINNED["compression.type"]


def test_no_kafka_is_said_without_a_stack_trace() -> None:
    with pytest.raises(StreamingError, match="could not be looked at"):
        ensure_topics({"bootstrap.servers": "127.0.0.1:1"}, WANTED, timeout_s=0.5)


@pytest.mark.parametrize(
    ("name", "now", "is_lowered"),
    [
        ("retention.ms", "-1", True),
        ("retention.ms", str(90 * 24 * 3600 * 1000), True),
        ("retention.ms", str(24 * 3600 * 1000), False),
        ("min.insync.replicas", "3", True),
        ("min.insync.replicas", "1", False),
        ("retention.bytes", "1000000", False),
    ],
)
def test_no_setting_is_lowered_that_keeps_records(name: str, now: str, is_lowered: bool) -> None:
    (change,) = plan(WANTED, replace(WANTED, config={**WANTED.config, name: now}))
    assert (change.action == IMPOSSIBLE) == is_lowered
    assert f"{name} is {now}, the settings say" in change.said if is_lowered else name in change.topic.config
