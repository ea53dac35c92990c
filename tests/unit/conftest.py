"""Fixtures of the unit tests: nothing here starts a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mock_kafka import MockKafka


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    """A mock broker with the topic `payments.events`."""
    mock = MockKafka()
    yield mock
    mock.stop()
