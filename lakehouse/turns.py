"""Taking turns and cleaning up: how maintenance gives way to live writers, and how stages left behind go.

Belongs here: the tag `hold` as maintenance sees it, and the sweep of abandoned branches.
Does not: setting and clearing it (`right_of_way.py`), or when (`publish.py`).
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from pyiceberg.catalog.rest import RestCatalog

from lakehouse.publish import STAGE_PREFIX, drop_branch
from lakehouse.right_of_way import HOLD_TAG

HONOURED_SECONDS = 600.0


def wait_for_turn(
    catalog: RestCatalog, table: str, honoured: float = HONOURED_SECONDS, poll: float = 1.0
) -> bool:
    """Wait while a live writer holds the table, at most `honoured` seconds.

    Returns whether the hold was gone. Correctness never depends on it, only the live writer's progress does.
    """
    deadline = time.monotonic() + honoured
    while HOLD_TAG in catalog.load_table(table).metadata.refs:
        if time.monotonic() >= deadline:
            return False
        time.sleep(poll)
    return True


def drop_abandoned(catalog: RestCatalog, table: str, writer: str, older_than: float) -> list[str]:
    """Drop the branches that `writer` staged more than `older_than` seconds ago and never published.

    Owner and age are in the branch's name. A writer that is still at work on such a branch loses nothing but
    the attempt: its swap does not need the branch, and its rows were never visible. Returns what was dropped.
    """
    loaded = catalog.load_table(table)
    oldest = (time.time() - older_than) * 1000
    staged = {branch: _staged_at(branch, re.escape(writer)) for branch in loaded.metadata.refs}
    abandoned = [branch for branch, at in staged.items() if at is not None and at < oldest]
    for branch in abandoned:
        drop_branch(catalog, loaded, branch)
    return abandoned


def opened_at(branch: str) -> datetime | None:
    """Read when a stage was opened, which is before its first file was written; None: it is no stage."""
    staged_at = _staged_at(branch, "[a-zA-Z0-9]+")
    return None if staged_at is None else datetime.fromtimestamp(staged_at / 1000, UTC)


def _staged_at(branch: str, writer: str) -> int | None:
    """Read when the writer (a pattern) staged a branch, in milliseconds; None for any other branch."""
    found = re.fullmatch(rf"{STAGE_PREFIX}{writer}_(\d+)_[0-9a-f]+", branch)
    return int(found[1]) if found else None
