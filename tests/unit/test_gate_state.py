"""What the gate log comes to, and which changes follow from what is measured."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import GateRefused
from lakehouse.fold import Coordinates
from lakehouse.gates import (
    CLOSED,
    HELD,
    HOLD_ENDED,
    OPENED,
    OVERRIDDEN,
    GateEvent,
    GateState,
    Hold,
    overriding,
)
from lakehouse.offsets import OffsetVector
from quality.policy import CONSERVATION, SLICE_SURGE, SURGE
from quality.surge import Tally
from streaming.gates import changed_holds, overridden_holds

GOOD, BAD = Tally(1000, 10), Tally(1000, 900)


def at(*offsets: int) -> OffsetVector:
    return OffsetVector({"t": dict(enumerate(offsets))})


def state(*events: GateEvent) -> GateState:
    return GateState.of(replace(event, seq=seq) for seq, event in enumerate(events, start=1))


def held(start: int, source: str | None = "shop") -> GateEvent:
    return GateEvent(HELD, SLICE_SURGE, "", "", source=source, starts=at(start))


def ended(start: int, source: str | None = "shop") -> GateEvent:
    return GateEvent(HOLD_ENDED, SLICE_SURGE, "", "", source=source, ends=at(start))


def said(ends: int, gate: str = SLICE_SURGE, source: str | None = "shop") -> GateEvent:
    return GateEvent(OVERRIDDEN, gate, "I know", "me", source=source, starts=at(0), ends=at(ends))


def test_a_hold_holds_its_partner_from_its_start_to_its_end() -> None:
    open_hold, over = Hold("shop", at(5, 2)), Hold("shop", at(5, 2), at(9, 4))
    for offset, is_held in ((4, False), (5, True), (8, True), (9, False)):
        assert over.holds("shop", Coordinates("t", 0, offset)) is is_held
        assert open_hold.holds("shop", Coordinates("t", 0, offset)) is (offset >= 5)
    assert open_hold.holds("shop", Coordinates("t", 7, 0)), "a partition that is new since"
    assert not over.holds("shop", Coordinates("t", 7, 0))
    assert not open_hold.holds("bank", Coordinates("t", 0, 6))
    assert not open_hold.holds(None, Coordinates("t", 0, 6))
    assert Hold(None, at(0)).holds(None, Coordinates("t", 0, 6))
    assert over.touches(at(9, 3), at(9, 4))
    assert not over.touches(at(9, 4), at(99, 99))
    assert open_hold.touches(at(99, 99), at(100, 99))
    assert not open_hold.touches(at(0, 0), at(5, 2))


def test_the_log_comes_to_holds_and_to_what_stands() -> None:
    closed = GateEvent(CLOSED, CONSERVATION, "", "", table_name="curated.payments")
    elsewhere = replace(closed, table_name="curated.event_versions")
    found = state(
        held(5), held(6, "bank"), closed, elsewhere, ended(9), held(12), replace(closed, event=OPENED)
    )
    assert found.holds == (Hold("shop", at(5), at(9)), Hold("bank", at(6)), Hold("shop", at(12)))
    assert [(e.event, e.source) for e in found.standing if e.event == HELD] == [
        (HELD, "bank"),
        (HELD, "shop"),
    ]
    assert [e.table_name for e in found.closed()] == ["curated.event_versions"]
    assert found.holds_between(at(9), at(20)) == found.holds[1:]
    assert found.holds_between(at(0), at(6)) == found.holds[:1]


def test_a_hold_begins_once_and_ends_when_most_is_good_again() -> None:
    (begins,) = changed_holds(state(), at(5), {"shop": BAD, "bank": GOOD})
    assert (begins.event, begins.source, begins.starts) == (HELD, "shop", at(5))
    assert "900 of the latest 1,000 records of shop" in begins.reason
    assert changed_holds(state(begins), at(5), {"shop": BAD}) == []
    assert changed_holds(state(begins), at(7), {"shop": BAD, "bank": GOOD}) == []
    assert changed_holds(state(begins), at(7), {}) == [], "nothing is known of it yet"
    (ends,) = changed_holds(state(begins), at(9), {"shop": GOOD})
    assert (ends.event, ends.ends) == (HOLD_ENDED, at(9))
    assert state(begins, ends).holds == (Hold("shop", at(5), at(9)),)


def test_nothing_is_decided_anew_about_records_that_the_log_speaks_of() -> None:
    known = state(held(5), ended(9))
    assert changed_holds(known, at(3), {"shop": BAD}) == []
    assert changed_holds(known, at(8), {"shop": BAD}) == []
    assert [e.event for e in changed_holds(known, at(9), {"shop": BAD})] == [HELD]
    assert [e.event for e in changed_holds(known, at(3), {"bank": BAD})] == [HELD]
    assert changed_holds(state(held(5)), at(4), {"shop": GOOD}) == []


def test_an_override_ends_a_hold_and_is_bound_to_what_was_there() -> None:
    before = state(held(5), said(20))
    (ends,) = overridden_holds(before, at(9))
    assert (ends.event, ends.ends) == (HOLD_ENDED, at(9))
    assert "me" in ends.reason and "I know" in ends.reason
    after = state(held(5), said(20), ends)
    assert overridden_holds(after, at(9)) == []
    assert changed_holds(after, at(9), {"shop": BAD}) == []
    assert changed_holds(after, at(19), {"shop": BAD}) == []
    assert [e.event for e in changed_holds(after, at(19), {"bank": BAD})] == [HELD]
    assert [e.event for e in changed_holds(after, at(20), {"shop": BAD})] == [HELD]
    again = state(held(5), said(20), ends, held(20))
    assert overridden_holds(again, at(25)) == [], "it was about another hold"


def test_an_override_lets_a_batch_pass_up_to_its_end() -> None:
    known = state(said(20, SURGE, None))
    assert known.lets_pass(SURGE, at(0)) == at(20)
    assert known.lets_pass(SURGE, at(19)) == at(20)
    assert known.lets_pass(SURGE, at(20)) is None
    assert known.lets_pass(SLICE_SURGE, at(0), "shop") is None


def test_what_cannot_be_overridden_is_refused_with_the_reason() -> None:
    closed = GateEvent(CLOSED, SURGE, "", "", starts=at(3))
    with pytest.raises(GateRefused, match=r"conservation cannot be overridden: .*money"):
        overriding(state(closed), CONSERVATION, None, "x", "me", at(9))
    with pytest.raises(GateRefused, match="holds nothing back"):
        overriding(state(), SURGE, None, "x", "me", at(9))
    with pytest.raises(GateRefused, match="nothing back for partner bank") as refused:
        overriding(state(held(5)), SLICE_SURGE, "bank", "x", "me", at(9))
    assert "it holds shop" in refused.value.hint
    made = overriding(state(closed), SURGE, None, "x", "me", at(9))
    assert (made.event, made.starts, made.ends, made.actor) == (OVERRIDDEN, at(3), at(9), "me")


shares = st.sampled_from([GOOD, BAD])
histories = st.lists(st.dictionaries(st.sampled_from(["shop", "bank", None]), shares), max_size=12)


@given(histories, st.data())
def test_a_record_that_was_published_is_judged_alike_ever_after(
    history: list[dict[str | None, Tally]], data: st.DataObject
) -> None:
    """Whatever is decided later, and however tables are rebuilt from any earlier offset on."""
    seq, events, published = count(1), [], []
    for start, found in enumerate(history):
        events += [replace(e, seq=next(seq)) for e in changed_holds(GateState.of(events), at(start), found)]
        holds = GateState.of(events).holds_between(at(start), at(start + 1))
        record = Coordinates("t", 0, start)
        published += [(s, record, any(h.holds(s, record) for h in holds)) for s in ("shop", "bank", None)]
        if data.draw(st.booleans()):  # rebuilt: earlier batches come again, and measure anything
            earlier = data.draw(st.integers(0, start))
            again = changed_holds(GateState.of(events), at(earlier), found)
            known = {h.source for h in GateState.of(events).holds}
            events += [replace(e, seq=next(seq)) for e in again if e.source in known]
    final = GateState.of(events).holds
    for source, record, was_held in published:
        assert any(h.holds(source, record) for h in final) is was_held
