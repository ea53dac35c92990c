"""The plan that leads from a topic as it is to the topic as it must be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streaming.errors import StreamingError
from streaming.topics import Change, ensure_topics, payments_topic, plan

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
def test_what_kafka_cannot_do_is_refused_with_both_sides(existing: object) -> None:
    with pytest.raises(StreamingError, match=r"has .* the settings say"):
        plan(WANTED, existing)  # type: ignore[arg-type]


def test_no_kafka_is_said_without_a_stack_trace() -> None:
    with pytest.raises(StreamingError, match="could not be looked at"):
        ensure_topics({"bootstrap.servers": "127.0.0.1:1"}, WANTED, timeout_s=0.5)
