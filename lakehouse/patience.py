"""How long the publish protocol insists: pauses that double, and errors that are no passing ones.

Belongs here: waiting and giving up. Does not: what is repeated (`publish.py`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import structlog

from lakehouse.errors import OutcomeUnknown

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long a publish insists, in seconds and attempts; and how long it lets a backfill pass.

    One that takes turns asks for one after `losses_before_turn` lost attempts.
    """

    resolve_seconds: float = 300.0
    first_pause: float = 0.2
    longest_pause: float = 10.0
    attempts: int = 8
    failed_stages: int = 3
    turn_seconds: float = 20.0
    losses_before_turn: int = 1


DEFAULT = Patience()


class Waiting:
    """Pauses that double, until patience ends."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._pause = patience.first_pause
        self._deadline = time.monotonic() + patience.resolve_seconds

    def pause(self, doing: str, error: BaseException) -> None:
        if time.monotonic() + self._pause > self._deadline:
            raise OutcomeUnknown(
                f"{doing}: no answer within {self._patience.resolve_seconds:g} s, last {error}",
                "see whether the catalog is up: `paywave status`; then start again, nothing is lost",
            ) from error
        time.sleep(self._pause)
        self._pause = min(self._pause * 2, self._patience.longest_pause)


class Failures:
    """Counts attempts whose staging failed; too many, and the error is no passing one."""

    def __init__(self, patience: Patience) -> None:
        self._left = patience.failed_stages
        self._waiting = Waiting(patience)

    def record(self, table: str, error: Exception) -> None:
        self._left -= 1
        if self._left <= 0:
            raise error
        _log.warning("staging failed, building again", table=table, error=str(error)[:300])
        self._waiting.pause(f"staging for {table}", error)
