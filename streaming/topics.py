"""Topics as code: what our topic must be, and the cluster: looking, comparing, applying.

Belongs here: layout and settings of topics, and the edge to Kafka. Does not: deciding (`topic_plan.py`),
what is in their records (`message.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its names are not declared public
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from streaming.errors import StreamingError, WeakTopic
from streaming.kafka_client import LIBRDKAFKA_LOG, connection
from streaming.topic_plan import (
    CONFIGURE,
    CREATE,
    DAY_MS,
    GROW,
    IMPOSSIBLE,
    Change,
    Topic,
    durability_problems,
    plan,
)

_TIMEOUT_S = 30.0
_POLL_S = 0.05
SETTLE_S = 3.0
T = TypeVar("T")


def payments_topic(
    name: str, partitions: int, replication_factor: int, min_insync_replicas: int, retention_days: int
) -> Topic:
    """The topic of payment events, as the design wants it."""
    return Topic(
        name,
        partitions,
        replication_factor,
        {
            # The broker's clock decides which contract judges a record: no client can pick it.
            "message.timestamp.type": "LogAppendTime",
            # Compaction would leave holes, and offsets must be dense to prove that nothing was lost.
            "cleanup.policy": "delete",
            "retention.ms": str(retention_days * DAY_MS),
            # By time only: a flood must not push out records that nobody has read yet.
            "retention.bytes": "-1",
            "min.insync.replicas": str(min_insync_replicas),
            "unclean.leader.election.enable": "false",
            # Our producers send it too, so that the broker keeps their batches as they are; those of another
            # producer it compresses anew, instead of filling the disks (docs/topics.md).
            "compression.type": "zstd",
        },
    )


def ensure_topics(
    kafka_properties: Mapping[str, str], *desired: Topic, timeout_s: float = _TIMEOUT_S
) -> dict[str, str]:
    """Create what is missing and mend what differs; idempotent. Raises StreamingError.

    Returns what was done per topic: `unchanged`, or the steps.
    """
    done = {}
    for topic in desired:
        changes = plan_topic(kafka_properties, topic, timeout_s)
        apply_changes(kafka_properties, changes)
        done[topic.name] = "; ".join(f"{c.action}: {c.said}" for c in changes) or "unchanged"
    return done


def check_topic(kafka_properties: Mapping[str, str], desired: Topic, timeout_s: float) -> list[str]:
    """What `ensure_topics` would do, in words; changes nothing."""
    changes = plan_topic(kafka_properties, desired, timeout_s)
    return [f"{change.action}: {change.said}" for change in changes]


def plan_topic(
    kafka_properties: Mapping[str, str], desired: Topic, timeout_s: float = _TIMEOUT_S
) -> list[Change]:
    """Compare a topic with the cluster's. Raises StreamingError if Kafka does not answer."""
    return plan(desired, describe(_client(kafka_properties), desired.name, timeout_s))


def apply_changes(kafka_properties: Mapping[str, str], changes: Sequence[Change]) -> None:
    """Carry out a plan: all of it, or nothing where a part is impossible. Raises StreamingError."""
    refuse_impossible(changes)
    client = _client(kafka_properties)
    for change in changes:
        apply(client, change)


def refuse_impossible(changes: Sequence[Change]) -> None:
    """Raise StreamingError, naming both sides, if a plan holds what Kafka cannot do."""
    impossible = [change for change in changes if change.action == IMPOSSIBLE]
    if impossible:
        said = "; ".join(change.said for change in impossible)
        raise StreamingError(
            f"topic {impossible[0].topic.name}: {said}; Kafka cannot change that, nothing was changed",
            hint="set it back, or move to a new topic (replicas: Kafka's own kafka-reassign-partitions)",
        )


def require_durable(kafka_properties: Mapping[str, str], name: str, timeout_s: float = _TIMEOUT_S) -> None:
    """Raise WeakTopic unless the topic keeps what it acknowledges. For the start of jobs and producers."""
    client = _client(kafka_properties)
    topic = settled(lambda: describe(client, name, timeout_s))
    if topic is None:
        raise WeakTopic(f"there is no topic {name}", hint="`paywave topics apply` creates it")
    problems = durability_problems(topic)
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise WeakTopic(
            f"topic {name} could lose what it acknowledged:{listed}",
            hint="see `paywave topics plan`, mend it with `paywave topics apply`, then start again",
        )


def describe(client: AdminClient, name: str, timeout_s: float = _TIMEOUT_S) -> Topic | None:
    """The topic as it is, or None. Raises StreamingError if Kafka does not answer."""
    try:
        # A request for all topics: asking for one by name could create it where brokers allow that.
        found = client.list_topics(timeout=timeout_s).topics.get(name)
        if found is None:
            return None
        resource = ConfigResource(ConfigResource.Type.TOPIC, name)
        entries = client.describe_configs([resource])[resource].result(timeout_s)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:  # another broker, which lags behind
            return None
        raise _unanswered(f"the topic {name} could not be looked at", error) from error
    config = {key: entry.value for key, entry in entries.items()}
    replicas = min(len(partition.replicas) for partition in found.partitions.values())
    return Topic(name, len(found.partitions), replicas, config)


def apply(client: AdminClient, change: Change) -> None:
    """Carry out one step and wait for it. A topic that another process just created is fine."""
    topic = change.topic
    futures: dict[Any, Future[Any]]
    if change.action == CREATE:
        new = NewTopic(topic.name, topic.partitions, topic.replication_factor, config=dict(topic.config))
        futures = client.create_topics([new])
    elif change.action == GROW:
        futures = client.create_partitions([NewPartitions(topic.name, topic.partitions)])
    else:
        futures = client.incremental_alter_configs([_alteration(topic)])
    for future in futures.values():
        try:
            future.result(_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise _unanswered(f"{change.action} of topic {topic.name} failed", error) from error
    if change.action in (CREATE, GROW):
        settled(lambda: partitions_of(client, topic.name) >= topic.partitions, _TIMEOUT_S)
    else:
        settled(lambda: not _drifts(client, topic), _TIMEOUT_S)


def _drifts(client: AdminClient, topic: Topic) -> bool:
    """Whether a setting of a topic is another one as a broker tells it."""
    return any(change.action == CONFIGURE for change in plan(topic, describe(client, topic.name)))


def partitions_of(client: AdminClient | Producer, name: str, timeout_s: float = _TIMEOUT_S) -> int:
    """The number of a topic's partitions, 0 if there is none. Raises KafkaException."""
    # A request for all topics: asking for one by name could create it where brokers allow that.
    found = client.list_topics(timeout=timeout_s).topics.get(name)
    return 0 if found is None else len(found.partitions)


def settled(look: Callable[[], T], seconds: float = SETTLE_S) -> T:
    """Look again for a while until something is there.

    A new topic is the controller's decision first; each broker learns of it a moment later, by itself.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return found


def _client(kafka_properties: Mapping[str, str]) -> AdminClient:
    return AdminClient(connection(kafka_properties), logger=LIBRDKAFKA_LOG)


def _alteration(topic: Topic) -> ConfigResource:
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        for key, value in topic.config.items()
    ]
    return ConfigResource(ConfigResource.Type.TOPIC, topic.name, incremental_configs=entries)


def _unanswered(what: str, error: KafkaException) -> StreamingError:
    return StreamingError(f"{what}: {error.args[0].str()}", hint="check that Kafka runs: `paywave status`")
