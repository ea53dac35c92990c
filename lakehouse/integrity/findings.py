"""What a look at raw's files has found, and whether that stands: expiry may remove files while one looks.

Belongs here: collecting. Does not: judging (`verdict.py`).
"""

from __future__ import annotations

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table

from lakehouse.definitions import RAW
from lakehouse.integrity.inventory import wanted_files
from lakehouse.integrity.verdict import UNREADABLE, Finding


class Findings:
    """Findings by path, the first of each."""

    def __init__(self, looked_at: Table) -> None:
        self._looked_at = {snapshot.snapshot_id for snapshot in looked_at.metadata.snapshots}
        self._found: dict[str, Finding] = {}
        self._unread: dict[str, Finding] = {}

    def add(self, finding: Finding) -> None:
        """Note what is wrong with a file."""
        self._found.setdefault(finding.path, finding)

    def unreadable(self, path: str, error: Exception) -> None:
        """Note metadata that cannot be read; what its bytes say comes first, where that is noted too."""
        said = f"{type(error).__name__}: what only it lists was not looked at"
        self._unread[path] = Finding(path, "metadata", UNREADABLE, said)

    def standing(self, catalog: RestCatalog) -> tuple[Finding, ...]:
        """Return what is still so: files that no retained snapshot needs any more are left out."""
        found = self._unread | self._found
        if not found:
            return ()
        table = catalog.load_table(RAW)
        if self._looked_at <= {snapshot.snapshot_id for snapshot in table.metadata.snapshots}:
            needed = set(found)  # nothing has expired since
        else:
            needed = {file.path for file in wanted_files(table, lambda *_: None) if file.path in found}
        return tuple(found[path] for path in sorted(needed))
