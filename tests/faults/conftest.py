"""Fixtures of the tests that kill real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline import Pipeline
from tests.services import Services


@pytest.fixture
def services(pipeline: Pipeline, tmp_path: Path) -> Iterator[Services]:
    """Both jobs, running; nothing of them is left afterwards."""
    found = Services(pipeline, tmp_path)
    try:
        found.start("raw", "curated")
        yield found
    finally:
        found.end()
