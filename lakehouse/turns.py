"""Taking turns and cleaning up: how maintenance gives way to live writers, and how stages left behind go.

Belongs here: the tag `hold` as maintenance sees it, and the sweep of abandoned branches.
Does not: the publish protocol, which sets and clears `hold` (`publish.py`).
"""

from __future__ import annotations

import time

from pyiceberg.catalog.rest import RestCatalog

from lakehouse.publish import STAGE_PREFIX, drop_branch
from lakehouse.refs import HOLD_TAG

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
    abandoned = [b for b in loaded.metadata.refs if _is_of(b, writer) and _staged_at(b) < oldest]
    for branch in abandoned:
        drop_branch(catalog, loaded, branch)
    return abandoned


def _is_of(branch: str, writer: str) -> bool:
    return branch.startswith(f"{STAGE_PREFIX}{writer}_")


def _staged_at(branch: str) -> int:
    return int(branch.split("_")[2])
