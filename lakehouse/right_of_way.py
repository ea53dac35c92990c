"""Who goes first where two writers keep meeting: tags on the table, each honoured for a bounded time.

Belongs here: setting, seeing and clearing them. Does not: when a writer asks for one (`publish.py`).

`hold` is set by a writer that consumes a source: maintenance and backfills wait (`turns.py`). `turn` is set
by a backfill, whose attempts take longer than the live job's pause between two batches, so that it would
never be first: the live job lets it pass. Correctness depends on neither, only progress does.
"""

from __future__ import annotations

import time

import structlog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from pyiceberg.table.update import AssertRefSnapshotId, AssertTableUUID, RemoveSnapshotRefUpdate

from lakehouse.refs import MAIN, snapshot_of, tag_to

HOLD_TAG = "hold"
TURN_TAG = "turn"
_POLL_SECONDS = 0.5
_log = structlog.get_logger(__name__)


def ask(catalog: RestCatalog, table: Table, tag: str) -> None:
    """Set a tag where it is not set yet; that it could not be set is no harm."""
    main = snapshot_of(table.metadata, MAIN)
    if main is None or tag in table.metadata.refs:
        return
    requirements = (
        AssertTableUUID(uuid=table.metadata.table_uuid),
        AssertRefSnapshotId(ref=tag, snapshot_id=None),
    )
    try:
        catalog.commit_table(table, requirements, (tag_to(tag, main.snapshot_id),))
    except Exception as error:
        _log.warning("tag not set", tag=tag, error=type(error).__name__)


def release(catalog: RestCatalog, table: Table, tag: str) -> None:
    """Clear a tag as it is in `table`; one that was set anew meanwhile stays."""
    ref = table.metadata.refs.get(tag)
    if ref is None:
        return
    requirements = (
        AssertTableUUID(uuid=table.metadata.table_uuid),
        AssertRefSnapshotId(ref=tag, snapshot_id=ref.snapshot_id),
    )
    try:
        catalog.commit_table(table, requirements, (RemoveSnapshotRefUpdate(ref_name=tag),))
    except Exception as error:
        _log.warning("tag not cleared", tag=tag, error=type(error).__name__)


def let_pass(catalog: RestCatalog, table: Table, name: str, seconds: float) -> bool:
    """Wait while somebody has the turn, at most so long; then clear the tag, as its owner may be dead.

    Returns whether there was anything to wait for.
    """
    if TURN_TAG not in table.metadata.refs:
        return False
    deadline = time.monotonic() + seconds
    while TURN_TAG in (loaded := catalog.load_table(name)).metadata.refs:
        if time.monotonic() >= deadline:
            release(catalog, loaded, TURN_TAG)
            break
        time.sleep(_POLL_SECONDS)
    return True
