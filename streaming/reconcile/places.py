"""Where in Kafka something was counted, and names of records. Belongs here: how both are written. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from quality.reconciliation import Break
from streaming.partitions import start_of


@dataclass
class Places:
    """Writes places and records by the topic's name, as far as rows have told it."""

    topics: dict[str, str] = field(default_factory=dict)

    def place(self, topic_id: str, partition: int, hour: int | None) -> dict[str, object]:
        """Name a Kafka partition and hour."""
        return {**self.partition(topic_id, partition), "hour": hour_text(hour)}

    def partition(self, topic_id: str, partition: int) -> dict[str, object]:
        """Name a Kafka partition; where no row tells the topic's name, by its id."""
        return {"topic": self.topics.get(topic_id, topic_id), "partition": partition}

    def record(self, what: str, topic_id: str, partition: int, offset: int, hour: int | None) -> Break:
        """Name a record that does not add up; earlier hours come first."""
        place = {name: str(value) for name, value in self.place(topic_id, partition, hour).items()}
        return Break((hour or 0, place["topic"], partition, offset), what, {**place, "offset": str(offset)})


def hour_text(hour: int | None) -> str:
    """Write an hour, counted from 1970-01-01 UTC."""
    return "unknown" if hour is None else f"{start_of(hour):%Y-%m-%dT%H:00Z}"
