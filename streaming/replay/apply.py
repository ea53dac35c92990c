"""`replay apply`: fold partitions again from raw and publish what differs, while the live job keeps running.

Belongs here: the order of the steps and where they stand. Does not: the comparison and the plan of a publish
(`replace.py`), gathering (`copies.py`).

Each publish brings partitions of one table to the fold of raw at that table's own offset vector, so it fits
in between the live job's: only here, where every copy is read again, may versions be deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from typing import Any

import structlog
from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import DataFrame, SparkSession

from lakehouse import pins
from lakehouse.consistency import standings
from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, TRANSACTIONS, VERSIONS
from lakehouse.errors import LostRace
from lakehouse.offsets import OffsetVector
from lakehouse.patience import Patience
from lakehouse.publish import Plan, Publisher
from lakehouse.refs import Head, read_head
from lakehouse.turns import wait_for_turn
from streaming.curated_job import CURATED_TABLES, CuratedJob, CuratedSettings
from streaming.errors import StreamingError
from streaming.frames import Frames
from streaming.partitions import Partition
from streaming.replay.conflicts import Conflict, Conflicts
from streaming.replay.copies import Copies
from streaming.replay.expected import (
    judged,
    payment_rows,
    require_told,
    untold,
    version_rows,
    with_retired,
    without_retired,
)
from streaming.replay.journal import Journal
from streaming.replay.manner import Interrupted, Manner
from streaming.replay.pinned import (
    count_by_partition,
    partition_sizes,
    pin,
    read_at,
    read_partitions,
    stored_sizes,
)
from streaming.replay.quarantine import replace_quarantined
from streaming.replay.ranges import RawRange, range_of, speaking_of
from streaming.replay.repair import repair
from streaming.replay.replace import Difference, Replacement, difference_of, replacement
from streaming.replay.scope import Scope
from streaming.replay.totals import count_anew, redelivered
from streaming.replay.verify import ReplaySettings, Report
from streaming.replay.work_units import MOST_LOSSES, WorkUnits
from streaming.transactions_job import TransactionsJob, TransactionsSettings

# Of a unit: the first attempt writes it, the others put the same files on a newer head. These mostly fit
# between two publishes of the live job, which is made to wait only where they do not. What is lost even so is
# tried again in halves.
_PATIENCE = Patience(attempts=6, losses_before_turn=3)
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)
_Build = Callable[[Head, Frames], Replacement | None]


@dataclass
class Applied:
    """How far a replay is, and what it changed: rows added and deleted per table."""

    scope: Scope
    tag: str
    vector: OffsetVector  # the scope ends here, however often it is resumed
    is_tagged: bool = False
    is_rebuilt: bool = False
    records: int = 0
    read_to: OffsetVector = field(default_factory=OffsetVector)
    touched: set[Partition] = field(default_factory=set)
    done: dict[str, set[Partition]] = field(default_factory=lambda: {VERSIONS: set(), PAYMENTS: set()})
    changed: Counter[str] = field(default_factory=Counter)
    failed: set[Partition] = field(default_factory=set)  # those whose error the manner tolerates
    conflicts: tuple[Conflict, ...] = ()
    remarks: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {
            "scope": str(self.scope),
            "records": self.records,
            "rebuilt": self.is_rebuilt,
            "partitions": len(self.touched),
            "changed": dict(self.changed),
            "before": self.tag if self.is_tagged else None,
            "repaired": [c.as_json() for c in self.conflicts if c.is_open],
            "remarks": list(self.remarks),
        }

    def saved(self) -> dict[str, Any]:
        """Render for the journal."""
        return {
            "scope": self.scope.digest,
            "tag": self.tag,
            "vector": self.vector.to_json(),
            "is_tagged": self.is_tagged,
            "records": self.records,
            "read_to": self.read_to.to_json(),
            "touched": sorted(self.touched),
            "done": {table: sorted(done) for table, done in self.done.items()},
            "changed": dict(self.changed),
        }

    @classmethod
    def resumed(cls, scope: Scope, saved: dict[str, Any]) -> Applied:
        """Read what `saved` rendered."""
        return cls(
            scope,
            saved["tag"],
            OffsetVector.from_json(saved["vector"]),
            saved["is_tagged"],
            records=saved["records"],
            read_to=OffsetVector.from_json(saved["read_to"]),
            touched={Partition(*p) for p in saved["touched"]},
            done={table: {Partition(*p) for p in done} for table, done in saved["done"].items()},
            changed=Counter(saved["changed"]),
        )


class _Once:
    """What differs in a unit, found once for all attempts of a publish, as long as nobody touched the unit.

    Finding it takes longest: an attempt that has to do it again may never be faster than the live job.
    """

    def __init__(
        self,
        find: Callable[[Head, Frames], Difference | None],
        is_same: Callable[[Head, Head], bool],
    ) -> None:
        self._find = find
        self._is_same = is_same
        self._at: Head | None = None
        self._found: Difference | None = None

    def building(self, plan: Callable[[Head, Difference], Replacement]) -> _Build:
        """Build an attempt's replacement from a head."""

        def build(head: Head, keep: Frames) -> Replacement | None:
            if self._at is None or not self._is_same(self._at, head):
                self._at, self._found = head, self._find(head, keep)
            return None if self._found is None else plan(head, self._found)

        return build


