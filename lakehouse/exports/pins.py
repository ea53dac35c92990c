"""Which snapshots an export reads: those that tell of the same records, pinned by a tag that never expires.

Belongs here: choosing them, and again if they expired meanwhile. Does not: setting a tag
(`lakehouse/pins.py`), reading rows (`selection.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse import pins
from lakehouse.consistency import covering, reached_by, standings
from lakehouse.definitions import PAYMENTS, PUBLISH_LOG, QUARANTINE, RAW, VERSIONS
from lakehouse.errors import LostRace, UnknownMoment
from lakehouse.moments import Moment, snapshot_at
from lakehouse.offsets import OffsetVector
from lakehouse.refs import LAST_PINNED, newest_stamp, total_of

EXPORTED = (PAYMENTS, VERSIONS, QUARANTINE, RAW)
_FOLDED = (VERSIONS, QUARANTINE)
_TRIES = 5


@dataclass(frozen=True)
class Pins:
    """The snapshot of each exported table, and the offset vector that all of them tell of.

    A snapshot of raw may hold more than the vector. `remarks` say where it is not just what was asked for.
    """

    snapshots: Mapping[str, int]
    offsets: OffsetVector
    remarks: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Render for the journal."""
        ids = {name: str(snapshot_id) for name, snapshot_id in self.snapshots.items()}
        return {"snapshots": ids, "offsets": self.offsets.to_json(), "remarks": list(self.remarks)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Pins:
        """Read what `as_json` wrote."""
        snapshots = {name: int(snapshot_id) for name, snapshot_id in value["snapshots"].items()}
        return cls(snapshots, OffsetVector.from_json(value["offsets"]), tuple(value["remarks"]))


def tag_of(export_id: str) -> str:
    """Return the tag that keeps an export's snapshots."""
    return f"audit-{export_id}"


def pin(catalog: RestCatalog, as_of: datetime | None, tag: str | None, export_id: str) -> Pins:
    """Choose snapshots and tag them. Raises `UnknownMoment` as `choose` does, `LostRace`.

    Expiry may be at work, and have chosen a snapshot a moment before its tag was set. So `LAST_PINNED` is
    moved there afterwards: expiry commits only while it is where it saw it. What is gone is chosen anew.
    """
    for left in reversed(range(_TRIES)):
        tables = {name: catalog.load_table(name) for name in EXPORTED}
        found = choose(catalog, tables, as_of, tag)
        try:
            for name, snapshot_id in found.snapshots.items():
                pins.pin(catalog, name, tag_of(export_id), snapshot_id)
                pins.pin(catalog, name, LAST_PINNED, snapshot_id)
        except LostRace:
            if not left:
                raise
        if _are_kept(catalog, found, tag_of(export_id)):
            return found
    raise LostRace(
        "snapshots expired each time before they could be pinned", "run it again at a quieter time"
    )


def release(catalog: RestCatalog, export_id: str) -> list[str]:
    """Remove an export's tags: expiry may take what only they kept. Returns the tables that had one."""
    tag, released = tag_of(export_id), []
    for name in EXPORTED:
        refs = catalog.load_table(name).metadata.refs
        if tag not in refs:
            continue
        if LAST_PINNED in refs and refs[LAST_PINNED].snapshot_id == refs[tag].snapshot_id:
            pins.unpin(catalog, name, LAST_PINNED)
        if pins.unpin(catalog, name, tag):
            released.append(name)
    return released


def newest_of(catalog: RestCatalog) -> str:
    """Say which snapshot of payments readers see: another one whenever anything was published."""
    snapshot = catalog.load_table(PAYMENTS).current_snapshot()
    return "" if snapshot is None else str(snapshot.snapshot_id)


def pinned_in(catalog: RestCatalog, export_id: str) -> list[str]:
    """List the tables in which an export's tag stands."""
    tag = tag_of(export_id)
    return [name for name in EXPORTED if tag in catalog.load_table(name).metadata.refs]


def choose(
    catalog: RestCatalog, tables: Mapping[str, Table], as_of: datetime | None, tag: str | None
) -> Pins:
    """Choose the snapshots of a moment: payments as readers saw them, the others at the same offsets.

    Raises `UnknownMoment`, listing what there is, for a time before the kept history, an unknown tag, or
    a moment whose companions have expired.
    """
    payments = tables[PAYMENTS]
    for number, (snapshot_id, vector) in enumerate(_candidates(catalog, payments, as_of, tag)):
        until = as_of if tag is None else _published(payments).get(snapshot_id)
        others = {name: _beside(catalog, tables[name], vector, until, tag) for name in _FOLDED}
        missing = [name for name, found in others.items() if found is None]
        if missing:
            continue
        raw = _raw_beside(tables[RAW], vector, tag)
        found = {name: found for name, found in others.items() if found is not None}
        remarks = (_STEPPED.format(number),) if number else ()
        return Pins({PAYMENTS: snapshot_id, **found, RAW: raw}, vector, remarks)
    raise UnknownMoment(
        f"no snapshots of {', '.join(_FOLDED)} are kept that go with {PAYMENTS} {_said(as_of, tag)}",
        _there_is(payments),
    )


def contract_at(catalog: RestCatalog, table: Table, snapshot_id: int) -> int | None:
    """Tell by which contract the newest record of a snapshot was judged; None where none was.

    What rewrites files judges nothing, and the stamps before it may have expired: the publish log kept them.
    """
    stamp = newest_stamp(table, snapshot_id, lambda s: s.contract_version is not None)
    if stamp is not None:
        return stamp.contract_version
    until = _published(table).get(snapshot_id)
    if until is None:
        return None
    log = catalog.load_table(PUBLISH_LOG)
    judged = f"contract_version IS NOT NULL AND published_at <= '{until.isoformat()}'"
    rows = log.scan(
        row_filter=f"table_name = '{'.'.join(table.name())}' AND {judged}",
        selected_fields=("published_at", "contract_version"),
    )
    last = max(rows.to_arrow().to_pylist(), key=lambda row: row["published_at"], default=None)
    return None if last is None else int(last["contract_version"])


def rows_at(table: Table, snapshot_id: int) -> int:
    """Count the rows of a snapshot by its metadata."""
    snapshot = snapshot_in(table, snapshot_id)
    return total_of(snapshot, "records") - total_of(snapshot, "position-deletes")


def snapshot_in(table: Table, snapshot_id: int) -> Snapshot:
    """Return a pinned snapshot. Raises `UnknownMoment` where it has expired."""
    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise UnknownMoment(
            f"table {'.'.join(table.name())} keeps no snapshot {snapshot_id} any more: its tag was dropped",
            _there_is(table),
        )
    return snapshot


def _candidates(
    catalog: RestCatalog, payments: Table, as_of: datetime | None, tag: str | None
) -> Iterator[tuple[int, OffsetVector]]:
    """Walk the snapshots of payments that may be meant, the best first."""
    if tag is not None:
        snapshot_id = snapshot_at(payments, Moment(tag=tag))
        vector = _vector_at(catalog, payments, snapshot_id)
        if vector is None:
            raise UnknownMoment(
                f"what {PAYMENTS} had read at the tag {tag} is not known", _there_is(payments)
            )
        yield snapshot_id, vector
        return
    if as_of is not None:
        snapshot_at(payments, Moment(as_of=as_of))  # raises, saying how far back one can look
    published = _published(payments)
    for snapshot_id, vector in standings(payments):
        if as_of is None or published.get(snapshot_id, as_of) <= as_of:
            yield snapshot_id, vector


def _beside(
    catalog: RestCatalog, table: Table, vector: OffsetVector, until: datetime | None, tag: str | None
) -> int | None:
    """Find the snapshot at these offsets: the newest that readers saw by then, else the first after."""
    ref = table.metadata.refs.get(tag) if tag is not None else None
    if ref is not None:
        reached = _vector_at(catalog, table, ref.snapshot_id)
        if reached is not None and reached_by(reached) == reached_by(vector):
            return ref.snapshot_id
    published, later = _published(table), None
    for snapshot_id, reached in standings(table):
        if reached_by(reached) != reached_by(vector):
            continue
        if until is None or published.get(snapshot_id, until) <= until:
            return snapshot_id
        later = snapshot_id
    return later


def _raw_beside(raw: Table, vector: OffsetVector, tag: str | None) -> int:
    """Take raw at the tag where it has that and reaches the offsets, else the oldest that reaches them."""
    ref = raw.metadata.refs.get(tag) if tag is not None else None
    stamp = newest_stamp(raw, ref.snapshot_id, lambda s: s.progress is not None) if ref is not None else None
    if ref is not None and stamp is not None and stamp.progress and stamp.progress.covers(vector):
        return ref.snapshot_id
    return covering(list(standings(raw)), vector)


def _vector_at(catalog: RestCatalog, table: Table, snapshot_id: int) -> OffsetVector | None:
    """Tell how far a table had read at a snapshot: by its stamps, or by what the publish log kept of them."""
    stamp = newest_stamp(table, snapshot_id, lambda s: s.progress is not None)
    if stamp is not None:
        return stamp.progress
    log = catalog.load_table(PUBLISH_LOG)
    rows = log.scan(row_filter=f"snapshot_id = {snapshot_id}", selected_fields=("table_name", "offsets"))
    name = ".".join(table.name())
    known = [r["offsets"] for r in rows.to_arrow().to_pylist() if r["table_name"] == name and r["offsets"]]
    return OffsetVector.from_json(known[0]) if known else None


def _published(table: Table) -> dict[int, datetime]:
    """Tell when readers first saw each snapshot."""
    return {
        entry.snapshot_id: datetime.fromtimestamp(entry.timestamp_ms / 1000, UTC)
        for entry in reversed(table.history())
    }


def _are_kept(catalog: RestCatalog, chosen: Pins, tag: str) -> bool:
    refs = {name: catalog.load_table(name).metadata.refs.get(tag) for name in chosen.snapshots}
    return all(ref is not None and ref.snapshot_id == chosen.snapshots[name] for name, ref in refs.items())


def _said(as_of: datetime | None, tag: str | None) -> str:
    if tag is not None:
        return f"at the tag {tag}"
    return "now" if as_of is None else f"as of {as_of.isoformat()}"


def _there_is(table: Table) -> str:
    """List what can be read of a table."""
    published = sorted(at for id_, at in _published(table).items() if table.snapshot_by_id(id_) is not None)
    since = f"times from {published[0].isoformat()} on" if published else "no time"
    return f"it has {since}, and the tags {', '.join(sorted(set(table.metadata.refs) - {'main'}))}"


_STEPPED = (
    "no common offsets at the moment itself: the tables stand {0} publishes of payments before it, "
    "where they tell of the same records"
)
