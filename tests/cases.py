"""The design's table "Cases that decide", as data: what arrives, in any order, and what it comes to.

Belongs here: the cases. Does not: how they are driven (`unit/test_fold.py`, `integration/test_main_job.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

COLLISION = "possible_collision"
CONFLICT = "reversal_conflict"
DECLINE = "decline_conflict"
ONLY_REVERSED = "only_reversed"


class Arrival(NamedTuple):
    """One record: a short name of its event, the minute it was ingested, and what is not as usual."""

    name: str
    minute: int = 0
    changes: Mapping[str, Any] = MappingProxyType({})


class Case(NamedTuple):
    """Records of one account, the sum of its payments that are not REVERSED, and every payment's flags."""

    arrivals: tuple[Arrival, ...]
    amount: int
    flags: set[tuple[str, ...]]


def _at(name: str, minute: int = 0, **changes: Any) -> Arrival:
    return Arrival(name, minute, changes)


CASES: dict[str, Case] = {
    "two ids, same key, no reference": Case((_at("e1"), _at("e2", 1)), 100, {(COLLISION,)}),
    "then e1 corrected to 90": Case(
        (_at("e1"), _at("e2", 1), _at("e1", 2, revision=1, amount="90")), 90, {(COLLISION,)}
    ),
    "one without reference joins T1": Case((_at("e1"), _at("e2", 1, transaction_ref="T1")), 100, {()}),
    "a revision adds a reference to one": Case(
        (_at("e1"), _at("e2", 1), _at("e1", 2, revision=1, transaction_ref="T1")), 100, {()}
    ),
    "the copy is reversed": Case(
        (_at("e1"), _at("e2", 1), _at("e2", 2, status="REVERSED")), 100, {(COLLISION, CONFLICT)}
    ),
    "the first is reversed, with amount 0": Case(
        (_at("e1"), _at("e2", 1), _at("e1", 2, status="REVERSED", amount="0")), 0, {(COLLISION, CONFLICT)}
    ),
    "reversed after a revision": Case(
        (_at("e1"), _at("e1", 1, revision=2, amount="90"), _at("e1", 2, status="REVERSED")), 0, {()}
    ),
    "live again by a higher revision": Case(
        (_at("e1", revision=1, status="REVERSED"), _at("e1", 1, revision=2)), 100, {()}
    ),
    "reversal under another id, same key and reference": Case(
        (_at("e1", transaction_ref="T1"), _at("e9", 1, status="REVERSED", transaction_ref="T1")), 0, {()}
    ),
    "reversal under another id, no reference": Case((_at("e1"), _at("e9", 1, status="REVERSED")), 0, {()}),
    "two ids, and a reversal under a third": Case(
        (_at("e1"), _at("e2", 1), _at("e9", 2, status="REVERSED")), 0, {(COLLISION,)}
    ),
    "a reversal alone, under two ids": Case(
        (_at("e8", status="REVERSED"), _at("e9", 1, status="REVERSED")), 0, {(ONLY_REVERSED, COLLISION)}
    ),
    "declined, and approved under another id": Case(
        (_at("e1", status="DECLINED"), _at("e2", 1), _at("e1", 2, status="DECLINED", note="sent again")),
        100,
        {(DECLINE, COLLISION)},
    ),
    "a notice with a reference of its own": Case(
        (
            _at("e1", transaction_ref="T1"),
            _at("e2", 1, transaction_ref="T1"),
            _at("e9", 2, status="REVERSED", original="e1", transaction_ref="T9"),
        ),
        0,
        {(CONFLICT,)},
    ),
    "a reversal that is the first to carry a reference": Case(
        (
            _at("e1"),
            _at("e2", 1, transaction_ref="T1"),
            _at("e1", 2, status="REVERSED", transaction_ref="T1"),
        ),
        0,
        {(CONFLICT,)},
    ),
    "a notice of what was corrected": Case(
        (
            _at("e1"),
            _at("e1", 1, revision=1, amount="90"),
            _at("e9", 2, status="REVERSED", original="e1", amount="90"),
        ),
        0,
        {()},
    ),
    "a reversed refund that goes on naming its capture": Case(
        (
            _at("e1"),
            _at("e2", 1, event_type="REFUND", original="e1"),
            _at("e2", 2, event_type="REFUND", original="e1", status="REVERSED", amount="0"),
        ),
        100,
        {()},
    ),
    "a copy that names the first is reversed": Case(
        (_at("e1"), _at("e2", 1, original="e1"), _at("e2", 2, original="e1", status="REVERSED")),
        100,
        {(COLLISION, CONFLICT)},
    ),
    "a notice of another type": Case(
        (_at("e1"), _at("e9", 1, event_type="REFUND", status="REVERSED", original="e1")),
        100,
        {(), (ONLY_REVERSED,)},
    ),
    "a notice of a notice": Case(
        (_at("e8", status="REVERSED", original="e1"), _at("e9", 1, status="REVERSED", original="e8")),
        0,
        {(ONLY_REVERSED, COLLISION)},
    ),
    "an older version moves the event to another key": Case(
        (_at("e1", revision=2, amount="90"), _at("e2", 1, amount="90"), _at("e1", 2, revision=1)), 180, {()}
    ),
    "a notice": Case((_at("e1"), _at("e9", 1, status="REVERSED", original="e1")), 0, {()}),
    "two references are two payments": Case(
        (_at("e1", transaction_ref="T1"), _at("e2", 1, transaction_ref="T2")), 200, {()}
    ),
    "an older revision arrives later": Case(
        (_at("e1", revision=2, amount="90"), _at("e1", 1, revision=1)), 90, {()}
    ),
    "redelivered a day later": Case((_at("e1"), _at("e1", 24 * 60)), 100, {()}),
}
