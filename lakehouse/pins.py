"""Pins: tags that keep a table's present snapshot, whatever expires, until they are taken away.

Belongs here: setting and removing one, surely. Does not: why one is set (`hold_log.py`), tags that move
(`publish.py`), tags that ask for a turn (`right_of_way.py`).
"""

from __future__ import annotations

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.update import AssertRefSnapshotId, AssertTableUUID, RemoveSnapshotRefUpdate

from lakehouse.errors import LostRace
from lakehouse.refs import read_head, tag_to

_ATTEMPTS = 5


def pin(catalog: RestCatalog, table: str, tag: str) -> int:
    """Set a tag at main where it is not set yet. Returns the snapshot that it keeps.

    Looked for again after it was set: expiry may have chosen the snapshot a moment before (ADR 0024). Raises
    `LostRace` if it does not stay.
    """
    for _ in range(_ATTEMPTS):
        head = read_head(catalog, table)
        ref = head.table.metadata.refs.get(tag)
        if ref is not None:
            return ref.snapshot_id
        requirements = (
            AssertTableUUID(uuid=head.table.metadata.table_uuid),
            AssertRefSnapshotId(ref=tag, snapshot_id=None),
        )
        try:
            catalog.commit_table(head.table, requirements, (tag_to(tag, head.snapshot.snapshot_id),))
        except CommitFailedException:
            continue
    raise LostRace(f"table {table}: the tag {tag} could not be set", "start again; nothing was lost")


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
