"""Up to which Kafka time a reader of a topic has every record.

Belongs here: asking the cluster, and how far its answers can be trusted (docs/adr/0011-complete-to.md).
Does not: where the answer is kept (the stamps), what follows for event hours (`lakehouse/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from streaming.topic_state import TopicState, first_offsets_after

CLOCKS = timedelta(seconds=5)  # brokers and this machine agree to within this
# A record can be appended, hence have its time, and be seen only when all in-sync replicas have it. One that
# lags is out after `replica.lag.time.max.ms` (30 s), checked every half of that.
REPLICATION = timedelta(seconds=45)
# Each broker may be off by CLOCKS: a new leader can give a later record an earlier time than the old one did.
NEW_LEADER = 2 * CLOCKS
# How far to look back where the reader is not at the end; each step costs one request.
LADDER = tuple(
    timedelta(seconds=seconds) for seconds in (0, 15, 60, 5 * 60, 15 * 60, 3600, 3 * 3600, 12 * 3600)
)


def complete_to(
    kafka_properties: Mapping[str, str], state: TopicState, reached: Mapping[int, int]
) -> datetime | None:
    """Find a Kafka time up to which every record of the topic lies below the offsets `reached`.

    Args:
        state: the topic, as it was looked at after or while `reached` was read.
        reached: the next offset to read, per partition; what is missing stands at 0.

    Returns:
        The latest time on the ladder that holds, in whole milliseconds: seconds ago for a reader that has
        caught up. None where none holds (more than 12 hours behind), or where a partition has too few
        replicas in sync: records may then be hidden for any length of time.
    """
    allowance = settling(state)
    if allowance is None:
        return None
    margin = NEW_LEADER if state.replicas > 1 else timedelta(0)
    for back in LADDER:
        asked = _to_millisecond(state.asked_at - allowance - back)
        if is_complete(first_offsets_after(kafka_properties, state, asked), state.latest, reached):
            return asked - margin
    return None


def settling(state: TopicState) -> timedelta | None:
    """Tell how old a record can be before it is seen at the latest; None where there is no such limit."""
    if state.in_sync < min(2, state.replicas):
        return None
    return CLOCKS + REPLICATION if state.replicas > 1 else CLOCKS


def is_complete(
    first_after: Mapping[int, int | None], latest: Mapping[int, int], reached: Mapping[int, int]
) -> bool:
    """Tell whether each partition is read up to its first record after a time, or to its end without one."""
    ends = {p: latest[p] if first is None else first for p, first in first_after.items()}
    return all(reached.get(partition, 0) >= end for partition, end in ends.items())


def _to_millisecond(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)
