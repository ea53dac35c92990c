"""Partners' files: what the partner says, what the dropzone read, and what stands in the tables of it.

Belongs here: the accounts of files. Does not: reading files (`streaming/dropzone/`), counting their
records (`file_records.py`).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from lakehouse.offsets import OffsetVector
from quality.control_totals import ControlTotal, totals_from
from quality.reconciliation import FILE_AMOUNTS, FILE_COUNTS, FILE_RECORDS, FILE_ROWS, Account, Break

FOLDED, QUARANTINED, NOWHERE = "folded", "quarantined", "nowhere"
OTHER_RECORDS = "other records than the dropzone sent"
OTHER_TOTALS = "not the totals that the partner says"
_ZERO = Decimal(0)
Kind = tuple[str, str]


@dataclass(frozen=True)
class File:
    """One file of a partner, by the newest that the ledger says of it. `sent_as`: its name in the headers."""

    partner: str
    name: str
    sent_as: str
    version: int
    digest: str
    rows: int
    events: int
    accepted: int
    rejected: int
    received_at: datetime
    offsets: OffsetVector
    totals: tuple[ControlTotal, ...] | None

    @property
    def names(self) -> dict[str, str]:
        return {"partner": self.partner, "file": self.name, "version": str(self.version)}


class FileLine(NamedTuple):
    """A kind of records of a file: where they stand, their currency and type, and the first line of them."""

    what: str
    kind: Kind | None
    records: int
    amount: Decimal | None
    first_line: int


def files_of(rows: Iterable[Mapping[str, Any]], until: datetime | None) -> list[File]:
    """Pick the files to reconcile from the ledger's settled rows: of each name, its newest content.

    A file that was sent anew under its name replaces what the partner said before. What was settled at
    `until` or later is left out.
    """
    by_time = sorted(rows, key=lambda row: (row["changed_at"], row["seq"]))
    first = {(row["partner"], row["digest"]): row for row in reversed(by_time) if row["state"] == "done"}
    newest = {(row["partner"], row["name"]): row for row in by_time}
    content = {(row["partner"], row["digest"]): row for row in newest.values()}
    return [
        _file(row, first[key])
        for key, row in content.items()
        if key in first and (until is None or row["changed_at"] < until)
    ]


def _file(row: Mapping[str, Any], first: Mapping[str, Any]) -> File:
    spans = json.loads(first["offsets"] or "{}")
    ends = {int(partition): last + 1 for partition, (_, last) in spans.items()}
    counts = {name: row[name] or 0 for name in ("rows", "events", "accepted", "rejected")}
    return File(
        partner=row["partner"],
        name=row["name"],
        sent_as=first["name"],
        version=row["version"],
        digest=row["digest"],
        received_at=first["received_at"],
        offsets=OffsetVector({first["topic_id"]: ends} if ends else {}),
        totals=totals_from(row["totals"]) if row["totals"] else None,
        **counts,
    )


class FileAccounts:
    """The accounts of partners' files."""

    def __init__(self) -> None:
        self.rows = Account(FILE_ROWS)
        self.records = Account(FILE_RECORDS)
        self.counts = Account(FILE_COUNTS)
        self.amounts = Account(FILE_AMOUNTS)

    def add(self, file: File, found: list[FileLine], first_missing: int | None) -> None:
        """Add a file.

        Args:
            found: what stands in the tables of it.
            first_missing: the first line that no record is of, where records are missing.
        """
        standing: Counter[str] = Counter()
        for one in found:
            standing[one.what] += one.records
        self.rows.add(file.names, file.rows, file.accepted, file.rejected)
        if file.rows != file.accepted + file.rejected:
            self.rows.name(_named(file, "rows neither accepted nor rejected", None))
        sent = file.events + file.rejected
        self.records.add(file.names, sent, standing[FOLDED], standing[QUARANTINED])
        if (lost := sent - standing[FOLDED] - standing[QUARANTINED]) != 0:
            nowhere = [one.first_line for one in found if one.what == NOWHERE]
            line = min([*nowhere, *([first_missing] if first_missing else [])], default=None)
            self.records.name(_named(file, OTHER_RECORDS, line), abs(lost))
        if file.totals is not None:
            self._add_totals(file, file.totals, found)

    def _add_totals(self, file: File, said: tuple[ControlTotal, ...], found: list[FileLine]) -> None:
        counts: dict[Kind, int] = defaultdict(int)
        amounts: dict[Kind, Decimal] = defaultdict(Decimal)
        for one in found:
            if one.what == FOLDED and one.kind is not None:
                counts[one.kind] += one.records
                amounts[one.kind] += one.amount or _ZERO
        says = {total.kind: total for total in said}
        # What is in quarantine is what a partner counted and we did not: the line to begin with.
        line = min((one.first_line for one in found if one.what != FOLDED), default=None)
        for kind in sorted(says.keys() | counts.keys()):
            total = says.get(kind) or ControlTotal(*kind, 0, _ZERO)
            place = {"currency": kind[0], "event_type": kind[1]}
            self.counts.add({**file.names, **place}, total.count, counts[kind])
            self.amounts.add(place, total.amount, amounts[kind])
            where = {**place, "says": str(total.amount), "folded": str(amounts[kind])}
            if total.count != counts[kind]:
                self.counts.name(_named(file, OTHER_TOTALS, line, **where))
            if total.amount != amounts[kind]:
                self.amounts.name(_named(file, OTHER_TOTALS, line, **where))


def _named(file: File, what: str, line: int | None, **more: str) -> Break:
    place = {**file.names, **more} | ({} if line is None else {"line": str(line)})
    return Break((file.partner, file.name, line or 0, *more.values()), what, place)
