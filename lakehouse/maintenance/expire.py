"""Expiry: snapshots that nobody keeps are forgotten, and the files that only they needed are removed.

Belongs here: the order of the steps and the one commit. Does not: which snapshots are kept (`keep.py`), files
of no snapshot (`orphans.py`).

A process that dies between the commit and the last removal leaves files that no snapshot knows: orphans.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

import structlog
from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AssertRefSnapshotId, AssertTableUUID, RemoveSnapshotsUpdate

from lakehouse.definitions import BY_NAME, SNAPSHOTS_KEPT
from lakehouse.errors import LostRace
from lakehouse.maintenance.keep import Keep, Known, expirable
from lakehouse.maintenance.measure import Figures, current, figures_of
from lakehouse.maintenance.reachable import files_of, lists_of, manifests_of, remove
from lakehouse.refs import LAST_PINNED, MAIN, PROGRESS_TAG, ancestry, snapshot_of, stamp_of

OLDER_THAN = timedelta(hours=6)
_ATTEMPTS, _PAUSE_SECONDS = 20, 1.0
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True)
class ExpireSettings:
    """What is kept beside refs and hints: the newest so many of main's history, and all younger than this."""

    newest: int = SNAPSHOTS_KEPT
    older_than: timedelta = OLDER_THAN

    def keep(self) -> Keep:
        """Say it as of now."""
        return Keep(self.newest, int((time.time() - self.older_than.total_seconds()) * 1000))


@dataclass(frozen=True)
class Expired:
    """What became of one table: snapshots expired and files removed; with a dry run, those that would be."""

    table: str
    snapshots: int
    files: int
    attempts: int
    before: Figures
    after: Figures

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return asdict(self)


