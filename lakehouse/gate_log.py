"""The gate log: read by pyiceberg, appended to by Spark, by the publish protocol.

Belongs here: the table's rows as events and back. Does not: what they come to (`gates.py`), when one is
written (`streaming/gates.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import structlog
from opentelemetry import metrics
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import SparkSession

from lakehouse import audit
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import BY_NAME, GATE_LOG
from lakehouse.errors import LakehouseError
from lakehouse.gates import GateEvent, GateState, Hold
from lakehouse.offsets import OffsetVector
from lakehouse.publish import Plan, Publisher, Stage
from lakehouse.refs import MAIN, Head, snapshot_of
from lakehouse.staging import append
from lakehouse.turns import drop_abandoned
from quality.policy import POLICY

WRITER = "gates"
_ABANDONED_SECONDS = 600.0
_KEY = BY_NAME[GATE_LOG].key
_COLUMNS = tuple(column.name for column in BY_NAME[GATE_LOG].columns)
_VECTORS = ("starts", "ends")
_log = structlog.get_logger(__name__)
_meter = metrics.get_meter(__name__)
_decided = _meter.create_counter("paywave.gate.decisions", unit="{decision}")
_standing = _meter.create_gauge("paywave.gate.standing", unit="{state}")
Choose = Callable[[GateState], list[GateEvent]]
"""Makes the events to append of what the log comes to; called again whenever another writer was first."""


class GateLog:
    """The log as one process sees it: read again only when it has changed."""

    def __init__(self, catalog: RestCatalog) -> None:
        self._catalog = catalog
        self._read_at: int | None = None
        self._events: tuple[GateEvent, ...] = ()
        self._state = GateState()

    def events(self) -> tuple[GateEvent, ...]:
        """Every event, in order. A lake from before there were gates has none."""
        try:
            self._read(self._catalog.load_table(GATE_LOG))
        except NoSuchTableError:
            return ()
        return self._events

    def state(self) -> GateState:
        """What the log comes to now; costs one request."""
        return self._state if self.events() else GateState()

    def append(self, spark: SparkSession, choose: Choose) -> list[GateEvent]:
        """Append what `choose` makes of the log as it is; all of it or, after an error, perhaps nothing.

        Returns what was appended. Raises `PublishError`.
        """
        chosen: list[GateEvent] = []

        def plan(head: Head) -> Plan | None:
            self._read(head.table)
            last, now = len(self._events), datetime.now(UTC)
            made = enumerate(choose(self._state), start=last + 1)
            chosen[:] = [replace(event, seq=seq, at=now) for seq, event in made]
            return _plan(spark, head, chosen) if chosen else None

        Publisher(self._catalog, WRITER).publish(GATE_LOG, plan)
        for event in chosen:
            _tell(event)
        return chosen

    def tidy(self) -> None:
        """Drop branches that a killed writer left behind. Raises `LakehouseError` where there is no log."""
        try:
            drop_abandoned(self._catalog, GATE_LOG, WRITER, _ABANDONED_SECONDS)
        except NoSuchTableError:
            raise LakehouseError(
                f"there is no table {GATE_LOG}, and no hold could be recorded",
                "run `paywave up`, which creates it",
            ) from None

    def _read(self, table: Table) -> None:
        main = snapshot_of(table.metadata, MAIN)
        if main is None or main.snapshot_id == self._read_at:
            return
        rows = table.scan(snapshot_id=main.snapshot_id).to_arrow().to_pylist()
        self._events = tuple(sorted((_event(row) for row in rows), key=lambda event: event.seq))
        self._state, self._read_at = GateState.of(self._events), main.snapshot_id
        for gate in POLICY:
            _standing.set(sum(e.gate == gate.name for e in self._state.standing), {"gate": gate.name})


def holds_of(catalog: RestCatalog) -> tuple[Hold, ...]:
    """Every hold there ever was: with raw and the contract they decide what is curated."""
    return GateLog(catalog).state().holds


def standing_holds(catalog: RestCatalog) -> tuple[Hold, ...]:
    """The holds that stand now: what they hold back is not to be redriven yet."""
    return tuple(hold for hold in holds_of(catalog) if hold.end is None)


def as_row(event: GateEvent) -> dict[str, Any]:
    """Render an event as a row of the table."""
    row = asdict(event) | {name: _json(getattr(event, name)) for name in _VECTORS}
    return {name: row[name] for name in _COLUMNS}


def _event(row: dict[str, Any]) -> GateEvent:
    vectors = {name: OffsetVector.from_json(row[name]) for name in _VECTORS if row[name] is not None}
    return GateEvent(**(row | dict.fromkeys(_VECTORS) | vectors))


def _json(vector: OffsetVector | None) -> str | None:
    return None if vector is None else vector.to_json()


def _plan(spark: SparkSession, head: Head, events: Iterable[GateEvent]) -> Plan:
    rows = [tuple(as_row(event).values()) for event in events]

    def write(stage: Stage) -> None:
        schema = spark.table(f"{CATALOG_NAME}.{GATE_LOG}").schema
        append(stage, spark.createDataFrame(rows, schema).coalesce(1))

    def check(table: Table, staged: Snapshot) -> None:
        added = audit.added_rows(table, staged, head.snapshot.snapshot_id, _KEY)
        audit.check_count(added.num_rows, len(rows), "rows staged", GATE_LOG)
        audit.check_unique(added, _KEY, GATE_LOG)

    return Plan(write, check)


def _tell(event: GateEvent) -> None:
    _decided.add(1, {"event": event.event, "gate": event.gate})
    _log.warning(
        "gate",
        change=event.event,
        gate=event.gate,
        table=event.table_name,
        source=event.source,
        measured=None if event.measured is None else str(event.measured),
        reason=event.reason,
        actor=event.actor,
    )
