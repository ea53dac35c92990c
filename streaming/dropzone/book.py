"""The ledger as entries. Belongs here: entries to rows and back. Does not: deciding (`ledger.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from lakehouse.file_ledger import FileLedger
from streaming.dropzone.ledger import Entry, State, open_versions

Choose = Callable[[list[Entry]], Entry | None]


class Book:
    """What is written of files, and writing more of it."""

    def __init__(self, ledger: FileLedger) -> None:
        self._ledger = ledger

    def tidy(self) -> None:
        """Drop what killed dropzones left behind in the table."""
        self._ledger.tidy()

    def entries(self, partner: str, names: Iterable[str], digests: Iterable[str] = ()) -> list[Entry]:
        """All entries with one of these names or digests."""
        return [_entry(row) for row in self._ledger.read(partner, names, digests)]

    def open_versions(self, partner: str, digests: Sequence[str]) -> list[Entry]:
        """List the versions with one of these contents that were begun and not settled."""
        begun = {e.name for e in open_versions(self.entries(partner, [], digests))} if digests else set()
        return [e for e in open_versions(self.entries(partner, begun)) if e.digest in digests]

    def add(self, partner: str, names: Sequence[str], digests: Sequence[str], choose: Choose) -> Entry | None:
        """Add the entry that `choose` makes of the entries with these names or digests, if it makes one.

        It is chosen again whenever somebody else was first. Raises LakehouseError.
        """

        def rows(known: list[dict[str, Any]]) -> list[dict[str, Any]]:
            entry = choose([_entry(row) for row in known])
            return [] if entry is None else [asdict(entry)]

        added = self._ledger.change(partner, names, digests, rows)
        return _entry(added[0]) if added else None


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(**{**row, "state": State(row["state"])})
