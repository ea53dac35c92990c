"""Deriving the files of an export from its pinned snapshots, hour by hour.

Belongs here: the order of the steps, what each reads and writes. Does not: resuming, signing, chaining
(`export.py`), SQL (`engine.py`), filters (`selection.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.expressions import AlwaysFalse, And, BooleanExpression

from lakehouse.definitions import BY_NAME, PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.errors import ExportError
from lakehouse.exports.engine import Engine, engine
from lakehouse.exports.journal import Part
from lakehouse.exports.manifest import Tally
from lakehouse.exports.parts import write_part
from lakehouse.exports.pins import EXPORTED, Pins, contract_at, rows_at, snapshot_in
from lakehouse.exports.request import Request
from lakehouse.exports.selection import (
    Planned,
    Source,
    few,
    name_of,
    payments_wanted,
    quarantine_wanted,
    records_wanted,
    totals,
    transaction_wanted,
    versions_wanted,
)
from lakehouse.investigations.find import in_groups
from lakehouse.investigations.lookup import Lookup
from lakehouse.offsets import OffsetVector
from lakehouse.refs import newest_stamp, retired_at, total_of
from lakehouse.totals import told_by_no_row

_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True)
class Estimate:
    """What an export comes to at most, by metadata: rows and files read per table, bytes in all."""

    rows: dict[str, int]
    files: dict[str, int]
    bytes: int

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {"rows": self.rows, "files": self.files, "bytes": self.bytes}


class Derivation:
    """The files of a request at its pinned snapshots, below `FOLDER/files`.

    Raises `UnknownMoment` where a snapshot is not kept any more.
    """

    def __init__(
        self, catalog: RestCatalog, pins: Pins, request: Request, folder: Path, memory_mb: int, as_csv: bool
    ) -> None:
        self._catalog = catalog
        self._request, self._folder, self._memory_mb, self._as_csv = request, folder, memory_mb, as_csv
        tables = {name: catalog.load_table(name) for name in EXPORTED}
        self._snapshots = dict(pins.snapshots)
        for name, table in tables.items():
            snapshot_in(table, pins.snapshots[name])
        self._sources = {name: Source(table, pins.snapshots[name]) for name, table in tables.items()}
        self._payments = self._sources[PAYMENTS].plan(self._payments_wanted())
        account = [request.scope.value] if request.scope.kind == "account" and request.scope.value else None
        self._versions = self._sources[VERSIONS].plan(versions_wanted(request, account))
        tells = request.scope.tells_quarantine
        self._quarantine = self._sources[QUARANTINE].plan(quarantine_wanted(request)) if tells else {}

    @property
    def files(self) -> Path:
        """Folder of the files."""
        return self._folder / "files"

    def _payments_wanted(self) -> BooleanExpression:
        """Narrow a transaction down to its accounts and times, which versions tell by their Bloom filters.

        Statistics do not tell where a random reference is: every file of payments would be read.
        """
        wanted, reference = payments_wanted(self._request), self._request.scope.value
        if self._request.scope.kind != "transaction" or reference is None:
            return wanted
        source = self._sources[VERSIONS]
        rows = Lookup(source.table, self._snapshots[VERSIONS]).rows(
            transaction_wanted(self._request),
            {"transaction_ref": [reference.encode()]},
            columns=("account_id", "event_ts"),
        )
        groups = {(row["account_id"], row["event_ts"]) for row in rows}
        return And(wanted, in_groups(groups)) if groups else AlwaysFalse()

    def estimate(self) -> Estimate:
        """Tell by metadata alone what there is to export, at most; bytes as the lake stores them."""
        versions = {hour: planned for hour, planned in self._versions.items() if hour in self._payments}
        sums = {
            PAYMENTS: totals(self._payments),
            VERSIONS: totals(versions),
            QUARANTINE: totals(self._quarantine),
        }
        rows = {name: found[1] for name, found in sums.items()}
        rows[RAW] = rows[VERSIONS] + rows[QUARANTINE]
        raw = snapshot_in(self._sources[RAW].table, self._snapshots[RAW])
        per_record = total_of(raw, "files-size") / max(1, total_of(raw, "records"))
        stored = sum(found[2] for found in sums.values())
        return Estimate(
            rows, {name: found[0] for name, found in sums.items()}, int(stored + rows[RAW] * per_record)
        )

    def parts(self, done: Container[str]) -> Iterator[tuple[Part, float]]:
        """Write what is not done, part by part; each part's files are on disk when it is given.

        With each comes how many rows were looked at by then, of those that `estimate` tells of.
        """
        self.files.mkdir(parents=True, exist_ok=True)
        looked_at = 0.0
        with engine(self._folder, self._memory_mb) as at_work:
            for name, rows, write in self._steps(at_work):
                looked_at += rows
                if name not in done:
                    with _tracer.start_as_current_span("export part", attributes={"part": name}):
                        yield write(name), looked_at

    def _steps(self, at_work: Engine) -> Iterator[tuple[str, float, Callable[[str], Part]]]:
        """Name the parts in their order, with the rows that each looks at and what writes it."""
        for hour, planned in self._payments.items():
            beside = self._versions[hour].rows if hour in self._versions else 0
            curated = partial(self._curated, at_work, hour, planned)
            yield f"curated-{name_of(hour)}", planned.rows + beside, curated
        for hour, planned in self._quarantine.items():
            yield (
                f"quarantine-{name_of(hour)}",
                planned.rows,
                partial(self._quarantined, at_work, hour, planned),
            )
        noted = at_work.noted_hours()  # by now: the parts before have told where their records lie
        rows = self.estimate().rows[RAW] / max(1, len(noted))
        for at in noted:
            yield f"raw-{name_of(at)}", rows, partial(self._records, at_work, at)

    def schemas(self) -> dict[str, Any]:
        """Say the columns and the key of each table, as at its snapshot."""
        return {
            name: {
                "key": list(BY_NAME[name].key),
                "columns": [
                    {
                        "name": f.name,
                        "type": str(f.field_type),
                        "required": f.required,
                        "meaning": f.doc or "",
                    }
                    for f in source.fields
                ],
            }
            for name, source in self._sources.items()
        }

    def lake(self) -> dict[str, Any]:
        """State the conservation of the whole lake at these snapshots, by stamps and metadata alone."""
        counted = {name: self._totals(name) for name in (VERSIONS, QUARANTINE)}
        versions, quarantined = (self._rows_at(name) for name in (VERSIONS, QUARANTINE))
        untold = told_by_no_row(counted[VERSIONS], counted[QUARANTINE])
        records = counted[VERSIONS].get("records", 0)
        total = untold.records + versions + quarantined
        return {
            "records": records,
            "redelivered": untold.redelivered,
            **({"retired": untold.retired} if untold.retired else {}),
            "versions": versions,
            "quarantined": quarantined,
            "payments": self._rows_at(PAYMENTS),
            "breaks": [] if records == total else [
                f"records = redelivered + versions + quarantined: {records} against {total}"
            ],
        }  # fmt: skip

    def retired_before(self) -> datetime | None:
        """Event time before which retention had dropped curated rows by then; None: it had dropped none."""
        return retired_at(self._sources[VERSIONS].table, self._snapshots[VERSIONS]).before

    def contract_version(self) -> int | None:
        """The contract version of the newest record that the snapshots tell of; None for none."""
        return contract_at(self._catalog, self._sources[VERSIONS].table, self._snapshots[VERSIONS])

    def _curated(self, at_work: Engine, hour: int, planned: Planned, name: str) -> Part:
        """Export the payments of an event hour, and the versions of their events."""
        request = self._request
        source = self._sources[PAYMENTS]
        if not at_work.hold_payments(source.read(payments_wanted(request), planned.tasks)):
            return Part(name, (), Tally())
        source = self._sources[VERSIONS]
        beside = self._versions[hour].tasks if hour in self._versions else ()
        at_work.hold_versions(source.read(versions_wanted(request, at_work.accounts()), beside))
        files = self._write(PAYMENTS, hour, at_work.sorted_payments())
        files += self._write(VERSIONS, hour, at_work.sorted_versions())
        at_work.note_versions(name)
        return Part(name, tuple(files), at_work.tally())

    def _quarantined(self, at_work: Engine, hour: int, planned: Planned, name: str) -> Part:
        """Export the rows of quarantine of an hour of Kafka time."""
        source, tally = self._sources[QUARANTINE], Tally()
        rows = source.read(quarantine_wanted(self._request), planned.tasks)
        tally.counts["quarantined"] = at_work.hold_quarantined(rows)
        files = self._write(QUARANTINE, hour, at_work.sorted_quarantined())
        at_work.note_quarantined(name)
        return Part(name, tuple(files), tally)

    def _records(self, at_work: Engine, hour: int | None, name: str) -> Part:
        """Export the records of raw that the versions and rows of quarantine were first read from."""
        spans = at_work.hold_wanted(hour)
        source, tally = self._sources[RAW], Tally()
        if not spans:
            return Part(name, (), tally)
        wanted = records_wanted(spans, at_work.wanted() if few(spans) else (), hour)
        tasks = [task for planned in source.plan(wanted).values() for task in planned.tasks]
        tally.counts["raw"] = at_work.hold_records(source.read(wanted, tasks))
        if tally.counts["raw"] < sum(span.records for span in spans):
            tally.counts["not_kept"] = self._not_kept(at_work)
        return Part(name, tuple(self._write(RAW, hour, at_work.sorted_records())), tally)

    def _not_kept(self, at_work: Engine) -> int:
        """Count the records that retention dropped from raw. Raises `ExportError` if others are missing."""
        stamp = newest_stamp(self._sources[RAW].table, self._snapshots[RAW], lambda s: bool(s.retired))
        below = stamp.retired.below if stamp is not None else OffsetVector()
        if lost := at_work.missing(below):
            count, first = sum(span.records for span in lost), lost[0]
            raise ExportError(
                f"{RAW} at snapshot {self._snapshots[RAW]} lacks {count:,} records that curated rows "
                f"were read from; the first is {first.topic_id}/{first.partition}/{first.first}",
                "`paywave reconcile` and `paywave replay verify` tell what happened",
            )
        return sum(span.records for span in at_work.missing())

    def _write(self, table: str, hour: int | None, rows: Iterator[Any]) -> list[Any]:
        schema = self._sources[table].schema
        return write_part(self.files, table, name_of(hour), rows, schema, self._as_csv)

    def _totals(self, name: str) -> dict[str, int]:
        stamp = newest_stamp(self._sources[name].table, self._snapshots[name], lambda s: s.totals)
        return {} if stamp is None else dict(stamp.totals)

    def _rows_at(self, name: str) -> int:
        return rows_at(self._sources[name].table, self._snapshots[name])
