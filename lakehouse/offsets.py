"""Progress as an offset vector: how far a table has consumed each partition of each topic. Pure.

Belongs here: arithmetic on vectors. Does not: where they are stored (`publish.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Range(NamedTuple):
    """Offsets `start` (inclusive) to `end` (exclusive) of one partition of one topic, by the topic's UUID."""

    topic_id: str
    partition: int
    start: int
    end: int


@dataclass(frozen=True)
class OffsetVector:
    """The next offset to consume, per topic UUID and partition; what is missing stands at 0."""

    topics: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> OffsetVector:
        """Read what `to_json` wrote. Raises ValueError for anything else."""
        topics = json.loads(text)
        try:
            return cls({t: {int(p): int(o) for p, o in parts.items()} for t, parts in topics.items()})
        except (AttributeError, TypeError) as error:
            raise ValueError(f"no offset vector: {text[:200]}") from error

    def to_json(self) -> str:
        """Render with sorted keys, so that equal vectors give equal text."""
        topics = {t: {str(p): o for p, o in sorted(parts.items())} for t, parts in self.topics.items()}
        return json.dumps(topics, sort_keys=True, separators=(",", ":"))

    def next_offset(self, topic_id: str, partition: int) -> int:
        """Return the next offset to consume."""
        return self.topics.get(topic_id, {}).get(partition, 0)

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        for topic_id, partitions in self.topics.items():
            for partition, offset in partitions.items():
                yield topic_id, partition, offset

    def advanced(self, topic_id: str, offsets: Mapping[int, int]) -> OffsetVector:
        """Return a vector with these next offsets of one topic set."""
        return OffsetVector({**self.topics, topic_id: {**self.topics.get(topic_id, {}), **offsets}})

    def covers(self, other: OffsetVector) -> bool:
        """Tell whether this vector has consumed all that `other` has."""
        return all(self.next_offset(topic, partition) >= offset for topic, partition, offset in other)

    def least(self, other: OffsetVector) -> OffsetVector:
        """Return the lower offset of both, per partition."""
        return self._merge(other, min)

    def greatest(self, other: OffsetVector) -> OffsetVector:
        """Return the higher offset of both, per partition."""
        return self._merge(other, max)

    def ranges_to(self, target: OffsetVector) -> list[Range]:
        """List what lies between this vector and `target`, partitions in order; empty ranges left out."""
        found = (Range(t, p, self.next_offset(t, p), end) for t, p, end in target)
        return sorted(r for r in found if r.start < r.end)

    def records_to(self, target: OffsetVector) -> int:
        """Count the records between this vector and `target` (offsets are dense on our topics)."""
        return sum(r.end - r.start for r in self.ranges_to(target))

    def part_way(self, target: OffsetVector, records: int) -> OffsetVector:
        """Return a vector about `records` (1 or more) on the way to `target`, or `target` if that is nearer.

        Each partition goes the same share of its way, rounded up, so that every step gets somewhere.
        """
        total = self.records_to(target)
        if total <= records:
            return self.greatest(target)
        reached = self
        for r in self.ranges_to(target):
            step = -(-(r.end - r.start) * records // total)
            reached = reached.advanced(r.topic_id, {r.partition: r.start + step})
        return reached

    def _merge(self, other: OffsetVector, choose: Callable[[int, int], int]) -> OffsetVector:
        merged: dict[str, dict[int, int]] = {}
        for topic, partition, _ in [*self, *other]:
            chosen = choose(self.next_offset(topic, partition), other.next_offset(topic, partition))
            merged.setdefault(topic, {})[partition] = chosen
        return OffsetVector(merged)
