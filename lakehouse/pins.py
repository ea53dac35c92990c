"""Pins: tags that keep a snapshot of a table, whatever expires, until they are taken away.

Belongs here: setting and removing one, surely. Does not: why one is set (`hold_log.py`, `exports/pins.py`,
`streaming/replay/`), tags that move (`publish.py`), tags that ask for a turn (`right_of_way.py`).
"""

from __future__ import annotations

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import CommitFailedException, RESTError
from pyiceberg.table import Table
from pyiceberg.table.update import AssertRefSnapshotId, AssertTableUUID, RemoveSnapshotRefUpdate

from lakehouse.errors import LostRace
from lakehouse.refs import read_head, tag_to

_ATTEMPTS = 5
_HINT = "start again; nothing was lost"


def pin(catalog: RestCatalog, table: str, tag: str, at: int | None = None) -> int:
    """Set a tag: at a snapshot, wherever it was before; or at main, where it is not set yet.

    Looked for again after it was set: expiry may have chosen the snapshot a moment before (ADR 0024), and an
    answer may have been lost. Returns the snapshot that it keeps. Raises `LostRace` if it does not stay, or
    if the snapshot is gone.
    """
    cause: Exception | None = None
    for _ in range(_ATTEMPTS):
        loaded, wanted = _wanted(catalog, table, at)
        ref = loaded.metadata.refs.get(tag)
        if ref is not None and at in (None, ref.snapshot_id):
            return ref.snapshot_id
        if loaded.metadata.snapshot_by_id(wanted) is None:
            raise LostRace(f"table {table}: snapshot {wanted} expired before the tag {tag} was set", _HINT)
        requirements = (
            AssertTableUUID(uuid=loaded.metadata.table_uuid),
            AssertRefSnapshotId(ref=tag, snapshot_id=None if ref is None else ref.snapshot_id),
        )
        try:
            catalog.commit_table(loaded, requirements, (tag_to(tag, wanted),))
        except (CommitFailedException, RESTError) as error:
            cause = error
    said = "it does not stay" if cause is None else f"{type(cause).__name__}: {cause}"
    raise LostRace(f"table {table}: the tag {tag} could not be set ({said})", _HINT) from cause


def unpin(catalog: RestCatalog, table: str, tag: str) -> bool:
    """Remove a tag. Returns whether there was one."""
    loaded = catalog.load_table(table)
    ref = loaded.metadata.refs.get(tag)
    if ref is None:
        return False
    requirements = (
        AssertTableUUID(uuid=loaded.metadata.table_uuid),
        AssertRefSnapshotId(ref=tag, snapshot_id=ref.snapshot_id),
    )
    catalog.commit_table(loaded, requirements, (RemoveSnapshotRefUpdate(ref_name=tag),))
    return True


def _wanted(catalog: RestCatalog, table: str, at: int | None) -> tuple[Table, int]:
    if at is not None:
        return catalog.load_table(table), at
    head = read_head(catalog, table)
    return head.table, head.snapshot.snapshot_id
