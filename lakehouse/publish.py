"""The publish protocol: how every table is written. Stage on a private branch, audit, swap in one commit.

Belongs here: the protocol (design section 6, docs/adr/0001-publish-protocol.md), whole.
Does not: what is written (the jobs), how Spark writes to a branch (`staging.py`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar, cast

import structlog
from opentelemetry import metrics, trace
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import (
    BadRequestError,
    CommitFailedException,
    ForbiddenError,
    NoSuchTableError,
    UnauthorizedError,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotRefUpdate,
    TableUpdate,
)

from lakehouse.arrivals import Arrivals
from lakehouse.audit import check_readable
from lakehouse.errors import AuditFailed, ConcurrentWriter, LakehouseError, LostRace, OutcomeUnknown
from lakehouse.offsets import OffsetVector
from lakehouse.patience import DEFAULT, Failures, Patience, Waiting
from lakehouse.refs import (
    MAIN,
    PROGRESS_TAG,
    Head,
    ancestry,
    branch_to,
    read_head,
    snapshot_of,
    stamp_of,
    tag_to,
)
from lakehouse.retired import NOTHING, Retired
from lakehouse.right_of_way import HOLD_TAG, TURN_TAG, ask, let_pass, release
from lakehouse.stamp import Stamp

STAGE_PREFIX = "stage_"
LOSSES_BEFORE_HOLD = 2
# Answers that say what is wrong: asking again would only give the same one.
_FINAL = (
    LakehouseError,
    BadRequestError,
    CommitFailedException,
    ForbiddenError,
    NoSuchTableError,
    UnauthorizedError,
)
T = TypeVar("T")


def _installed() -> str | None:
    try:
        return version("paywave-lakehouse")
    except PackageNotFoundError:  # run from a folder, as in a pod that mounts the source
        return None


CODE_VERSION = _installed()
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)
_meter = metrics.get_meter(__name__)
_published = _meter.create_counter("paywave.publish.snapshots", unit="{snapshot}")
_lost = _meter.create_counter("paywave.publish.lost_races", unit="{attempt}")
_seconds = _meter.create_histogram("paywave.publish.duration", unit="s")


@dataclass(frozen=True)
class Stage:
    """A private branch that starts at `head`; whoever writes to it stamps `properties` on each snapshot."""

    head: Head
    branch: str
    stamp: Stamp

    @property
    def identifier(self) -> str:
        """Name of the branch as Spark takes it, within the catalog: `db.table.branch_x`."""
        return f"{self.head.name}.branch_{self.branch}"

    @property
    def properties(self) -> dict[str, str]:
        """Summary properties for every snapshot on the stage."""
        return self.stamp.properties()


@dataclass(frozen=True)
class Plan:
    """What one attempt writes, computed from the head it was given.

    Args:
        write: stages the rows: one or more snapshots on the stage's branch, each stamped.
        audit: checks the staged table and snapshot; raises `AuditFailed` and nothing is published.
        progress: how far the source is consumed then; None leaves the tag `progress` where it is.
        totals: running counts after this publish; those not named stay as they are.
        retired: what retention has dropped then; nothing leaves what the head says as it is.
        complete_to, arrivals and the rest: what the stamp is to say besides (`stamp.py`).
    """

    write: Callable[[Stage], None]
    audit: Callable[[Table, Snapshot], None]
    progress: OffsetVector | None = None
    contract_version: int | None = None
    source_snapshot: int | None = None
    complete_to: datetime | None = None
    arrivals: tuple[Arrivals, ...] = ()
    totals: Mapping[str, int] = field(default_factory=dict)
    retired: Retired = NOTHING
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """What a publish left behind."""

    table: str
    snapshot_id: int
    token: str
    attempts: int


class Outcome(Enum):
    """What reading the table after an exception says of a commit."""

    PUBLISHED = auto()
    PENDING = auto()
    LOST = auto()


class Publisher:
    """Publishes to the tables of one catalog on behalf of one writer.

    `writer` names the role, in letters and digits: `raw`, `curated`, `compact`, …. It owns the branches that
    it stages on. One that `takes_turns` has those wait that consume a source, once it lost to them.
    """

    def __init__(
        self, catalog: RestCatalog, writer: str, patience: Patience = DEFAULT, takes_turns: bool = False
    ) -> None:
        if not writer.isalnum():
            raise ValueError(f"writer {writer!r}: letters and digits only, it becomes part of branch names")
        self.catalog = catalog
        self.writer = writer
        self._patience = patience
        self._takes_turns = takes_turns
        # Where our last publish left each table that we consume into: only we are to move it on.
        self._left_at: dict[str, OffsetVector] = {}

    def publish(self, table: str, build: Callable[[Head], Plan | None]) -> Published | None:
        """Build, stage, audit and publish; build again from the new head whenever somebody else was first.

        Args:
            table: the table's name, `db.table`.
            build: computes the plan from a head; None means that there is nothing left to do. It is called
                once per attempt, and keeps of an earlier one only what it finds to be the same at the head.

        Returns:
            What was published, or None where there was nothing to do.

        Raises:
            AuditFailed: the staged rows break an invariant; main is as it was.
            ConcurrentWriter: another writer consumed the same source, meanwhile or since our last publish.
            LostRace: main kept moving through all attempts.
            OutcomeUnknown: the catalog stayed silent; starting again is safe.
            RolledBack: main lost its own progress.
        """
        built_on = self._left_at.get(table)
        failures = Failures(self._patience)
        for attempt in range(1, self._patience.attempts + 1):
            head = self._read_head(table) if built_on is None else self._read_head_in_turn(table)
            # Before building: the other writer may have left nothing to do, and would go unnoticed.
            if built_on is not None and head.offsets != built_on:
                raise _overtaken(table, self.writer, built_on, head)
            plan = build(head)
            if plan is None:
                return None
            if plan.progress is not None:
                built_on = head.offsets
            try:
                published = self._attempt(head, plan, attempt)
            except LakehouseError:
                raise
            except Exception as error:  # staging failed: its branch is gone, so building again is safe
                failures.record(table, error)
                continue
            if published is not None:
                if plan.progress is not None:
                    self._left_at[table] = plan.progress
                return published
            _lost.add(1, {"table": table, "writer": self.writer})
            self._ask(table, plan, attempt)
        if self._takes_turns:
            release(self.catalog, self._load(table), TURN_TAG)
        raise LostRace(
            f"table {table}: {self.writer} lost {self._patience.attempts} races in a row, main kept moving",
            "find out which writer commits so often: `paywave status`; nothing was lost, start again",
        )

    def _attempt(self, head: Head, plan: Plan, attempt: int) -> Published | None:
        token = uuid.uuid4().hex
        stamp = Stamp(
            token,
            self.writer,
            plan.progress,
            plan.contract_version,
            plan.source_snapshot,
            plan.complete_to,
            plan.arrivals,
            {**head.totals, **plan.totals},
            plan.retired or head.retired,
            plan.notes,
            CODE_VERSION,
        )
        stage = Stage(head, f"{STAGE_PREFIX}{self.writer}_{time.time_ns() // 1_000_000}_{token[:12]}", stamp)
        started = time.monotonic()
        with _tracer.start_as_current_span(
            "publish", attributes={"table": head.name, "writer": self.writer, "token": token}
        ) as span:
            try:
                self._open(stage)
                plan.write(stage)
                table = self._load(head.name)
                staged = self._audit(table, stage, plan)
                outcome = self._swap(stage, staged)
            except OutcomeUnknown:
                raise  # the branch may be the only trace of the commit: leave it to the sweep
            except BaseException:
                self._drop(stage)
                raise
            span.set_attribute("outcome", outcome.name.lower())
        if outcome is Outcome.LOST:
            self._drop(stage)
            return None
        _published.add(1, {"table": head.name, "writer": self.writer})
        _seconds.record(time.monotonic() - started, {"table": head.name, "writer": self.writer})
        _log.info("published", table=head.name, snapshot_id=staged.snapshot_id, token=token, attempt=attempt)
        return Published(head.name, staged.snapshot_id, token, attempt)

    # -- 1. stage ------------------------------------------------------------------------------------------

    def _open(self, stage: Stage) -> None:
        """Create the stage's branch at the parent. The name is fresh, so submitting it again is harmless."""
        parent = stage.head.snapshot.snapshot_id
        requirements = (
            AssertTableUUID(uuid=stage.head.table.metadata.table_uuid),
            AssertRefSnapshotId(ref=stage.branch, snapshot_id=None),
        )

        def create() -> None:
            try:
                self.catalog.commit_table(stage.head.table, requirements, (branch_to(stage.branch, parent),))
            except CommitFailedException:
                branch = snapshot_of(self._load(stage.head.name).metadata, stage.branch)
                if branch is None or branch.snapshot_id != parent:
                    raise

        self._insist(create, f"creating the branch {stage.branch} of {stage.head.name}")

    # -- 2. audit ------------------------------------------------------------------------------------------

    def _audit(self, table: Table, stage: Stage, plan: Plan) -> Snapshot:
        staged = snapshot_of(table.metadata, stage.branch)
        if staged is None or staged.snapshot_id == stage.head.snapshot.snapshot_id:
            raise AuditFailed(
                f"table {stage.head.name}: nothing was staged on {stage.branch}", table=stage.head.name
            )
        check_chain(table, staged, stage)
        check_readable(stage.head.name, staged, table.metadata)
        plan.audit(table, staged)
        return staged

    # -- 3. publish ----------------------------------------------------------------------------------------

    def _swap(self, stage: Stage, staged: Snapshot) -> Outcome:
        """Submit the one commit, and the same one again for as long as its outcome is open."""
        head = stage.head
        requirements = (
            AssertTableUUID(uuid=head.table.metadata.table_uuid),
            AssertRefSnapshotId(ref=MAIN, snapshot_id=head.snapshot.snapshot_id),
        )
        updates: list[TableUpdate] = [branch_to(MAIN, staged.snapshot_id)]
        if stage.stamp.progress is not None:
            updates.append(tag_to(PROGRESS_TAG, staged.snapshot_id))
        asked = HOLD_TAG if stage.stamp.progress is not None else TURN_TAG
        if asked in head.table.metadata.refs:
            updates.append(RemoveSnapshotRefUpdate(ref_name=asked))
        updates.append(RemoveSnapshotRefUpdate(ref_name=stage.branch))
        waiting = Waiting(self._patience)
        while True:
            try:
                self.catalog.commit_table(head.table, requirements, tuple(updates))
                return Outcome.PUBLISHED
            except Exception as error:
                outcome = resolve(self._load(head.name), stage, staged)
                _log.warning(
                    "commit unclear", table=head.name, error=type(error).__name__, found=outcome.name
                )
                if outcome is not Outcome.PENDING:
                    return outcome
                waiting.pause(f"publishing to {head.name}", error)

    def _ask(self, table: str, plan: Plan, losses: int) -> None:
        """Ask those who were first to wait; that the tag may not get in is no harm.

        One that consumes is fast and mostly gets in by itself. A backfill knows what its attempts cost.
        """
        if plan.progress is None and self._takes_turns and losses >= self._patience.losses_before_turn:
            ask(self.catalog, self._load(table), TURN_TAG)
        elif plan.progress is not None and losses >= LOSSES_BEFORE_HOLD:
            ask(self.catalog, self._load(table), HOLD_TAG)

    def _read_head_in_turn(self, table: str) -> Head:
        """Read the head once nobody has the turn any more, or has had it for long enough."""
        head = self._read_head(table)
        if let_pass(self.catalog, head.table, table, self._patience.turn_seconds):
            head = self._read_head(table)
        return head

    def _drop(self, stage: Stage) -> None:
        """Drop a stage that will not be published. If that fails, the sweep drops it later."""
        try:
            drop_branch(self.catalog, stage.head.table, stage.branch)
        except Exception as error:
            _log.warning("stage left behind", branch=stage.branch, error=type(error).__name__)

    def _load(self, table: str) -> Table:
        def load() -> Table:
            return cast(Table, self.catalog.load_table(table))  # untyped behind pyiceberg's retry decorator

        return self._insist(load, f"reading the table {table}")

    def _read_head(self, table: str) -> Head:
        return self._insist(lambda: read_head(self.catalog, table), f"reading the table {table}")

    def _insist(self, request: Callable[[], T], doing: str) -> T:
        """Repeat a harmless request until it is answered or patience ends; our own errors pass through."""
        waiting = Waiting(self._patience)
        while True:
            try:
                return request()
            except _FINAL:
                raise
            except Exception as error:
                waiting.pause(doing, error)


