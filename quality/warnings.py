"""What a contract warns of: rules that an event breaks although it is one.

Belongs here: these rules. Does not: those that keep a record from being an event (`judge.py`), counting.
"""

from __future__ import annotations

from quality.contract import REFERENCE, REVERSED, Contract, Event, Violation
from quality.judge import no_reference, refers


def warnings(event: Event, contract: Contract) -> list[Violation]:
    """List the rules that the contract only warns of and the event breaks; a later version may refuse it."""
    is_due = REFERENCE in contract.warns and event.event_type in contract.refers and event.status != REVERSED
    return [no_reference(event.event_type)] if is_due and not refers(event._asdict()) else []
