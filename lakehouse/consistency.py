"""Reading several tables as of one and the same set of records.

Belongs here: finding the offset vector that the tables have in common, from their metadata alone.
Does not: time travel of a single table (`moments.py`), reading rows (`query.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.definitions import RAW
from lakehouse.errors import LakehouseError, UnknownMoment
from lakehouse.offsets import OffsetVector
from lakehouse.refs import MAIN, PROGRESS_TAG, ancestry, snapshot_of, stamp_of

_Reached = frozenset[tuple[str, int, int]]


@dataclass(frozen=True)
class Consistent:
    """One offset vector, and the snapshot of each table to read at it.

    A snapshot of raw may hold more than the vector; its rows below the vector are those that are meant.
    """

    vector: OffsetVector
    snapshots: dict[str, int]


def consistent(tables: Mapping[str, Table]) -> Consistent:
    """Find the greatest vector that all tables (by name, one or more) have stood at, newest snapshots first.

    A snapshot without progress of its own (compaction, replay, repair) stands where the one below it stands.
    Raw is to cover the vector only, unless it is alone.

    Raises `UnknownMoment`, saying where each table stands, if their kept histories have no vector in common.
    """
    standing = {name: list(standings(table)) for name, table in tables.items()}
    folded = {name: found for name, found in standing.items() if name != RAW} or standing
    newest = {name: _newest_by_vector(found) for name, found in folded.items()}
    first = next(iter(folded.values()))
    for _, vector in first:
        if all(reached_by(vector) in by_vector for by_vector in newest.values()):
            snapshots = {name: by_vector[reached_by(vector)] for name, by_vector in newest.items()}
            raw = {RAW: covering(standing[RAW], vector)} if RAW in standing and RAW not in folded else {}
            return Consistent(vector, snapshots | raw)
    raise UnknownMoment(f"no offset vector is common to {_where(folded)}", _HINT)


def standings(table: Table) -> Iterator[tuple[int, OffsetVector]]:
    """Walk what readers have seen of a table, newest first: snapshot id, and how far its source was consumed.

    Snapshots that main was never set to (the steps within one publish) are left out, and so is what was
    rolled back.
    """
    main = snapshot_of(table.metadata, MAIN)
    if main is None:
        raise LakehouseError(f"table {'.'.join(table.name())} has no snapshot", "run `paywave up`")
    seen = {entry.snapshot_id for entry in table.history()} | {main.snapshot_id}
    waiting: list[int] = []
    newest = _progress(snapshot_of(table.metadata, PROGRESS_TAG))
    for snapshot in ancestry(table.metadata, main):
        if snapshot.snapshot_id in seen:
            waiting.append(snapshot.snapshot_id)
        progress = _progress(snapshot)
        if progress is not None:
            yield from ((snapshot_id, progress) for snapshot_id in waiting)
            waiting, newest = [], None
    if newest is not None:  # expiry has cut main off above its newest progress, which the tag keeps
        yield from ((snapshot_id, newest) for snapshot_id in waiting)


def _progress(snapshot: Snapshot | None) -> OffsetVector | None:
    stamp = stamp_of(snapshot) if snapshot is not None else None
    return stamp.progress if stamp is not None else None


def _newest_by_vector(found: list[tuple[int, OffsetVector]]) -> dict[_Reached, int]:
    return {reached_by(vector): snapshot_id for snapshot_id, vector in reversed(found)}


def covering(raw: list[tuple[int, OffsetVector]], vector: OffsetVector) -> int:
    """Choose of raw's standings, newest first, the oldest that covers the vector: it holds least beyond it.

    Raises `UnknownMoment` where none does.
    """
    covering = [snapshot_id for snapshot_id, reached in raw if reached.covers(vector)]
    if not covering:
        raise UnknownMoment(f"table {RAW} does not reach the offsets {vector.to_json()}", _HINT)
    return covering[-1]


def reached_by(vector: OffsetVector) -> _Reached:
    """Make vectors comparable: what is missing stands at 0."""
    return frozenset(standing for standing in vector if standing[2] > 0)


def _where(standing: Mapping[str, list[tuple[int, OffsetVector]]]) -> str:
    return "; ".join(
        f"{name}, newest {found[0][1].to_json()}" if found else name for name, found in standing.items()
    )


_HINT = (
    "let the jobs catch up (`paywave stream curated --once`, for transactions `paywave stream transactions "
    "--once` after it), then read again; or read the tables one by one"
)
