"""Dirt about one event: corrections, reversals, business duplicates, and what each does to its payment.

Belongs here: further records about a clean event. Every kind states its effect, so that the outcome is known.
Does not: lines that break the contract (`malformed.py`), other texts of the same value (`wording.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from streaming.simulate.draft import HOUR, MINUTE, SECOND, Draft, letters, new_uuid
from streaming.simulate.journeys import LATE_TAIL
from streaming.simulate.mix import Mix
from streaming.simulate.outcome import Effect

# Dirt gets the clean event, and how many further lines there is room for (at least one).
Dirt = Callable[[Random, Draft, int, int], Effect]


class Dirtier:
    """Chooses at most one kind of dirt per event, so that effects never meet."""

    def __init__(self, rng: Random, mix: Mix, end_us: int) -> None:
        self._rng = rng
        self._last_us = end_us + LATE_TAIL
        kinds: tuple[tuple[float, Dirt], ...] = (
            (mix.business_duplicates, resent),
            (mix.reversals, reversed_),
            (mix.corrections, corrected),
        )
        self._chances = [(mix.per_event(share), kind) for share, kind in kinds if share]

    def soil(self, clean: Draft, room: int) -> Effect:
        """Add what chance brings; `room` is how many further lines may be written."""
        if self._chances and room:
            draw = self._rng.random()
            for chance, kind in self._chances:
                if draw < chance:
                    return kind(self._rng, clean, room, self._last_us)
                draw -= chance
        return Effect([], clean.minor)


def later(rng: Random, moment: int, last_us: int) -> int:
    """A second to two hours after `moment`, often soon, never after `last_us`."""
    return max(moment, min(last_us, moment + int(SECOND * (2 * HOUR / SECOND) ** rng.random())))


def resent(rng: Random, clean: Draft, room: int, last_us: int) -> Effect:
    """The same payment under another id: with the same reference or none, as the partner's system has it."""
    copies = 2 if room > 1 and rng.random() < 0.1 else 1
    drafts = []
    for _ in range(copies):
        changes: dict[str, Any] = {"event_id": new_uuid(rng)}
        # a refund without one is no event any more, from contract version 2
        may_lack = "transaction_ref" in clean.fields and clean.fields["event_type"] != "REFUND"
        if may_lack and rng.random() < 0.5:
            changes["transaction_ref"] = None
        drafts.append(clean.variant(later(rng, clean.ingest_us, last_us), **changes))
    return Effect(drafts, clean.minor, new_events=copies)


def corrected(rng: Random, clean: Draft, room: int, last_us: int) -> Effect:
    """Revisions of the same event: another amount, sometimes other fields; they may arrive in any order."""
    count = 2 if room > 1 and rng.random() < 0.2 else 1
    drafts: list[Draft] = []
    previous = clean
    for revision in range(1, count + 1):
        minor = max(1, int(previous.minor * rng.uniform(0.5, 1.3)))
        minor += minor == previous.minor
        changes: dict[str, Any] = {"revision": revision} | _other_corrections(rng, clean)
        previous = previous.variant(later(rng, clean.ingest_us, last_us), minor, **changes)
        drafts.append(previous)
    return Effect(drafts, previous.minor)


def reversed_(rng: Random, clean: Draft, _room: int, last_us: int) -> Effect:
    """A reversal in one of its three forms."""
    ingest_us = later(rng, clean.ingest_us + MINUTE, last_us)
    forms = [_in_place, _by_notice]
    if "transaction_ref" in clean.fields:  # the third form is told by the reference
        forms.append(_by_other_id)
    return forms[int(rng.random() * len(forms))](rng, clean, ingest_us)


def _in_place(rng: Random, clean: Draft, ingest_us: int) -> Effect:
    """The same event, REVERSED without a revision; some partners set the amount to nothing."""
    minor = 0 if rng.random() < 0.25 else clean.minor
    return Effect([clean.variant(ingest_us, minor, status="REVERSED")], minor, is_reversed=True)


def _by_notice(rng: Random, clean: Draft, ingest_us: int) -> Effect:
    """A notice under its own id: a version of the event that it names, and no event itself."""
    notice = clean.variant(
        ingest_us, event_id=new_uuid(rng), original_event_id=clean.fields["event_id"], status="REVERSED"
    )
    return Effect([notice], clean.minor, is_reversed=True)


def _by_other_id(rng: Random, clean: Draft, ingest_us: int) -> Effect:
    """An event of its own with the same key and reference: it joins the payment and voids it."""
    other = clean.variant(ingest_us, event_id=new_uuid(rng), status="REVERSED")
    return Effect([other], clean.minor, new_events=1, is_reversed=True)


def _other_corrections(rng: Random, clean: Draft) -> dict[str, Any]:
    draw = rng.random()
    if draw < 0.15:
        return {"merchant_id": f"mer_{letters(rng, 14)}"}
    if draw < 0.3:
        return {"card_id": f"tok_{letters(rng, 22)}"}
    if draw < 0.4:
        return {"attributes": {**clean.fields["attributes"], "correction": {"reason": "amount as settled"}}}
    if draw < 0.7 and "transaction_ref" not in clean.fields:
        return {"transaction_ref": f"txn_{letters(rng, 16)}"}
    return {}
