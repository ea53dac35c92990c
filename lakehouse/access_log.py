"""The access trail: what a row of it says, appending one, reading and verifying them.

Belongs here: that. Does not: the table and its chain (`chained_ledger.py`, `chain.py`), which commands are
recorded (`cli/trail.py`).

Each append's stamp says which row is the last one then. So a row costs no read of the table, and rows that
were cut off its end are missed. What the snapshots say is kept as long as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog

from lakehouse.chain import Break, Follower, Tail
from lakehouse.chained_ledger import ChainedLedger, stamped_tails
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


class Verified(NamedTuple):
    """How many rows there are, the last one, and the first that is not right; None: all are."""

    rows: int
    last: Tail
    broken: Break | None


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

    def entries(self, after: int = 0) -> list[Entry]:
        """Read the rows behind a number, in their order; none where there is no trail yet."""
        return [Entry(**row) for row in self._ledger.rows(after=after)]

    def verify(self, known: Iterable[Tail] = ()) -> Verified:
        """Hold all rows to the chain, to what the kept snapshots say, and to tails that were known before."""
        table = self._ledger.table()
        rows = [] if table is None else self._ledger.rows(table)
        follower = Follower([*known, *(() if table is None else stamped_tails(table))])
        breaks = [*follower.follow(rows), *follower.end()]
        return Verified(len(rows), follower.tail, breaks[0] if breaks else None)
