"""The gates' policy as data: what is done about each rule and metric, and the availability choice behind it.

Belongs here: one row per gate, with its limit and the reason. Does not: measuring (`surge.py`, the audits),
acting on it (`streaming/gates.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from quality.errors import UnknownGate


class Action(StrEnum):
    """What becomes of what a gate finds."""

    WARN = "warn"
    QUARANTINE = "quarantine"
    BLOCK = "block"


@dataclass(frozen=True)
class Gate:
    """One row of the policy.

    Args:
        about: what is looked at.
        scope: what the action falls on: a record, a partner's slice, or a whole batch.
        limit: the greatest share that passes; None where a single finding is one too many.
        is_open: whether it fails open: readers go on getting new rows, less what it takes out.
        overridable: whether a person may let pass what it holds back now.
        why: the choice between availability and quality, in words.
    """

    name: str
    about: str
    action: Action
    scope: str
    is_open: bool
    overridable: bool
    why: str
    limit: Decimal | None = None


CONTRACT_RULE, CONTRACT_WARNING, UNKNOWN_FIELD = "contract_rule", "contract_warning", "unknown_field"
SLICE_SURGE, SURGE = "slice_surge", "surge"
CONSERVATION, DUPLICATE_KEY, OFFSET_GAP = "conservation", "duplicate_key", "offset_gap"
STAGED_ROWS, FOREIGN_STAGE = "staged_rows", "foreign_stage"
# The rule that a record breaks which is valid, and came while its partner's slice was held.
SLICE_HELD = "slice_held"

POLICY: tuple[Gate, ...] = (
    Gate(
        CONTRACT_RULE,
        "a record breaks any rule of the contract",
        Action.QUARANTINE,
        "record",
        is_open=True,
        overridable=False,
        why="One bad record must not stop the good ones. It is kept with its reasons and can be redriven.",
    ),
    Gate(
        CONTRACT_WARNING,
        "a record breaks a rule that its contract only warns of",
        Action.WARN,
        "record",
        is_open=True,
        overridable=False,
        why="A later version of the contract may refuse it. Until then it counts, and its partner is told.",
    ),
    Gate(
        UNKNOWN_FIELD,
        "a record carries a field that the contract does not name",
        Action.WARN,
        "record",
        is_open=True,
        overridable=False,
        why="Partners add fields without notice. It is kept under attributes and counted as drift; no sum "
        "depends on it.",
    ),
    Gate(
        SLICE_SURGE,
        "the share of a partner's latest records that break the contract",
        Action.QUARANTINE,
        "slice",
        is_open=True,
        overridable=True,
        limit=Decimal("0.5"),
        why="What still passes of a partner that sends mostly nonsense cannot be trusted either, so its "
        "slice waits in quarantine. All other partners go on as if nothing had happened.",
    ),
    Gate(
        SURGE,
        "the same share, of the partner in the middle of all that send",
        Action.BLOCK,
        "batch",
        is_open=False,
        overridable=True,
        limit=Decimal("0.2"),
        why="When partners that have nothing to do with each other break the contract at once, the fault is "
        "more likely ours. Late is better than wrong; a person who knows better may let it pass.",
    ),
    Gate(
        CONSERVATION,
        "rows staged or deleted against rows that were to be",
        Action.BLOCK,
        "batch",
        is_open=False,
        overridable=False,
        why="A count that does not add up is lost or doubled money. Readers keep the last good state.",
    ),
    Gate(
        DUPLICATE_KEY,
        "rows of one publish that share their key",
        Action.BLOCK,
        "batch",
        is_open=False,
        overridable=False,
        why="A payment that stands twice is counted twice. Readers keep the last good state.",
    ),
    Gate(
        OFFSET_GAP,
        "records read against the offsets of their range",
        Action.BLOCK,
        "batch",
        is_open=False,
        overridable=False,
        why="What lies in a gap would be passed over for ever, since progress moves on behind it.",
    ),
    Gate(
        STAGED_ROWS,
        "types, nulls and values of the staged rows against table and contract",
        Action.BLOCK,
        "batch",
        is_open=False,
        overridable=False,
        why="Every row came from a record that the contract let pass. One that breaks it now was spoilt by "
        "us, and so may be the sums.",
    ),
    Gate(
        FOREIGN_STAGE,
        "snapshots on our stage that we did not write, or none at all",
        Action.BLOCK,
        "batch",
        is_open=False,
        overridable=False,
        why="Nobody has audited what somebody else put there.",
    ),
)
_BY_NAME = {gate.name: gate for gate in POLICY}


def gate(name: str) -> Gate:
    """Return a row of the policy. Raises `UnknownGate`, naming those there are."""
    if name not in _BY_NAME:
        raise UnknownGate(f"there is no gate {name}", f"there are {', '.join(_BY_NAME)}")
    return _BY_NAME[name]
