"""Recording what commands do in the access trail: before a result is shown, before anything is changed.

Belongs here: `recorded`, which commands wrap their work in. Does not: the trail itself
(`lakehouse/access_log.py`), showing it (`commands/trail.py`).

It fails closed. A command that must leave a trace does nothing, or shows nothing, if the trail cannot be
written: whoever could keep the catalog from answering could else read and drop unseen.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from pyiceberg.catalog.rest import RestCatalog

from config.settings import Settings
from lakehouse.access_log import Access, AccessLog
from lakehouse.chain import Tail
from lakehouse.errors import TrailUnwritable
from lakehouse.masking import parameters_of, plain
from lakehouse.whole_file import replace_file

_SEEN = "trail/last-seen.json"
_HINT = "`paywave trail verify` names it; when that is settled, keep trail/last-seen.json elsewhere"
_log = structlog.get_logger(__name__)


@dataclass
class Recording:
    """One access while it goes on. What came out, and of what, may be said in it, e.g. how many rows."""

    target: str
    access_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    result: str = ""


def who_runs() -> str:
    """Name who runs this process: user and machine, and Dagster where it launched it."""
    by = " by dagster" if "DAGSTER_PIPES_CONTEXT" in os.environ else ""
    return f"{getpass.getuser()}@{socket.gethostname()}{by}"


@contextmanager
def recorded(
    settings: Settings,
    catalog: RestCatalog,
    action: str,
    target: str = "",
    parameters: Mapping[str, Any] | None = None,
    *,
    announced: bool = True,
) -> Iterator[Recording]:
    """Record the work of the block: that it begins, then how it ended, done or failed.

    What is `announced` is recorded before it begins, and not begun otherwise. What only reads need not be: it
    is recorded once, with its end; show its result after the block.

    Raises TrailUnwritable: the trail cannot be written. Where the work was announced, its begin stands there.
    """
    recording = Recording(target)

    def record(result: str) -> None:
        access = Access(
            datetime.now(UTC),
            who_runs(),
            action,
            plain(recording.target),
            parameters_of(parameters or {}),
            result,
            recording.access_id,
        )
        _append(settings, catalog, access)

    if announced:
        record("begun")
    try:
        yield recording
    except BaseException as error:
        try:
            record(f"failed: {type(error).__name__}")  # its message may quote what must not stand there
        except TrailUnwritable as unwritable:  # what it failed of is the news
            _log.error("failure not recorded", action=action, error=str(unwritable))
        raise
    record(f"done: {plain(recording.result)}" if recording.result else "done")


def last_seen(settings: Settings) -> list[Tail]:
    """Read which row was the trail's last one when this home recorded last; none if it never did."""
    try:
        seq, link = json.loads((settings.home / _SEEN).read_text("utf-8"))
    except FileNotFoundError:
        return []
    return [Tail(int(seq), str(link))]


def _append(settings: Settings, catalog: RestCatalog, access: Access) -> None:
    seen = last_seen(settings)
    log = AccessLog(catalog)
    try:
        entry = log.append(access)
        lost = log.lost(seen)
    except Exception as error:
        raise TrailUnwritable(
            f"{access.action}: the access trail cannot be written ({type(error).__name__}: {error})",
            "nothing is begun or shown unrecorded: see whether the catalog is up: `paywave status`",
        ) from error
    if lost is not None:  # what was seen is the proof: it stays
        _log.error("access trail was cut off or written anew", row=str(lost), hint=_HINT)
    elif all(tail.seq < entry.seq for tail in seen):
        _remember(settings.home / _SEEN, Tail(entry.seq, entry.link))


def _remember(path: Path, tail: Tail) -> None:
    """Keep the last row beside the catalog: whoever cuts rows off there does not reach this file."""
    replace_file(path, json.dumps(list(tail)))
