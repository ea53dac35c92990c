"""What the gate log comes to: which slices were held over which offsets, what is closed or let pass. Pure.

Belongs here: events, holds, and the state that they add up to. Does not: reading and writing the log
(`gate_log.py`), deciding (`streaming/gates.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from lakehouse.errors import GateRefused
from lakehouse.fold import Coordinates
from lakehouse.offsets import OffsetVector
from quality.contract import Violation
from quality.policy import SLICE_HELD, gate

CLOSED, OPENED = "closed", "opened"
HELD, HOLD_ENDED = "held", "hold_ended"
OVERRIDDEN = "overridden"
# The same words for every record, whenever it is judged: what `replay` expects is what the live job wrote.
HELD_VIOLATION = Violation(
    SLICE_HELD, "", "", "valid, but its partner was held then: redrive it when the hold is over"
)


@dataclass(frozen=True)
class GateEvent:
    """One change of state; the fields are the columns of the log (`definitions/gates.py`)."""

    event: str
    gate: str
    reason: str
    actor: str
    table_name: str | None = None
    source: str | None = None
    starts: OffsetVector | None = None
    ends: OffsetVector | None = None
    measured: Decimal | None = None
    threshold: Decimal | None = None
    snapshot_id: int | None = None
    seq: int = 0
    at: datetime | None = None

    @property
    def about(self) -> tuple[str, str | None, str | None]:
        """What it is a state of: gate, table, partner."""
        return self.gate, self.table_name, self.source


@dataclass(frozen=True)
class Hold:
    """A partner's slice in quarantine: its records from `start` on, up to `end`; None: it stands."""

    source: str | None
    start: OffsetVector
    end: OffsetVector | None = None

    def holds(self, source: str | None, record: Coordinates) -> bool:
        """Tell whether it holds a record, if that is valid and no redrive."""
        topic, partition, offset = record
        return (
            source == self.source
            and offset >= self.start.next_offset(topic, partition)
            and (self.end is None or offset < self.end.next_offset(topic, partition))
        )

    def touches(self, start: OffsetVector, end: OffsetVector) -> bool:
        """Tell whether it may be about records between two vectors."""
        is_over = self.end is not None and start.covers(self.end)
        return not is_over and not self.start.covers(end)


@dataclass(frozen=True)
class GateState:
    """What the events come to.

    Args:
        holds: every hold there ever was, in order; those that stand have no end.
        standing: the events that closed a gate or held a slice which is so still.
        overrides: the latest override of each gate and partner.
    """

    holds: tuple[Hold, ...] = ()
    standing: tuple[GateEvent, ...] = ()
    overrides: tuple[GateEvent, ...] = ()

    @classmethod
    def of(cls, events: Iterable[GateEvent]) -> GateState:
        """Add up events, in their order."""
        state = cls()
        for event in events:
            state = _STEPS[event.event](state, event)
        return state

    def holds_between(self, start: OffsetVector, end: OffsetVector) -> tuple[Hold, ...]:
        """The holds that records between two vectors may be under."""
        return tuple(hold for hold in self.holds if hold.touches(start, end))

    def held(self, source: str | None) -> GateEvent | None:
        """The event that began the partner's standing hold."""
        return next((e for e in self.standing if e.event == HELD and e.source == source), None)

    def held_sources(self) -> frozenset[str | None]:
        """The partners that are held now."""
        return frozenset(event.source for event in self.standing if event.event == HELD)

    def closed(self) -> tuple[GateEvent, ...]:
        """The events that closed gates which are closed still."""
        return tuple(event for event in self.standing if event.event == CLOSED)

    def override(self, gate: str, source: str | None = None) -> GateEvent | None:
        """The latest override of a gate, for a partner where the gate is about one."""
        return next((e for e in self.overrides if (e.gate, e.source) == (gate, source)), None)

    def lets_pass(self, gate: str, start: OffsetVector, source: str | None = None) -> OffsetVector | None:
        """Up to which offsets an override lets a batch pass that starts there; None: there is none now.

        It is bound to what was blocked when it was given, never for ever.
        """
        found = self.override(gate, source)
        is_over = found is None or found.ends is None or start.covers(found.ends)
        return None if is_over else found.ends  # type: ignore[union-attr]

    def may_decide(self, source: str | None, start: OffsetVector) -> bool:
        """Tell whether a batch that starts there is new to a partner's holds.

        Tables that are rebuilt come by records that were decided about long ago: the log stands.
        """
        known = [vector for h in self.holds if h.source == source for vector in (h.start, h.end) if vector]
        return all(start.covers(vector) for vector in known)


def _closed(state: GateState, event: GateEvent) -> GateState:
    return replace(state, standing=(*_others(state.standing, event), event))


def _opened(state: GateState, event: GateEvent) -> GateState:
    return replace(state, standing=_others(state.standing, event))


def _held(state: GateState, event: GateEvent) -> GateState:
    assert event.starts is not None
    return replace(_closed(state, event), holds=(*state.holds, Hold(event.source, event.starts)))


def _hold_ended(state: GateState, event: GateEvent) -> GateState:
    holds = tuple(
        replace(h, end=event.ends) if h.source == event.source and h.end is None else h for h in state.holds
    )
    return replace(_opened(state, event), holds=holds)


def _overridden(state: GateState, event: GateEvent) -> GateState:
    return replace(state, overrides=(*_others(state.overrides, event), event))


def _others(events: tuple[GateEvent, ...], event: GateEvent) -> tuple[GateEvent, ...]:
    return tuple(other for other in events if other.about != event.about)


_STEPS = {
    CLOSED: _closed,
    OPENED: _opened,
    HELD: _held,
    HOLD_ENDED: _hold_ended,
    OVERRIDDEN: _overridden,
}


def overriding(
    state: GateState, name: str, source: str | None, reason: str, actor: str, ends: OffsetVector
) -> GateEvent:
    """Make the event by which a person lets pass what a gate holds back now, up to `ends`.

    Raises `GateRefused` where the gate is not to be overridden, or holds nothing back.
    """
    row = gate(name)
    if not row.overridable:
        raise GateRefused(
            f"gate {name} cannot be overridden: {row.why}", "see `paywave gate status` for what to do"
        )
    standing = [event for event in state.standing if event.gate == name]
    found = next((event for event in standing if event.source == source), None)
    if found is None:
        named = ", ".join(str(event.source) for event in standing if event.source is not None)
        of = f" for partner {source}" if source is not None else ""
        hint = f"it holds {named}: `--source`" if named else "see `paywave gate status`"
        raise GateRefused(f"gate {name} holds nothing back{of}", hint)
    return GateEvent(OVERRIDDEN, name, reason, actor, source=source, starts=found.starts, ends=ends)