def check_chain(table: Table, staged: Snapshot, stage: Stage) -> None:
    """Check that every snapshot from the staged one down to the parent is ours. Raises `AuditFailed`."""
    parent = stage.head.snapshot.snapshot_id
    for snapshot in ancestry(table.metadata, staged):
        if snapshot.snapshot_id == parent:
            return
        stamp = stamp_of(snapshot)
        if stamp is None or stamp.token != stage.stamp.token:
            raise AuditFailed(
                f"table {stage.head.name}: snapshot {snapshot.snapshot_id} on {stage.branch} is not ours",
                table=stage.head.name,
            )
    raise AuditFailed(
        f"table {stage.head.name}: {stage.branch} does not end at its parent {parent}", table=stage.head.name
    )


def resolve(table: Table, stage: Stage, staged: Snapshot) -> Outcome:
    """Tell from the table what became of a swap whose answer was lost or was an error.

    The swap drops the stage's branch, so a branch that is still there says that it was not applied; one
    that is gone decides where expiry has cut main's history off above the staged snapshot.
    """
    main, branch = snapshot_of(table.metadata, MAIN), snapshot_of(table.metadata, stage.branch)
    if main is None:
        return Outcome.LOST
    oldest = main
    for oldest in ancestry(table.metadata, main):
        if oldest.snapshot_id == staged.snapshot_id:
            return Outcome.PUBLISHED
    parent_id = stage.head.snapshot.snapshot_id
    if branch is not None and branch.snapshot_id == staged.snapshot_id:
        return Outcome.PENDING if main.snapshot_id == parent_id else Outcome.LOST
    if main.snapshot_id == parent_id:  # swept as abandoned, or published and rolled back: not ours to repeat
        return Outcome.LOST
    is_cut_above = _sequence(oldest) > _sequence(staged) and oldest.parent_snapshot_id != parent_id
    return Outcome.PUBLISHED if is_cut_above else Outcome.LOST


def drop_branch(catalog: RestCatalog, table: Table, branch: str) -> None:
    """Drop a branch if the table is still the same; a branch that is gone already is fine."""
    catalog.commit_table(
        table,
        (AssertTableUUID(uuid=table.metadata.table_uuid),),
        (RemoveSnapshotRefUpdate(ref_name=branch),),
    )


def _sequence(snapshot: Snapshot) -> int:
    return snapshot.sequence_number or 0


def _overtaken(table: str, writer: str, first: OffsetVector, head: Head) -> ConcurrentWriter:
    return ConcurrentWriter(
        f"table {table}: while {writer} was building on progress {first.to_json()}, writer "
        f"{head.progress.writer} (token {head.progress.token}) moved it to {head.offsets.to_json()}: "
        "two of them run against one table",
        "this one stops and nothing is lost; end the other one before starting again",
    )
