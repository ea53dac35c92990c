"""The dropzone before three brokers, of which one hangs: records are in the leader's log, not to be read."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from cli.context import catalog_of
from config.settings import load_settings
from lakehouse.definitions import BY_NAME, PARTNER_FILES
from lakehouse.tables import ensure_tables
from local.stack import down, find, up
from streaming.dropzone.outbox import Outbox
from streaming.dropzone.watch import Dropzone
from streaming.errors import StreamingError
from streaming.topics import ensure_topics, payments_topic
from tests.dropzones import Place, rows_of

pytestmark = [
    pytest.mark.faults,
    pytest.mark.integration,
    pytest.mark.long,
]

TOPIC, ROWS = "files", 2000


def test_while_a_follower_hangs_nothing_is_sent_a_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        up(load_settings(home=tmp_path), 3)
        place = _place(tmp_path)
        place.put("day.csv", rows_of(range(ROWS), bad=lambda n: n % 2 == 0))
        follower, put, left = _follower(place), Outbox.put, [ROWS // 2]

        def put_and_hang(self: Outbox, *what: Any) -> None:
            put(self, *what)
            left[0] -= 1
            if left[0] == 0:
                os.kill(follower, signal.SIGSTOP)

        monkeypatch.setattr(Outbox, "put", put_and_hang)
        try:
            _read(place.zone())  # goes on without that broker once the others have noticed
        finally:
            os.kill(follower, signal.SIGCONT)
        assert place.by_line() == {("day.csv", line): 1 for line in range(2, ROWS + 2)}
    finally:
        down(load_settings(home=tmp_path))


def _place(home: Path) -> Place:
    settings = load_settings(home=home)
    catalog = catalog_of(settings)
    ensure_topics(settings.kafka_properties(), payments_topic(TOPIC, 1, 3, 2, 1))
    ensure_tables(catalog, 4, [BY_NAME[PARTNER_FILES]])
    return Place(settings, catalog, TOPIC, home)


def _follower(place: Place) -> int:
    """Process id of a broker that does not lead the topic's partition."""
    topics = AdminClient(place.stack.kafka_properties()).list_topics(TOPIC, timeout=30).topics
    broker = find(place.stack.home, f"kafka-{topics[TOPIC].partitions[0].leader % 3 + 1}")
    assert broker is not None
    return broker.pid


def _read(zone: Dropzone) -> None:
    """Look again and again, at once, until the file is done."""
    deadline, done = time.monotonic() + 180, 0
    while not done:
        assert time.monotonic() < deadline
        try:
            done = zone.scan()["done"]
        except StreamingError:
            continue
