"""The ledger of legal holds, and the tags that keep what tables held when one was placed.

Belongs here: placing, releasing, reading. Does not: what a hold covers (`holds.py`), what it keeps from being
dropped (`maintenance/retention.py`).

The tags come before the row, and go after it: a drop that did not see the row yet frees no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table

from lakehouse.chained_ledger import ChainedLedger, Row
from lakehouse.definitions import LEGAL_HOLDS, PAYMENTS, QUARANTINE, RAW, TRANSACTIONS, VERSIONS
from lakehouse.errors import HoldRefused
from lakehouse.holds import PLACED, RELEASED, TAG_PREFIX, Hold, Scope, check_new, name_of, standing
from lakehouse.pins import pin, unpin

WRITER = "holds"
# Raw can tell everything again; the others are evidence of what readers saw.
PINNED = (RAW, VERSIONS, PAYMENTS, TRANSACTIONS, QUARANTINE)
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


class HoldLog:
    """The holds of one lake."""

    def __init__(self, catalog: RestCatalog) -> None:
        self._catalog = catalog
        self._ledger = ChainedLedger(catalog, LEGAL_HOLDS, WRITER)

    def history(self) -> list[Row]:
        """Read every row, in order: what was placed and released, why and by whose leave.

        Raises `HoldRefused` where they are not what was written: then nobody can tell which holds stand.
        """
        found: list[Row] = []
        if (broken := self._ledger.verify(each=found.extend).broken) is not None:
            raise HoldRefused(
                f"table {LEGAL_HOLDS}, {broken.what} at row {broken.seq}: {broken.said}",
                "nothing is dropped, erased, placed or released until a person has seen what happened: bring "
                "the table back to the snapshot that has all rows, or settle what it held",
            )
        return found

    def standing(self) -> tuple[Hold, ...]:
        """Read the holds that stand; none in a lake from before there were holds. Raises `HoldRefused`."""
        return standing(self.history())

    def in_force(self) -> tuple[Hold, ...]:
        """Read the holds that stand, to drop or erase by: tags must not speak of another one.

        Raises `HoldRefused` where the rows are not what was written, or where a tag is left of a hold
        that was neither placed nor released: a table that was dropped tells of none.
        """
        rows = self.history()
        known = {row["name"] for row in rows}
        orphans = sorted(f"{tag} of {table}" for table, tag in self._tags() if name_of(tag) not in known)
        if orphans:
            raise HoldRefused(
                f"table {LEGAL_HOLDS} knows no hold of the tag {', '.join(orphans)}: it lost its row, "
                "or whoever placed it died before writing it down",
                "place it again under that name (`paywave retention hold`); until then nothing is dropped or "
                "erased",
            )
        return standing(rows)

    def _tags(self) -> Iterator[tuple[str, str]]:
        for table in PINNED:
            if self._catalog.table_exists(table):
                refs = self._catalog.load_table(table).metadata.refs
                yield from ((table, ref) for ref in refs if ref.startswith(TAG_PREFIX))

    def pins(self, hold: Hold) -> Mapping[str, int]:
        """Look up the snapshots that a hold's tags keep, by table."""
        found = {}
        for name in PINNED:
            if self._catalog.table_exists(name):
                ref = self._catalog.load_table(name).metadata.refs.get(hold.tag)
                if ref is not None:
                    found[name] = ref.snapshot_id
        return found

    def check(self, name: str, scope: Scope) -> None:
        """Check that a hold can be placed. Raises `HoldRefused`."""
        check_new(name, scope, self.history())

    def place(self, name: str, scope: Scope, reason: str, approver: str, actor: str) -> Hold:
        """Place a hold: tag what the tables hold now, then write it down.

        Placing one that stands with this very scope again only sets tags that are missing. Raises
        `HoldRefused`, `PublishError`.
        """
        self._ledger.prepare()
        known = next((h for h in self.standing() if h.name == name and h.scope == scope), None)
        if known is None:
            check_new(name, scope, self.history())
        with _tracer.start_as_current_span("hold.place", attributes={"hold": name}):
            for table in PINNED:
                if self._catalog.table_exists(table):
                    pin(self._catalog, table, TAG_PREFIX + name)
            if known is not None:
                return known
            row = _row(name, PLACED, scope, reason, approver, actor)

            def choose(ledger: ChainedLedger, table: Table) -> list[Row]:
                check_new(name, scope, ledger.rows(table))
                return [row]

            (made,) = standing(self._ledger.append(choose))
        _log.warning("legal hold placed", hold=name, approver=approver)
        return made

    def release(self, name: str, reason: str, approver: str, actor: str) -> Hold:
        """Release a hold: write it down, then remove its tags. Of one released before, tags left are removed.

        Raises `HoldRefused` for a name that no hold has, `PublishError`.
        """
        self._ledger.prepare()
        hold = self.find(name)
        with _tracer.start_as_current_span("hold.release", attributes={"hold": name}):
            row = _row(name, RELEASED, hold.scope, reason, approver, actor)

            def choose(ledger: ChainedLedger, table: Table) -> list[Row]:
                return [row] if any(h.name == name for h in standing(ledger.rows(table))) else []

            released = self._ledger.append(choose)
            for table in PINNED:
                if self._catalog.table_exists(table):
                    unpin(self._catalog, table, hold.tag)
        if released:
            _log.warning("legal hold released", hold=name, approver=approver)
        return hold

    def find(self, name: str) -> Hold:
        """Find a hold by its name, a released one too. Raises `HoldRefused`, listing those there are."""
        rows = self.history()
        placed = [row for row in rows if row["name"] == name and row["event"] == PLACED]
        if not placed:
            there = ", ".join(sorted({row["name"] for row in rows})) or "none"
            raise HoldRefused(f"there is no hold {name}", f"there are: {there}")
        return standing(placed)[0]


def _row(name: str, event: str, scope: Scope, reason: str, approver: str, actor: str) -> dict[str, Any]:
    return {
        "name": name,
        "event": event,
        "at": datetime.now(UTC),
        "account_id": scope.account_id,
        "starts": scope.starts,
        "ends": scope.ends,
        "reason": reason,
        "approver": approver,
        "actor": actor,
    }
