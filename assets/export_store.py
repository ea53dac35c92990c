"""The store of exports, as the settings name it.

Belongs here: opening it, for commands and for the graph. Does not: what lies there (`lakehouse/exports/`),
keys to sign with (`cli/commands/audit.py`).
"""

from __future__ import annotations

from config.settings import Settings
from lakehouse.exports.store import FolderStore, Lock, S3Access, S3Store, store_at


def export_store(
    settings: Settings, place: str | None = None, *, locks: bool = False
) -> FolderStore | S3Store:
    """Open the store at a place; at audit.exports, or PAYWAVE_HOME/exports, where none is given.

    `locks`: what is written is locked as the settings say. Raises `ExportError` as `store_at` does.
    """
    ours, s3 = settings.audit, settings.s3
    access = S3Access(
        s3.endpoint,
        s3.region,
        s3.access_key.get_secret_value() if s3.access_key else None,
        s3.secret_key.get_secret_value() if s3.secret_key else None,
        s3.path_style,
    )
    lock = Lock(ours.object_lock, ours.retention_years) if locks else Lock()
    return store_at(place or ours.exports or str(settings.home / "exports"), access, lock)