class Applier:
    """Applies one scope. A second run of the same one finds nothing to change."""

    def __init__(
        self,
        catalog: RestCatalog,
        spark: SparkSession,
        settings: ReplaySettings,
        report: Report,
        manner: Manner | None = None,
    ) -> None:
        self._catalog = catalog
        self._spark = spark
        self._settings = settings
        self._report = report
        self._manner = manner or Manner()
        self._watch = self._manner.watch
        self._publisher = Publisher(catalog, self._manner.writer, takes_turns=True)
        self._unit_publisher = Publisher(catalog, self._manner.writer, _PATIENCE, takes_turns=True)

    def run(self, scope: Scope, restart: bool = False) -> Applied:
        """Apply, going on where an earlier run of the same scope and code was interrupted.

        Raises `StreamingError` where live writers were ahead of it again and again; to start again is safe.
        """
        journal = self._journal(scope)
        saved = None if restart else self._saved(scope, journal)
        if saved is None:
            self._copies(scope, None).drop()  # of an earlier run by other code, or one to be forgotten
        with _tracer.start_as_current_span("replay.apply", attributes={"scope": str(scope)}):
            is_rebuilt = scope.is_all and self._rebuild_if_empty()
            state = Applied.resumed(scope, saved) if saved else Applied(scope, self._tag(), self._vector())
            state.is_rebuilt = is_rebuilt
            self._apply(state, journal)
        journal.remove()
        _log.info("replayed", scope=str(scope), records=state.records, changed=dict(state.changed))
        return state

    def is_resumable(self, scope: Scope) -> bool:
        """Tell whether a run of this scope, by this code, was interrupted."""
        return self._saved(scope, self._journal(scope)) is not None

    def forget(self, scope: Scope) -> None:
        """Drop what an interrupted run left: its scratch table, and where it stood."""
        self._copies(scope, None).drop()
        self._journal(scope).remove()

    def _journal(self, scope: Scope) -> Journal:
        return Journal(self._settings.folder, f"apply-{self._manner.name or scope.digest}")

    def _saved(self, scope: Scope, journal: Journal) -> dict[str, Any] | None:
        saved = journal.load()
        return saved if saved is not None and saved["scope"] == scope.digest else None

    def _tag(self) -> str:
        return self._manner.tag or f"before-replay-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"

    def _apply(self, state: Applied, journal: Journal) -> None:
        journal.save(state.saved())
        is_whole = state.scope.is_all or bool(state.scope.partitions)
        vector = self._vector() if is_whole else state.vector
        found = range_of(self._spark, self._catalog, state.scope, vector)
        state.remarks = found.remarks
        copies, source = self._gather(state, found, journal)
        sizes = self._sizes(state, copies)

        def catch_up() -> None:
            copies.catch_up(source, self._settings.chunk_records)

        self._each_unit(
            state, journal, VERSIONS, sizes, catch_up, lambda unit: self._versions(copies, source, unit)
        )
        # Searched for in whole tables, and asked for only where payments differ.
        conflicts = cache(lambda: Conflicts.find(pin(self._spark, self._catalog, self._settings.buckets)))
        self._each_unit(
            state,
            journal,
            PAYMENTS,
            sizes,
            catch_up,
            lambda unit: self._payments(copies, source, unit, conflicts),
        )
        if self._manner.repairs:
            state.conflicts = repair(self._catalog, self._spark, self._settings.buckets)
        if state.scope.is_all:
            if not found.retired:  # else the copies that there were cannot be counted any more
                count_anew(
                    self._spark,
                    self._publisher,
                    lambda head: copies.below(None, head.offsets, source).count(),
                )
            self._fold_transactions(state)
        copies.drop()

    def _fold_transactions(self, state: Applied) -> None:
        """Fold every transaction anew: the table may have been damaged or dropped like the others."""
        settings = TransactionsSettings(self._settings.buckets)
        job = TransactionsJob(self._catalog, self._spark, settings)
        changed = job.run(
            once=True, rebuild=True, report=lambda done, total: self._report("transactions", done, total)
        )
        state.changed.update({f"{TRANSACTIONS}: {change}": count for change, count in changed.items()})

    # -- nothing is there: the live job's own fold, from the first record -----------------------------------

    def _rebuild_if_empty(self) -> bool:
        heads = [read_head(self._catalog, table) for table in CURATED_TABLES]
        if all(list(head.offsets) for head in heads):
            return False
        settings = CuratedSettings(self._settings.buckets, self._settings.chunk_records, decides=False)
        job = CuratedJob(self._catalog, self._spark, settings)
        return (
            job.run(once=True, on_batch=lambda done, left: self._report("rebuilding", done, done + left)) > 0
        )

    # -- reading raw -----------------------------------------------------------------------------------------

    def _vector(self) -> OffsetVector:
        return pin(self._spark, self._catalog, self._settings.buckets).vector

    def _gather(self, state: Applied, found: RawRange, journal: Journal) -> tuple[Copies, RawRange]:
        """Read the records of the scope, put quarantine right, gather every copy of what they speak of."""
        if state.scope.is_all:
            copies, source = self._copies(state.scope, None), found
        elif state.scope.partitions:
            state.touched |= {*state.scope.partitions}
            copies, source = self._copies(state.scope, state.touched), found
        else:
            self._read_scope(state, found, journal)
            copies, source = self._copies(state.scope, state.touched), found
            if state.touched:
                source = speaking_of(self._spark, self._everything(), tuple(state.touched))
        copies.create()
        for chunk, decoded in copies.gather(source, self._settings.chunk_records):
            if state.scope.is_all:
                self._read_chunk(state, chunk, decoded)
                state.records = source.start.records_to(chunk.end)
                journal.save(state.saved())
            self._report("raw", source.start.records_to(chunk.end), source.records)
            self._watch.before()
        return copies, source

    def _everything(self) -> RawRange:
        """All that raw has by now, up to where the tables are.

        The vector is taken first: a head of raw from before it would lack records that the vector counts in.
        """
        vector = self._vector()
        head = read_head(self._catalog, RAW)
        return RawRange(head.snapshot.snapshot_id, head.retired.below, vector, retired=head.retired)

    def _read_scope(self, state: Applied, found: RawRange, journal: Journal) -> None:
        for chunk in found.after(state.read_to).chunks(self._settings.chunk_records):
            with Frames() as keep:
                self._read_chunk(state, chunk, keep(judged(self._spark, self._catalog, chunk)))
            state.read_to = chunk.end
            journal.save(state.saved())
            self._report("scope", found.start.records_to(chunk.end), found.records)

    def _read_chunk(self, state: Applied, chunk: RawRange, decoded: DataFrame) -> None:
        buckets = self._settings.buckets
        touched, broken = count_by_partition(decoded, buckets)
        state.touched |= touched.keys()
        if not state.scope.is_all:  # where rows claim to come from these records, and perhaps do not
            claimed = chunk.narrow(read_partitions(self._spark, VERSIONS, buckets))
            state.touched |= partition_sizes(claimed, buckets).keys()
        state.records += sum(touched.values()) + broken
        self._publish(state, QUARANTINE, lambda head, keep: replace_quarantined(head, chunk, decoded, keep))

    def _copies(self, scope: Scope, partitions: Iterable[Partition] | None) -> Copies:
        name = f"copies_{self._manner.name.replace('-', '_') or scope.digest}"
        return Copies(self._catalog, self._spark, self._settings.buckets, name, partitions)

    # -- folding partitions ----------------------------------------------------------------------------------

    def _sizes(self, state: Applied, copies: Copies) -> dict[Partition, int]:
        """Count what is to be folded in each partition, those included that raw says nothing of."""
        sizes = dict.fromkeys(state.touched, 0) | copies.sizes()
        for name in (VERSIONS, PAYMENTS):
            head = read_head(self._catalog, name)
            stored = stored_sizes(head.table, head.snapshot.snapshot_id)
            wanted = stored if state.scope.is_all else stored.keys() & sizes.keys()
            sizes |= {p: max(stored[p], sizes.get(p, 0)) for p in wanted}
        state.touched |= sizes.keys()
        return sizes

    def _versions(self, copies: Copies, source: RawRange, unit: list[Partition]) -> _Build:
        def find(head: Head, keep: Frames) -> Difference | None:
            have = read_at(self._spark, head, unit, self._settings.buckets)
            told = without_retired(copies.below(unit, head.offsets, source), head.retired)
            told = with_retired(told, have, source.retired)
            return difference_of(VERSIONS, keep(version_rows(told)), have, keep)

        def is_same(before: Head, after: Head) -> bool:
            return copies.are_same(unit, before, after, source)

        return _Once(find, is_same).building(
            lambda head, found: replacement(head, found, unit, self._settings.buckets, redelivered)
        )

    def _payments(
        self, copies: Copies, source: RawRange, unit: list[Partition], conflicts: Callable[[], Conflicts]
    ) -> _Build:
        buckets = self._settings.buckets

        def find(head: Head, keep: Frames) -> Difference | None:
            have = read_at(self._spark, head, unit, buckets)
            told = copies.below(unit, head.offsets, source)
            if source.retired:
                versions = self._versions_at(head, unit)
                if untold(have, versions, source.retired):
                    require_told(conflicts().without(have), versions, source.retired)
                told = with_retired(told, versions, source.retired)
            want = keep(payment_rows(keep(version_rows(without_retired(told, head.retired)))))
            found = difference_of(PAYMENTS, want, have, keep)
            if found is None or not conflicts().found:
                return found
            self._watch.leaves_to_repair()
            return difference_of(PAYMENTS, conflicts().without(want), conflicts().without(have), keep)

        def is_same(before: Head, after: Head) -> bool:
            return copies.are_same(unit, before, after, source)

        return _Once(find, is_same).building(lambda head, found: replacement(head, found, unit, buckets))

    def _versions_at(self, payments: Head, unit: list[Partition]) -> DataFrame:
        """Read versions as they were when they told of the same records as a head of payments."""
        versions = self._catalog.load_table(VERSIONS)
        stood = (snapshot for snapshot, vector in standings(versions) if vector == payments.offsets)
        found = next(stood, None)
        if found is None:
            raise StreamingError(
                f"replay: no kept snapshot of {VERSIONS} stands where {PAYMENTS} stands, so what retention "
                "dropped from raw cannot be told",
                "let the curated job catch up (`paywave stream curated --once`), then run it again",
            )
        return read_partitions(self._spark, VERSIONS, self._settings.buckets, unit, found)

    def _each_unit(
        self,
        state: Applied,
        journal: Journal,
        table: str,
        sizes: dict[Partition, int],
        catch_up: Callable[[], None],
        of_unit: Callable[[list[Partition]], _Build],
    ) -> None:
        """Publish unit by unit, in smaller ones where live writers were first."""
        done = state.done[table]
        over = done | state.failed
        pending = WorkUnits({p: n for p, n in sizes.items() if p not in over}, self._settings.unit_rows)
        while pending:
            unit = pending.take()
            self._watch.before()
            catch_up()
            self._try_unit(state, journal, table, unit, of_unit(unit), pending)
            self._report(table, len(done), len(sizes))

    def _try_unit(
        self,
        state: Applied,
        journal: Journal,
        table: str,
        unit: list[Partition],
        build: _Build,
        pending: WorkUnits,
    ) -> None:
        """Publish a unit, or put it back: in parts if it lost its races, hour by hour if it failed."""
        try:
            replacement = self._publish(state, table, build, self._unit_publisher)
        except LostRace:
            if not pending.lost(unit):
                self._give_up(state, unit, _overtaken(table))
            return
        except Interrupted:
            raise
        except Exception as error:
            hours = _by_hour(unit)
            if len(hours) > 1 and self._watch.tolerates(error):
                pending.put_back_alone(hours)
            else:
                self._give_up(state, unit, error)
            return
        pending.won()
        state.done[table] |= set(unit)
        journal.save(state.saved())
        self._watch.done(table, unit, _changes(table, replacement), state.done)

    def _give_up(self, state: Applied, unit: list[Partition], error: Exception) -> None:
        """Leave a unit undone, with all of its hours: raises the error unless it is tolerated."""
        if not self._watch.tolerates(error):
            raise error
        hours = {partition.hour for partition in unit}
        state.failed |= {p for p in state.touched if p.hour in hours}
        for hour in _by_hour(unit):
            self._watch.failed(hour, error)

    # -- publishing ------------------------------------------------------------------------------------------

    def _publish(
        self, state: Applied, table: str, build: _Build, publisher: Publisher | None = None
    ) -> Replacement | None:
        found: list[Replacement | None] = []
        with Frames() as keep:

            def plan(head: Head) -> Plan | None:
                found[:] = [build(head, keep)]
                if found[0] is not None:
                    self._remember(state)
                return found[0].plan if found[0] is not None else None

            wait_for_turn(self._catalog, table)
            (publisher or self._publisher).publish(table, plan)
        if found[0] is not None:
            state.changed[f"{table}: added"] += found[0].added
            state.changed[f"{table}: deleted"] += found[0].removed
        return found[0]

    def _remember(self, state: Applied) -> None:
        """Tag the tables as they are before the first change, once."""
        if state.is_tagged:
            return
        for table in CURATED_TABLES:
            pins.pin(self._catalog, table, state.tag)
        state.is_tagged = True


def _overtaken(table: str) -> StreamingError:
    return StreamingError(
        f"replay: live writers published first in {table}, {MOST_LOSSES} times in a row, however few rows",
        "run it again, at a quieter time; what is done stays done",
    )


def _by_hour(unit: Iterable[Partition]) -> list[list[Partition]]:
    return [list(hour) for _, hour in groupby(sorted(unit), lambda partition: partition.hour)]


def _changes(table: str, replacement: Replacement | None) -> Mapping[str, Mapping[int, int]]:
    if replacement is None:
        return {}
    return {f"{table}: added": replacement.added_in, f"{table}: deleted": replacement.removed_in}
