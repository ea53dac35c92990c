"""The integrity audit of raw: every file of every retained snapshot is held to the ledger of digests.

Belongs here: the order of the steps, and what comes out. Does not: recording (`keeper.py`), judging one file
(`verdict.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from opentelemetry import metrics, trace
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.io import FileIO
from pyiceberg.table.snapshots import Snapshot

from lakehouse.chain import EMPTY, Break, Follower, Tail
from lakehouse.chained_ledger import ChainedLedger, published_tails, unstamped
from lakehouse.definitions import FILE_DIGESTS, RAW
from lakehouse.errors import LakehouseError
from lakehouse.integrity.findings import Findings
from lakehouse.integrity.inventory import Inventory, Todo, wanted_files
from lakehouse.integrity.keeper import WRITER
from lakehouse.integrity.look import AT_ONCE, measure, read
from lakehouse.integrity.verdict import Finding, Seen, judge

Report = Callable[[float, str], None]
"""Told how far the check is: the share that is done (0 to 1), and a few words."""
# To ask for a file's size takes about as long as reading so much.
_REQUEST_BYTES = 100_000
_NAMED = 100
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)
_damaged = metrics.get_meter(__name__).create_gauge("paywave.integrity.damaged", unit="{file}")


@dataclass(frozen=True)
class Selection:
    """What is looked at: everything, or a random sample; and over how many days every file is read once.

    Args:
        one_in: 1 reads all; of what is not read today, existence and size are checked.
        noted: tails of the ledger's chain that were noted elsewhere before, and must still be in it.
        recorded_within: a file must be recorded so long after the snapshot that added it.
    """

    one_in: int = 1
    sample: int | None = None
    noted: tuple[Tail, ...] = ()
    recorded_within: timedelta = timedelta(hours=6)


@dataclass(frozen=True)
class Checked:
    """What the audit found.

    Args:
        files: looked at; `read`: of these, read whole; `bytes`: that were read.
        unrecorded: files that the ledger lacks, of which `unrecorded_named` are the first; `overdue` of them
            should have been recorded by now: nobody can say whether these were changed.
        findings: files that are missing, of another size, of other bytes, or unreadable.
        breaks: where the ledger's own chain does not hold.
        tail: the end of the ledger's chain: to be noted elsewhere.
    """

    snapshots: int
    files: int
    read: int
    bytes: int
    unrecorded: int
    overdue: int
    unrecorded_named: tuple[str, ...]
    findings: tuple[Finding, ...]
    breaks: tuple[Break, ...]
    tail: Tail

    @property
    def is_whole(self) -> bool:
        """Whether nothing was changed, neither file nor ledger, and that can be said of all old files."""
        return not self.findings and not self.breaks and not self.overdue

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {
            "whole": self.is_whole,
            "snapshots": self.snapshots,
            "files": self.files,
            "read": self.read,
            "bytes": self.bytes,
            "damaged": [found.as_json() for found in self.findings],
            "unrecorded": self.unrecorded,
            "overdue": self.overdue,
            "unrecorded_named": list(self.unrecorded_named),
            "ledger_breaks": [found._asdict() for found in self.breaks],
            "chain_head": str(self.tail),
        }


def check(
    catalog: RestCatalog,
    selection: Selection,
    report: Report = lambda _share, _said: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Checked:
    """Hold raw's files to the ledger, and the ledger to its chain. Changes nothing.

    Raises `LakehouseError` where nothing was ever recorded: then nothing can be proven.
    """
    ledger = ChainedLedger(catalog, FILE_DIGESTS, WRITER)
    recorded = ledger.table()  # before raw: what it has then, raw's metadata have too
    if recorded is None or ledger.tail(recorded) == EMPTY:
        raise LakehouseError(
            f"table {FILE_DIGESTS} is empty: there is nothing to hold raw's files to",
            "run `paywave integrity record` first; it reads every file once",
        )
    raw = catalog.load_table(RAW)
    findings = Findings(raw)
    with _tracer.start_as_current_span("integrity.check") as span, Inventory() as inventory:
        inventory.fill(wanted_files(raw, findings.unreadable), ledger.batches(recorded), ledger.schema)
        breaks, tail = _follow(inventory, [*published_tails(recorded), *selection.noted])
        breaks += unstamped(recorded, tail)
        day = (now() - datetime(1970, 1, 1, tzinfo=UTC)).days
        total = inventory.choose(selection.one_in, day, selection.sample)
        young = young_snapshots(raw.metadata.snapshots, now() - selection.recorded_within)
        looked = _look(raw.io, inventory.todo(), findings, total, report, young)
        span.set_attributes({"files": looked.files, "bytes": looked.bytes})
    found = findings.standing(catalog)
    _damaged.set(len(found) + len(breaks))
    for finding in found[:_NAMED]:
        _log.error("raw is damaged", path=finding.path, problem=finding.problem, said=finding.said)
    return Checked(
        len(raw.metadata.snapshots),
        looked.files,
        looked.read,
        looked.bytes,
        looked.unrecorded,
        looked.overdue,
        tuple(looked.named),
        found,
        tuple(breaks),
        tail,
    )


def young_snapshots(snapshots: Iterable[Snapshot], since: datetime) -> frozenset[int]:
    """Find the snapshots from a time on. What an expired one added is old."""
    return frozenset(s.snapshot_id for s in snapshots if s.timestamp_ms >= since.timestamp() * 1000)


def _follow(inventory: Inventory, known: Iterable[Tail]) -> tuple[list[Break], Tail]:
    """Follow the ledger's chain to its end, and see that tails which are known from elsewhere are in it."""
    follower = Follower(known)
    breaks = [found for rows in inventory.recorded() for found in follower.follow(rows)]
    return [*breaks, *follower.end()], follower.tail


@dataclass
class _Looked:
    files: int = 0
    read: int = 0
    bytes: int = 0
    unrecorded: int = 0
    overdue: int = 0
    named: list[str] = field(default_factory=list)

    def take(self, todo: Todo, seen: Seen, is_young: bool) -> None:
        """Count a file that was looked at."""
        self.files, self.bytes = self.files + 1, self.bytes + (seen.bytes if todo.whole else 0)
        self.read += todo.whole
        if todo.recorded is None:
            self.unrecorded += 1
            self.overdue += not is_young
            if len(self.named) < _NAMED:
                self.named.append(todo.file.path)


def _look(
    io: FileIO,
    todo: Iterator[list[Todo]],
    findings: Findings,
    total: tuple[int, int],
    report: Report,
    young: frozenset[int],
) -> _Looked:
    looked, work = _Looked(), total[0] * _REQUEST_BYTES + total[1]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for some in todo:
            for one, seen in zip(some, _seen(pool, io, some), strict=True):
                looked.take(one, seen, one.file.snapshot_id in young)
                finding = judge(one.file, seen, one.recorded)
                if finding is not None:
                    findings.add(finding)
                done = looked.files * _REQUEST_BYTES + looked.bytes
                report(min(1.0, done / work), f"{looked.files:,} of {total[0]:,} files")
    return looked


def _seen(pool: ThreadPoolExecutor, io: FileIO, todo: Iterable[Todo]) -> Iterator[Seen]:
    return pool.map(lambda one: (read if one.whole else measure)(io, one.file.path), todo)