class Expirer:
    """Expires snapshots of one table after another.

    Args:
        keep_log: is called before: it keeps what they say.
        readers: snapshots that readers elsewhere go on from, as our own jobs do.
    """

    def __init__(
        self,
        catalog: RestCatalog,
        keep_log: Callable[[], object],
        settings: ExpireSettings,
        readers: Collection[int] = (),
    ) -> None:
        self._catalog = catalog
        self._keep_log = keep_log
        self._settings = settings
        self._readers = frozenset(readers)

    def run(self, names: Iterable[str], dry_run: bool = False) -> list[Expired]:
        """Expire what may expire.

        Raises `LostRace` where writers moved the refs through all attempts; to start again is safe.
        """
        hints = self._hints()
        tables = [self._catalog.load_table(name) for name in names]
        if not dry_run and any(self._chosen(table, hints) for table in tables):
            self._keep_log()
        return [self._expire(table, dry_run) for table in tables]

    def _expire(self, logged: Table, dry_run: bool) -> Expired:
        """Expire of a table what was there when the log was kept, and files that nothing else needs."""
        name, ids = ".".join(logged.name()), {s.snapshot_id for s in logged.metadata.snapshots}
        with _tracer.start_as_current_span("maintain.expire", attributes={"table": name}):
            for attempt in range(1, _ATTEMPTS + 1):
                hints = self._hints()
                table = self._catalog.load_table(name)  # last, so that little can happen before the commit
                chosen = self._chosen(table, hints) & ids
                if not chosen or dry_run:
                    unneeded = _unneeded(table, *_split(table, chosen))
                    figures = figures_of(table)
                    return Expired(name, len(chosen), len(unneeded), attempt, figures, figures)
                if self._forget(table, chosen):
                    return self._clean(table, chosen, attempt)
        raise LostRace(
            f"table {name}: in {_ATTEMPTS} attempts to expire snapshots, writers moved its refs each time",
            "start again at a quieter time; nothing was changed",
        )

    def _chosen(self, table: Table, hints: Collection[int]) -> set[int]:
        refs = table.metadata.refs
        others = {name: ref for name, ref in refs.items() if name != MAIN}
        return expirable(
            [Known(s.snapshot_id, s.parent_snapshot_id, s.timestamp_ms) for s in table.metadata.snapshots],
            current(table).snapshot_id,
            [r.snapshot_id for r in others.values() if r.snapshot_ref_type == SnapshotRefType.BRANCH],
            [r.snapshot_id for r in others.values() if r.snapshot_ref_type == SnapshotRefType.TAG],
            {*hints, *_last_word(table)},
            self._settings.keep(),
        )

    def _hints(self) -> set[int]:
        """Find the snapshots, of whatever table, that the jobs and other readers go on reading from."""
        found = set(self._readers)
        for name in BY_NAME:
            try:
                progress = snapshot_of(self._catalog.load_table(name).metadata, PROGRESS_TAG)
            except NoSuchTableError:  # dropped, to be rebuilt
                continue
            stamp = stamp_of(progress) if progress is not None else None
            if stamp is not None and stamp.source_snapshot is not None:
                found.add(stamp.source_snapshot)
        return found

    def _forget(self, table: Table, chosen: Collection[int]) -> bool:
        """Take snapshots out of the table, if every ref is where it was. Returns whether that was so."""
        # The catalog drops a tag whose snapshot goes: LAST_PINNED has moved where one was set meanwhile.
        seen: dict[str, int | None] = {LAST_PINNED: None}
        seen |= {name: ref.snapshot_id for name, ref in table.metadata.refs.items()}
        requirements = (
            AssertTableUUID(uuid=table.metadata.table_uuid),
            *(AssertRefSnapshotId(ref=n, snapshot_id=id_) for n, id_ in seen.items()),
        )
        try:
            self._catalog.commit_table(
                table, requirements, (RemoveSnapshotsUpdate(snapshot_ids=sorted(chosen)),)
            )
        except CommitFailedException:
            return False
        except Exception as error:  # the answer is lost, perhaps: the table knows
            _log.warning("commit unclear", table=table.name(), error=type(error).__name__)
            time.sleep(_PAUSE_SECONDS)
            left = self._catalog.load_table(table.name()).metadata.snapshots
            return not any(s.snapshot_id in chosen for s in left)
        return True

    def _clean(self, before: Table, expired: Collection[int], attempts: int) -> Expired:
        """Remove the files that only expired snapshots needed, by what the table needs now."""
        table = self._catalog.load_table(before.name())
        gone, _ = _split(before, expired)
        unneeded = _unneeded(table, gone, table.metadata.snapshots)
        remove(table.io, unneeded)
        name = ".".join(before.name())
        _log.info("expired", table=name, snapshots=len(gone), files=len(unneeded))
        return Expired(name, len(gone), len(unneeded), attempts, figures_of(before), figures_of(table))


def _last_word(table: Table) -> Iterator[int]:
    """Find the newest snapshot of main that we stamped: the running counts, and what retention dropped.

    Commits of others have none, however many came since.
    """
    ours = (s.snapshot_id for s in ancestry(table.metadata, current(table)) if stamp_of(s) is not None)
    yield from islice(ours, 1)


def _split(table: Table, chosen: Collection[int]) -> tuple[list[Snapshot], list[Snapshot]]:
    """Divide a table's snapshots into those that are chosen, and the others."""
    gone = [s for s in table.metadata.snapshots if s.snapshot_id in chosen]
    return gone, [s for s in table.metadata.snapshots if s.snapshot_id not in chosen]


def _unneeded(table: Table, gone: Collection[Snapshot], kept: Collection[Snapshot]) -> set[str]:
    """Find the files that snapshots which are gone needed and those that are kept do not."""
    if not gone:
        return set()
    ours, others = manifests_of(table, gone), manifests_of(table, kept)
    going = [manifest for path, manifest in ours.items() if path not in others]
    files = files_of(table, going)
    if files:
        files -= files_of(table, others.values())
    return files | {manifest.manifest_path for manifest in going} | (lists_of(gone) - lists_of(kept))
