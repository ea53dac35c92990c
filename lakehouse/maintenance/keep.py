"""Which snapshots may expire: those that no ref, no reader's hint and neither age nor number keeps. Pure.

Belongs here: that choice, on ids and numbers alone. Does not: reading tables, committing (`expire.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Known(NamedTuple):
    """A snapshot as a table's metadata lists it. `at_ms`: when it was made, in milliseconds since 1970."""

    snapshot_id: int
    parent_id: int | None
    at_ms: int


@dataclass(frozen=True)
class Keep:
    """What is kept beside the refs: the newest so many of main's history, and all that is younger."""

    newest: int
    since_ms: int


def expirable(
    snapshots: Collection[Known],
    main: int,
    branches: Collection[int],
    tags: Collection[int],
    hints: Collection[int],
    keep: Keep,
) -> set[int]:
    """Choose the snapshots to expire.

    Args:
        main: the snapshot that main is at.
        branches: tips of all other branches. Each is kept down to main's history, with the snapshot there:
            whoever publishes a branch walks it down to where it began.
        tags: snapshots that tags point to; only these, not what was before them.
        hints: snapshots that a reader goes on from: what main has after them is kept too: it reads the
            difference.
    """
    known = {snapshot.snapshot_id: snapshot for snapshot in snapshots}
    history = list(_down(known, main))
    in_history = set(history)
    kept = {*history[: max(1, keep.newest)], *tags}
    kept |= {s.snapshot_id for s in snapshots if s.at_ms >= keep.since_ms}
    for tip in branches:
        for snapshot_id in _down(known, tip):
            kept.add(snapshot_id)
            if snapshot_id in in_history:
                break
    reached = [history.index(hint) for hint in hints if hint in in_history]
    kept |= set(history[: max(reached, default=-1) + 1])
    return known.keys() - kept


def _down(known: Mapping[int, Known], snapshot_id: int) -> Iterator[int]:
    current = known.get(snapshot_id)
    while current is not None:
        yield current.snapshot_id
        current = None if current.parent_id is None else known.get(current.parent_id)
