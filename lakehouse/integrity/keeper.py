"""The keeper of raw's digests: files that the ledger lacks are read once, and written down.

Belongs here: the order of the steps. Does not: holding files to the ledger (`check.py`).

A file is recorded as it is when it is first read: what was changed between its publish and that is told only
by its size. So the keeper is to run often, and before anything is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from opentelemetry import metrics, trace
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.io import FileIO
from pyiceberg.table import Table

from lakehouse.chain import SEQ, Tail
from lakehouse.chained_ledger import ChainedLedger, Row
from lakehouse.definitions import FILE_DIGESTS, RAW
from lakehouse.errors import ChainBroken
from lakehouse.integrity.findings import Findings
from lakehouse.integrity.inventory import Inventory, wanted_files
from lakehouse.integrity.look import AT_ONCE, read
from lakehouse.integrity.verdict import Finding, Seen, Wanted, judge

WRITER = "digests"
Report = Callable[[int, int, str], None]
"""Told how far the work is: files that are done, files there are, and a few words."""
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)
_bytes_read = metrics.get_meter(__name__).create_counter("paywave.integrity.read", unit="By")


@dataclass(frozen=True)
class Recorded:
    """What a run of the keeper did: files and bytes that it recorded; damaged files, which it did not."""

    snapshots: int
    files: int
    bytes: int
    findings: tuple[Finding, ...]
    tail: Tail

    @property
    def is_whole(self) -> bool:
        """Whether every file was there and of the size that the metadata says."""
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {
            "snapshots": self.snapshots,
            "files": self.files,
            "bytes": self.bytes,
            "chain_head": str(self.tail),
            "damaged": [found.as_json() for found in self.findings],
        }


class DigestKeeper:
    """Records what is new, some files to an append: each append stays, and the next run goes on behind it."""

    def __init__(self, catalog: RestCatalog, report: Report = lambda _done, _total, _said: None) -> None:
        self._catalog = catalog
        self._report = report
        self._ledger = ChainedLedger(catalog, FILE_DIGESTS, WRITER)

    def run(self, noted: Iterable[Tail] = ()) -> Recorded:
        """Record all that raw's retained snapshots need and the ledger lacks.

        Args:
            noted: tails of the ledger's chain that were noted elsewhere before.

        Raises `ChainBroken` where the ledger lost rows that it had: what is recorded anew then would bear out
        whatever was done to raw's files. Raises `PublishError`.
        """
        self._ledger.prepare()
        raw, ledger = self._catalog.load_table(RAW), self._ledger.table()
        assert ledger is not None  # just prepared
        self._check(ledger, noted)
        findings = Findings(raw)
        files = size = 0
        with _tracer.start_as_current_span("integrity.record") as span, Inventory() as inventory:
            inventory.fill(
                wanted_files(raw, findings.unreadable), self._ledger.batches(ledger), self._ledger.schema
            )
            others, total = _Others(self._ledger.tail(ledger).seq), inventory.unrecorded()[0]
            for some in inventory.new():
                rows = list(self._rows(raw.io, some, findings))
                made = self._append(rows, others)
                files, size = files + len(made), size + sum(row["bytes"] for row in made)
                self._report(files, total, f"{files:,} of {total:,} files, {size:,} bytes")
            span.set_attributes({"files": files, "bytes": size})
        ledger = self._ledger.table()
        assert ledger is not None
        found = findings.standing(self._catalog)
        _log.info("digests recorded", files=files, bytes=size, damaged=len(found))
        return Recorded(len(raw.metadata.snapshots), files, size, found, self._ledger.tail(ledger))

    def _rows(self, io: FileIO, files: list[Wanted], findings: Findings) -> Iterable[Row]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            seen = pool.map(lambda file: read(io, file.path), files)
            for file, one in zip(files, seen, strict=True):
                _bytes_read.add(one.bytes)
                finding = judge(file, one)
                if finding is None:
                    yield _row(file, one)
                else:
                    findings.add(finding)

    def _check(self, ledger: Table, noted: Iterable[Tail]) -> None:
        if (lost := self._ledger.lost(ledger, noted)) is not None:
            raise ChainBroken(
                f"table {FILE_DIGESTS}: row {lost.seq} with the link {lost.link} is gone or was written anew",
                "nothing is recorded until a person has seen why: `paywave integrity check --head "
                f"{lost}` names what differs; bring the table back to the snapshot that had all rows",
            )

    def _append(self, rows: list[Row], others: _Others) -> list[Row]:
        """Append rows but those that another keeper has recorded since we looked."""

        def choose(ledger: ChainedLedger, table: Table) -> list[Row]:
            others.take(ledger.rows(table, after=others.read_to))
            return [row for row in rows if row["path"] not in others.paths]

        made = self._ledger.append(choose) if rows else []
        others.read_to = max([others.read_to, *(row[SEQ] for row in made)])
        return made


@dataclass
class _Others:
    """What other keepers recorded beside this run, read up to a row: each row once, however many appends."""

    read_to: int
    paths: set[str] = field(default_factory=set)

    def take(self, rows: list[Row]) -> None:
        self.paths |= {row["path"] for row in rows}
        self.read_to = max([self.read_to, *(row[SEQ] for row in rows)])


def _row(file: Wanted, seen: Seen) -> Row:
    return {
        "path": file.path,
        "kind": file.kind,
        "sha256": seen.sha256,
        "bytes": seen.bytes,
        "rows": file.rows,
        "snapshot_id": file.snapshot_id,
        "first_seen": datetime.now(UTC),
    }
