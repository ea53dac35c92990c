"""The access trail: its table, appended to without Spark, by the publish protocol; read and verified.

Belongs here: that. Does not: the chain (`access_chain.py`), which commands are recorded (`cli/trail.py`).

Each publish notes in its stamp which row is the last one then. So a row costs no read of the table, and
rows that were cut off its end are missed. What the snapshots say is kept as long as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import GreaterThan
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from lakehouse.access_chain import NO_ROWS, Access, Broken, Entry, Tail, chained, first_broken
from lakehouse.definitions import ACCESS_LOG, BY_NAME
from lakehouse.light_appending import plan_to_append_without_spark
from lakehouse.patience import Patience
from lakehouse.publish import Plan, Publisher
from lakehouse.refs import MAIN, Head, ancestry, snapshot_of, stamp_of
from lakehouse.tables import ensure_tables
from lakehouse.turns import drop_abandoned, opened_at

WRITER = "trail"
_NOTE = "trail-tail"
_ABANDONED_SECONDS = 600.0
_SCHEMA = schema_to_pyarrow(BY_NAME[ACCESS_LOG].schema(), include_field_ids=False)
# Many people may ask at once, and each loses only to one that got in; a catalog that is down is told soon.
PATIENT = Patience(resolve_seconds=60.0, attempts=64)
# pydantic hides its signature from the type checker
_above: Any = GreaterThan
_tracer = trace.get_tracer(__name__)


class Verified(NamedTuple):
    """How many rows there are, the last one, and the first that is not right; None: all are."""

    rows: int
    last: Tail
    broken: Broken | None


class AccessLog:
    """The trail of one catalog. Rows are only ever appended."""

    def __init__(self, catalog: RestCatalog, patience: Patience = PATIENT) -> None:
        self._catalog = catalog
        self._publisher = Publisher(catalog, WRITER, patience)

    def append(self, access: Access) -> Entry:
        """Append one access behind the last row, whoever wrote that. Returns the row.

        Raises PublishError, or what the catalog says: then nobody knows whether it is recorded, and what was
        to be recorded must not happen.
        """
        appended: list[Entry] = []

        def plan(head: Head) -> Plan:
            self._tidy(head)
            entry = chained(access, _tail_of(head.table))
            appended[:] = [entry]
            return self._plan(head, entry)

        with _tracer.start_as_current_span("record access", attributes={"action": access.action}):
            try:
                self._publisher.publish(ACCESS_LOG, plan)
            except NoSuchTableError:  # a lake from before there was a trail
                ensure_tables(self._catalog, 1, [BY_NAME[ACCESS_LOG]])
                self._publisher.publish(ACCESS_LOG, plan)
        return appended[0]

    def entries(self, after: int = 0) -> list[Entry]:
        """Read the rows behind a sequence, in their order; none where there is no trail yet."""
        try:
            table = self._catalog.load_table(ACCESS_LOG)
        except NoSuchTableError:
            return []
        return _rows(table, after)

    def verify(self, known: Sequence[Tail] = ()) -> Verified:
        """Hold all rows to the chain, to what the kept snapshots say, and to tails that were known before."""
        try:
            table = self._catalog.load_table(ACCESS_LOG)
        except NoSuchTableError:
            return Verified(0, NO_ROWS, first_broken((), known))
        rows = _rows(table, 0)
        last = Tail(rows[-1].sequence, rows[-1].hash) if rows else NO_ROWS
        return Verified(len(rows), last, first_broken(rows, [*known, *_noted(table.metadata)]))

    def _tidy(self, head: Head) -> None:
        """Drop branches that killed commands left behind, where there are some."""
        stages = map(opened_at, head.table.metadata.refs)
        oldest = datetime.now(UTC) - timedelta(seconds=_ABANDONED_SECONDS)
        if any(opened is not None and opened < oldest for opened in stages):
            drop_abandoned(self._catalog, ACCESS_LOG, WRITER, _ABANDONED_SECONDS)

    def _plan(self, head: Head, entry: Entry) -> Plan:
        rows = pa.Table.from_pylist([asdict(entry)], _SCHEMA)
        note = {_NOTE: json.dumps([entry.sequence, entry.hash])}
        return replace(plan_to_append_without_spark(self._catalog, head, rows), notes=note)


def _tail_of(table: Table) -> Tail:
    """Find the last row: as the newest snapshot says that speaks of it, else in the table."""
    newest = next(_noted(table.metadata), None)
    if newest is not None:
        return newest
    rows = _rows(table, 0)
    return Tail(rows[-1].sequence, rows[-1].hash) if rows else NO_ROWS


def _noted(metadata: TableMetadata) -> Iterator[Tail]:
    """Read what main's history says of the last rows, the newest first."""
    main = snapshot_of(metadata, MAIN)
    for snapshot in ancestry(metadata, main) if main is not None else ():
        stamp = stamp_of(snapshot)
        if stamp is not None and _NOTE in stamp.notes:
            sequence, value = json.loads(stamp.notes[_NOTE])
            yield Tail(int(sequence), str(value))


def _rows(table: Table, after: int) -> list[Entry]:
    main = snapshot_of(table.metadata, MAIN)
    assert main is not None  # tables are born with a snapshot
    rows = table.scan(_above("sequence", after), snapshot_id=main.snapshot_id).to_arrow().to_pylist()
    return sorted((Entry(**row) for row in rows), key=lambda entry: entry.sequence)
