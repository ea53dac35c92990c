"""Topics as data: the steps from one to another, what makes one durable, how many partitions a load needs.

Belongs here: pure decisions about a topic. Does not: asking or changing a cluster (`topics.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil, inf

DAY_MS = 24 * 60 * 60 * 1000
MIN_REPLICATION = 3
MIN_IN_SYNC = 2
MIN_RETENTION_DAYS = 30

# What the sizing stands on; the arithmetic in words is in docs/topics.md.
PARTITION_BYTES_PER_S = 10_000_000  # of one partition, before compression: one log, one fetch per follower
CATCH_UP = 2  # after an outage the backlog is read beside what arrives
SKEW = 2  # accounts are not equally busy: the busiest partition against the mean
SPREAD = 12  # a multiple of this puts as many leaders on each of 3, 6 or 12 brokers

CREATE, GROW, CONFIGURE, IMPOSSIBLE = "create", "grow", "configure", "impossible"


@dataclass(frozen=True)
class Topic:
    """A topic as it is, or as it must be. `config` holds Kafka's names and texts."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One step of a plan: `create`, `grow` (more partitions), `configure` (`topic` holds only what differs).

    `impossible` is no step: something differs that Kafka cannot change in place, or that would lose records.
    """

    action: str
    topic: Topic
    said: str


def partitions_for(events_per_s: float, event_bytes: float) -> int:
    """The partitions that a topic needs at its peak load, events counted before compression."""
    needed = events_per_s * event_bytes * CATCH_UP * SKEW / PARTITION_BYTES_PER_S
    return ceil(needed / SPREAD) * SPREAD


def plan(desired: Topic, existing: Topic | None) -> list[Change]:
    """The steps from `existing` (None: there is none) to `desired`; empty when nothing differs.

    Nothing is ever taken away: fewer partitions, another replication factor, and a setting that would delete
    records or keep fewer copies in sync come out as `impossible`.
    """
    if existing is None:
        said = f"{desired.partitions} partitions, replication factor {desired.replication_factor}"
        return [Change(CREATE, desired, said)]
    return [*_impossible(desired, existing), *_growth(desired, existing), *_drift(desired, existing)]


def durability_problems(topic: Topic) -> list[str]:
    """Say how a topic could lose what it acknowledged, or the time that judges it; empty when it cannot."""
    return [f"{what} is {found}: {why}" for what, found, why in _broken_rules(topic)]


def _broken_rules(topic: Topic) -> list[tuple[str, str, str]]:
    found = []
    if topic.replication_factor < MIN_REPLICATION:
        why = f"at least {MIN_REPLICATION} is wanted, so that no single broker holds the last copy"
        found.append(("replication factor", str(topic.replication_factor), why))
    for name, (holds, why) in _RULES.items():
        value = topic.config.get(name, "not known")
        if not holds(value):
            found.append((name, value, why))
    return found


def _number(least: int) -> Callable[[str], bool]:
    return lambda text: text.isdecimal() and int(text) >= least


def _is(wanted: str) -> Callable[[str], bool]:
    return lambda text: text == wanted


_NEVER_LOWERED = ("retention.ms", "retention.bytes", "min.insync.replicas")
# A rule holds for the text of a setting; unlimited retention is more than enough.
_RULES: dict[str, tuple[Callable[[str], bool], str]] = {
    "min.insync.replicas": (
        _number(MIN_IN_SYNC),
        f"at least {MIN_IN_SYNC} is wanted, so that an acknowledged record is on two brokers",
    ),
    "unclean.leader.election.enable": (
        _is("false"),
        "false is wanted: a leader that was not in sync forgets acknowledged records",
    ),
    "cleanup.policy": (_is("delete"), "delete is wanted: compaction takes records away"),
    "retention.ms": (
        lambda text: text == "-1" or _number(MIN_RETENTION_DAYS * DAY_MS)(text),
        f"at least {MIN_RETENTION_DAYS} days are wanted, the time to repair what reads it",
    ),
    "retention.bytes": (_is("-1"), "-1 is wanted: a flood of records must not push out younger ones"),
    "message.timestamp.type": (
        _is("LogAppendTime"),
        "LogAppendTime is wanted: the broker's clock chooses the contract, no client does",
    ),
}


def _impossible(desired: Topic, existing: Topic) -> list[Change]:
    found: list[tuple[str, object, object]] = []
    if desired.partitions < existing.partitions:
        found.append(("partitions", existing.partitions, desired.partitions))
    if desired.replication_factor != existing.replication_factor:
        found.append(("replication factor", existing.replication_factor, desired.replication_factor))
    found += [(key, existing.config[key], desired.config[key]) for key in _lowered(desired, existing)]
    return [
        Change(IMPOSSIBLE, desired, f"{what} is {now}, the settings say {wanted}")
        for what, now, wanted in found
    ]


def _lowered(desired: Topic, existing: Topic) -> list[str]:
    """List the settings that would let the broker delete records, or acknowledge what fewer copies hold."""
    pairs = ((key, desired.config.get(key), existing.config.get(key)) for key in _NEVER_LOWERED)
    return [key for key, wanted, now in pairs if wanted and now and _room(wanted) < _room(now)]


def _room(text: str) -> float:
    """A setting as a number, -1 as no limit; one that is not known limits all."""
    return inf if text == "-1" else float(text) if text.isdecimal() else 0.0


def _growth(desired: Topic, existing: Topic) -> list[Change]:
    if desired.partitions <= existing.partitions:
        return []
    return [Change(GROW, desired, f"partitions {existing.partitions} -> {desired.partitions}")]


def _drift(desired: Topic, existing: Topic) -> list[Change]:
    lowered = _lowered(desired, existing)
    drift = {
        key: value
        for key, value in desired.config.items()
        if existing.config.get(key) != value and key not in lowered
    }
    if not drift:
        return []
    said = ", ".join(f"{key} {existing.config.get(key)} -> {value}" for key, value in drift.items())
    return [Change(CONFIGURE, replace(desired, config=drift), said)]
