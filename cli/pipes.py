"""A command that Dagster launched tells it what comes out, as it tells people: one script serves both.

Belongs here: Dagster Pipes' side in the command's process, and ending with whoever launched it. Does not:
what is told (`cli/output.py`), what Dagster makes of it (`assets/work.py`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from local.parent import end_with

if TYPE_CHECKING:
    from dagster_pipes import PipesContext

_LAUNCHED = "DAGSTER_PIPES_CONTEXT"
_has_told = False


@contextmanager
def told_to_dagster() -> Iterator[None]:
    """Open Pipes for a command that Dagster launched; do nothing for one that a person did."""
    if _LAUNCHED not in os.environ:
        yield
        return
    from dagster_pipes import open_dagster_pipes

    # Nobody would wait for its result, and the run may be launched again: two would get in each other's way.
    end_with(os.getppid())
    with open_dagster_pipes():
        yield


def tell_result(value: Mapping[str, Any]) -> None:
    """Hand the command's result over."""
    _tell({"result": json.loads(json.dumps(value, default=str))})


def tell_code(code: int) -> int:
    """Hand the exit code over, and return the one to exit with.

    A command that has said its result, or why it failed, ends well for Dagster, or that would be lost; what
    asked for it is told the code too.
    """
    if not _has_told:
        return code
    _tell({"code": code})
    return 0


def tell_progress(said: str) -> None:
    """Say how far it is."""
    if (pipes := _pipes()) is not None:
        pipes.log.info(said)


def tell_failure(said: str) -> None:
    """Say why it failed: without this only the exit code is known."""
    if (pipes := _pipes()) is not None:
        pipes.log.error(said)
    _tell({"failure": said})


def _tell(message: Mapping[str, Any]) -> None:
    global _has_told
    if (pipes := _pipes()) is not None:
        pipes.report_custom_message(message)
        _has_told = True


def _pipes() -> PipesContext | None:
    if _LAUNCHED not in os.environ:
        return None
    from dagster_pipes import PipesContext

    return PipesContext.get() if PipesContext.is_initialized() else None
