"""What commands share: settings and connections, made once and handed to the rooms as plain values.

Belongs here: composing `config` with the other rooms. Does not: any command.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

from pyiceberg.catalog.rest import RestCatalog

from config.settings import Settings
from lakehouse.catalog import connect


def catalog_of(settings: Settings) -> RestCatalog:
    """Connect to the catalog that the settings name."""
    return connect(settings.catalog_properties())


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Call `stop` on SIGTERM and SIGINT: the batch at hand is finished first."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
