"""The gates of the curated job: whether a batch may be published, and whose slice is held.

Belongs here: deciding by the policy, and recording each change before it has an effect. Does not: the policy
(`quality/policy.py`), what the records of holds come to (`lakehouse/gates.py`), the checks of staged rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import structlog
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from lakehouse.definitions import VERSIONS
from lakehouse.errors import AuditFailed
from lakehouse.gate_log import Choose, GateLog
from lakehouse.gates import CLOSED, HELD, HOLD_ENDED, OPENED, GateEvent, GateState, Hold
from lakehouse.offsets import OffsetVector
from lakehouse.refs import MAIN, read_head, snapshot_of
from quality.policy import SLICE_SURGE, SURGE, gate
from quality.surge import Counts, Source, Tally, Window, is_general, middle_share, surging
from streaming.errors import GateClosed

_log = structlog.get_logger(__name__)


class Gates:
    """What the job knows of its gates: the log, which decides, and a window in memory.

    The window only has a say in when a hold begins or ends, and that is recorded. A job that starts again
    goes by the log.
    """

    def __init__(self, catalog: RestCatalog, spark: SparkSession, actor: str) -> None:
        self._catalog = catalog
        self._spark = spark
        self._actor = actor
        self._log = GateLog(catalog)
        self._state = GateState()
        self._window = Window()

    def tidy(self) -> None:
        """Drop what a killed job left behind."""
        self._log.tidy()

    def look(self) -> None:
        """Read what the log says now; costs one request."""
        self._state = self._log.state()

    def holds_between(self, start: OffsetVector, end: OffsetVector) -> tuple[Hold, ...]:
        """The holds that a batch may be under."""
        return self._state.holds_between(start, end)

    def let_pass(self, start: OffsetVector, max_records: int) -> OffsetVector | None:
        """Where a batch from `start` on must end for an override to cover it; None: there is no override."""
        ends = self._state.lets_pass(SURGE, start)
        return None if ends is None else start.part_way(start.greatest(ends), max_records)

    def heed_overrides(self, start: OffsetVector) -> None:
        """End the holds that a person has overridden, from `start` on."""
        ended = {event.source for event in overridden_holds(self._state, start)}
        self._record(start, lambda state: overridden_holds(state, start))
        for source in ended:  # what was let pass says nothing about what follows
            self._window.forget(source)

    def decide(
        self, start: OffsetVector, end: OffsetVector, tally: Counts, examples: Callable[[], list[str]]
    ) -> None:
        """Begin and end holds from the batch's `start` on, before anything of the batch is published.

        Args:
            tally: the batch's records by partner.
            examples: names a few records that break the contract.

        Raises:
            GateClosed: all partners surge at once, and nobody lets the batch pass.
        """
        found = self._window.with_batch(tally, self._state.held_sources())
        if not is_general(found):
            self._record(start, lambda state: changed_holds(state, start, found))
        elif self._state.lets_pass(SURGE, start) is None:
            raise self._close(_general(found, examples()), start, end)

    @contextmanager
    def watching(self, start: OffsetVector, end: OffsetVector) -> Iterator[None]:
        """Close the gate of an audit that fails while this batch is published; raises `GateClosed`."""
        try:
            yield
        except AuditFailed as error:
            event = GateEvent(CLOSED, error.gate, str(error), "", table_name=error.table or None)
            raise self._close(event, start, end) from error

    def passed(self, start: OffsetVector, tally: Counts) -> None:
        """Note that the batch from `start` on is published: what was closed is open."""
        if self._state.lets_pass(SURGE, start) is None:  # what was let pass says nothing about what follows
            let_pass = {s for s in tally if self._state.lets_pass(SLICE_SURGE, start, s) is not None}
            seen = {source: counts for source, counts in tally.items() if source not in let_pass}
            self._window.add(seen, self._state.held_sources())
        for held in self._state.standing:
            if held.event == HELD and held.starts == start:  # later records say when it ends
                self._window.forget(held.source)
        if self._state.closed():
            self._append(lambda state: [_opened(event, self._actor) for event in state.closed()])

    def _record(self, start: OffsetVector, choose: Choose) -> None:
        """Record changes of holds that take effect from `start` on, if there are any.

        If another job has moved the tables on meanwhile, nothing is: our publish will find out and stop.
        """

        def chosen(state: GateState) -> list[GateEvent]:
            found = [replace(event, actor=self._actor) for event in choose(state)]
            is_ours = not found or read_head(self._catalog, VERSIONS).offsets == start
            return found if is_ours else []

        if choose(self._state):
            self._append(chosen)

    def _append(self, choose: Choose) -> None:
        self._log.append(self._spark, choose)
        self.look()

    def _close(self, event: GateEvent, start: OffsetVector, end: OffsetVector) -> GateClosed:
        """Record that a gate is closed, once; returns the error that says so."""
        event = replace(event, actor=self._actor, starts=start, ends=end)

        def unless_known(state: GateState) -> list[GateEvent]:
            is_known = any(event.about == known.about for known in state.closed())
            return [] if is_known else [replace(event, snapshot_id=self._kept(event.table_name))]

        try:
            self._append(unless_known)
        except Exception as error:  # it stays closed all the same
            _log.error("gate not logged", gate=event.gate, error=str(error)[:300])
        return _error(event)

    def _kept(self, table: str | None) -> int | None:
        """The snapshot of a table that readers keep."""
        main = snapshot_of(self._catalog.load_table(table).metadata, MAIN) if table else None
        return main.snapshot_id if main is not None else None


def changed_holds(state: GateState, start: OffsetVector, found: Counts) -> list[GateEvent]:
    """Say which holds begin and which end with a batch that starts at `start`.

    Args:
        found: the latest records of each partner of which enough is known, this batch included.
    """
    over = set(surging(found))
    changes = (_change(state, start, source, tally, source in over) for source, tally in found.items())
    return [change for change in changes if change is not None]


def overridden_holds(state: GateState, start: OffsetVector) -> list[GateEvent]:
    """Say which holds end at `start` because a person said so after they had begun."""
    ended = []
    for held in (event for event in state.standing if event.event == HELD):
        said = state.override(SLICE_SURGE, held.source)
        if said is not None and said.seq > held.seq and state.may_decide(held.source, start):
            ended.append(_end(held, start, f"overridden by {said.actor}: {said.reason}"))
    return ended


def _change(
    state: GateState, start: OffsetVector, source: Source, tally: Tally, is_over: bool
) -> GateEvent | None:
    held = state.held(source)
    if is_over is (held is not None) or not state.may_decide(source, start):
        return None
    told = f"{tally.broken:,} of the latest {tally.records:,} records of {name_of(source)} break the contract"
    if held is not None:
        return replace(_end(held, start, told), measured=tally.share)
    if state.lets_pass(SLICE_SURGE, start, source) is not None:
        return None
    limit = gate(SLICE_SURGE).limit
    begins = GateEvent(HELD, SLICE_SURGE, told, "", source=source, starts=start)
    return replace(begins, measured=tally.share, threshold=limit)


def name_of(source: Source) -> str:
    """Name a partner in a sentence."""
    return "no partner named" if source is None else source


def _end(held: GateEvent, start: OffsetVector, reason: str) -> GateEvent:
    return replace(held, event=HOLD_ENDED, reason=reason, ends=start, measured=None)


def _opened(closed: GateEvent, actor: str) -> GateEvent:
    return replace(closed, event=OPENED, reason="the batch was published", actor=actor, measured=None)


def _general(found: Counts, examples: list[str]) -> GateEvent:
    worst = sorted(found.items(), key=lambda item: item[1].share, reverse=True)[:3]
    shares = ", ".join(f"{name_of(source)} {tally.share:.1%}" for source, tally in worst)
    share = middle_share(found)
    reason = (
        f"of {len(found)} partners the one in the middle has {share:.1%} of its records broken, "
        f"{gate(SURGE).limit:.0%} is the limit (most: {shares}; for example {', '.join(examples)})"
    )
    return GateEvent(CLOSED, SURGE, reason, "", measured=share, threshold=gate(SURGE).limit)


def _error(event: GateEvent) -> GateClosed:
    row = gate(event.gate)
    way_out = (
        f'if it is right as it is: `paywave gate override {row.name} --reason "…"`'
        if row.overridable
        else "no person can let it pass"
    )
    return GateClosed(
        f"gate {row.name} is closed: {event.reason}",
        "nothing of it was published, the tables stay readable as they are, and the job goes on by itself "
        f"once the cause is gone; {way_out}",
    )
