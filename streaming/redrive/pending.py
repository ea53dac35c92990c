"""Redrives that Kafka holds already and quarantine does not know of yet: of a run before, or one beside.

Belongs here: finding them. Does not: sending (`send.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import cast

from confluent_kafka import Message as Record

from lakehouse.fold import Coordinates
from lakehouse.offsets import OffsetVector
from lakehouse.redrive_mark import Mark, read_mark
from streaming.topic_state import inspect_topic
from streaming.topic_tail import place_of, read_on


def on_their_way(kafka: Mapping[str, str], topic: str, consumed: OffsetVector) -> frozenset[Coordinates]:
    """Find the records that were sent again, and whose row in quarantine cannot say so yet.

    Reads the topic from where quarantine stands to its end: seconds of it, where the jobs keep up.

    Raises:
        StreamingError: there is no such topic, or Kafka does not answer.
    """
    state = inspect_topic(kafka, topic)
    start = dict(consumed.topics.get(state.topic_id, {}))
    marks = (_mark(record, state.topic_id) for record in read_on(kafka, state, start))
    return frozenset(mark.of for mark in marks if mark is not None and not mark.has_more)


def _mark(record: Record, topic_id: str) -> Mark | None:
    said = cast(Sequence[tuple[str, bytes | None]], record.headers() or ())
    headers = [{"key": name, "value": value} for name, value in said]
    taken_at = datetime.fromtimestamp(record.timestamp()[1] / 1000, UTC)
    return read_mark(headers, Coordinates(topic_id, *place_of(record)), taken_at)
