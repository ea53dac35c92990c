"""Topics as code: what a topic must be, the pure plan that leads there, and the edge that applies it.

Belongs here: layout and settings of topics. Does not: what is in their records (`message.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its names are not declared public
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from streaming.errors import StreamingError

_TIMEOUT_S = 30.0
_DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True)
class Topic:
    """A topic as it is, or as it must be. `config` holds Kafka's names and texts."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One step of a plan: `create`, `grow` (more partitions) or `configure` (only what differs)."""

    action: str
    topic: Topic
    said: str


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
            "retention.ms": str(retention_days * _DAY_MS),
            "min.insync.replicas": str(min_insync_replicas),
            "unclean.leader.election.enable": "false",
            "compression.type": "producer",
        },
    )


def plan(desired: Topic, existing: Topic | None) -> list[Change]:
    """The steps from `existing` (None: there is none) to `desired`; empty when nothing differs. Pure.

    Raises StreamingError for what Kafka cannot do in place: fewer partitions, another replication factor.
    """
    if existing is None:
        said = f"{desired.partitions} partitions, replication factor {desired.replication_factor}"
        return [Change("create", desired, said)]
    _refuse_impossible(desired, existing)
    changes = []
    if desired.partitions > existing.partitions:
        said = f"partitions {existing.partitions} -> {desired.partitions}"
        changes.append(Change("grow", desired, said))
    drift = {key: value for key, value in desired.config.items() if existing.config.get(key) != value}
    if drift:
        said = ", ".join(f"{key} {existing.config.get(key)} -> {value}" for key, value in drift.items())
        changes.append(
            Change(
                "configure", Topic(desired.name, desired.partitions, desired.replication_factor, drift), said
            )
        )
    return changes


def ensure_topics(
    kafka_properties: Mapping[str, str], *desired: Topic, timeout_s: float = _TIMEOUT_S
) -> dict[str, str]:
    """Create what is missing and mend what differs; idempotent. Raises StreamingError.

    Returns what was done per topic: `unchanged`, or the steps.
    """
    client = AdminClient({**kafka_properties, "log_level": 0})
    done = {}
    for topic in desired:
        changes = plan(topic, describe(client, topic.name, timeout_s))
        for change in changes:
            apply(client, change)
        done[topic.name] = "; ".join(f"{c.action}: {c.said}" for c in changes) or "unchanged"
    return done


def check_topic(kafka_properties: Mapping[str, str], desired: Topic, timeout_s: float) -> list[str]:
    """What `ensure_topics` would do, in words; changes nothing."""
    client = AdminClient({**kafka_properties, "log_level": 0})
    changes = plan(desired, describe(client, desired.name, timeout_s))
    return [f"{change.action}: {change.said}" for change in changes]


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
        raise _unanswered(f"the topic {name} could not be looked at", error) from error
    config = {key: entry.value for key, entry in entries.items()}
    return Topic(name, len(found.partitions), len(found.partitions[0].replicas), config)


def apply(client: AdminClient, change: Change) -> None:
    """Carry out one step and wait for it. A topic that another process just created is fine."""
    topic = change.topic
    futures: dict[Any, Future[Any]]
    if change.action == "create":
        new = NewTopic(topic.name, topic.partitions, topic.replication_factor, config=dict(topic.config))
        futures = client.create_topics([new])
    elif change.action == "grow":
        futures = client.create_partitions([NewPartitions(topic.name, topic.partitions)])
    else:
        futures = client.incremental_alter_configs([_alteration(topic)])
    for future in futures.values():
        try:
            future.result(_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise _unanswered(f"{change.action} of topic {topic.name} failed", error) from error


def _alteration(topic: Topic) -> ConfigResource:
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        for key, value in topic.config.items()
    ]
    return ConfigResource(ConfigResource.Type.TOPIC, topic.name, incremental_configs=entries)


def _refuse_impossible(desired: Topic, existing: Topic) -> None:
    for what, now, wanted, impossible in (
        ("partitions", existing.partitions, desired.partitions, desired.partitions < existing.partitions),
        (
            "replication factor",
            existing.replication_factor,
            desired.replication_factor,
            desired.replication_factor != existing.replication_factor,
        ),
    ):
        if impossible:
            raise StreamingError(
                f"topic {desired.name} has {what} {now}, the settings say {wanted}: Kafka cannot change that",
                hint=f"set it back to {now}, or move to a new topic",
            )


def _unanswered(what: str, error: KafkaException) -> StreamingError:
    return StreamingError(f"{what}: {error.args[0].str()}", hint="check that Kafka runs: `paywave status`")
