"""The access trail: what a row of it says, appending one, reading and verifying them.

Belongs here: that. Does not: the table and its chain (`chained_ledger.py`, `chain.py`), which commands are
recorded (`cli/trail.py`).

Each append's stamp says which row is the last one then. So a row costs no read of the table, and rows that
were cut off its end are missed. What the snapshots say is kept as long as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog

from lakehouse.chain import Tail
from lakehouse.chained_ledger import ChainedLedger, Verified
from lakehouse.definitions import ACCESS_LOG
from lakehouse.patience import Patience

WRITER = "trail"
# Many people may ask at once, and each loses only to one that got in; a catalog that is down is told soon.
PATIENT = Patience(resolve_seconds=60.0, attempts=64)
_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True)
class Access:
    """One access, before it has a place in the chain. `result`: begun, done …, or failed …."""

    at: datetime
    actor: str
    action: str
    target: str
    parameters: str
    result: str
    access_id: str


@dataclass(frozen=True)
class Entry(Access):
    """One row of the trail: an access in its place."""

    seq: int
    link: str

    def as_json(self) -> dict[str, Any]:
        """Render for programs: times as text, parameters as an object."""
        told = {**asdict(self), "at": self.at.isoformat(), "parameters": json.loads(self.parameters)}
        seq, link = told.pop("seq"), told.pop("link")
        return {"sequence": seq, **told, "hash": link}


class AccessLog:
    """The trail of one catalog. Rows are only ever appended."""

    def __init__(self, catalog: RestCatalog, patience: Patience = PATIENT) -> None:
        self._ledger = ChainedLedger(catalog, ACCESS_LOG, WRITER, patience)

    def append(self, access: Access) -> Entry:
        """Append one access behind the last row, whoever wrote that. Returns the row.

        Raises PublishError, or what the catalog says: then nobody knows whether it is recorded, and what was
        to be recorded must not happen.
        """
        with _tracer.start_as_current_span("record access", attributes={"action": access.action}):
            (row,) = self._ledger.append(lambda _ledger, _table: [asdict(access)])
        return Entry(**row)

    def entries(self, action: str | None = None) -> Iterator[Entry]:
        """Read the rows in their order, a few at a time: all, or those of one action."""
        table = self._ledger.table()
        for rows in () if table is None else self._ledger.in_order(table):
            yield from (Entry(**row) for row in rows if action in (None, row["action"]))

    def lost(self, known: Iterable[Tail] = ()) -> Tail | None:
        """Find a last row that was seen once and is not in the trail any more: cut off, or written anew."""
        known, table = list(known), self._ledger.table()
        return next(iter(known), None) if table is None else self._ledger.lost(table, known)

    def verify(self, known: Iterable[Tail] = ()) -> Verified:
        """Hold all rows to the chain, to what the kept snapshots say, and to tails that were known before."""
        return self._ledger.verify(known)
