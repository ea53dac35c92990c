"""The contract as data: its versions, the event it promises, and how a breach is written down.

Belongs here: types and limits, and which contract version is in force when.
Does not: the checking itself (`judge.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from quality.errors import UnknownContract

DECLINED, REVERSED = "DECLINED", "REVERSED"
REFERENCE = "reference"  # the rule that an event says which transaction it belongs to
EVENT_TYPES = frozenset({"AUTH", "CAPTURE", "REFUND", "CHARGEBACK"})
NETWORKS = frozenset({"VISA", "MC", "AMEX"})
STATUSES = frozenset({"APPROVED", DECLINED, REVERSED})
MAX_ID_BYTES = 128
AMOUNT_SCALE = 4
AMOUNT_LIMIT = Decimal(10) ** 15  # DECIMAL(19,4) holds less than this
MAX_REVISION = 2**63 - 1
# Two events that agree in these, each in its original version, are the same payment.
BUSINESS_KEY = (
    "event_type", "account_id", "card_id", "merchant_id", "network", "currency", "amount", "event_ts",
)  # fmt: skip


class Event(NamedTuple):
    """A valid record's content, typed and canonical.

    `revision` is null for no explicit revision (absent, null, 0). `attributes` is canonical JSON text.
    `content_hash` leaves `ingest_ts` and the transport out.
    """

    event_id: str
    event_type: str
    event_ts: datetime
    ingest_ts: datetime
    account_id: str
    card_id: str
    merchant_id: str
    amount: Decimal
    currency: str
    network: str
    status: str
    revision: int | None
    original_event_id: str | None
    transaction_ref: str | None
    attributes: str
    content_hash: str
    business_key: str


class Violation(NamedTuple):
    """One rule that a record breaks. `value` is masked: it never shows more than its first characters."""

    rule: str
    field: str
    value: str
    message: str


@dataclass(frozen=True)
class Contract:
    """One version of the contract, in force for records whose Kafka time is `effective_from` or later.

    `more_than_zero` names the event types whose amount must be more than 0, unless they are REVERSED: some
    partners take back an event by setting its amount to 0.

    `refers` names the event types that must say which transaction they belong to, by `transaction_ref` or
    `original_event_id`, unless they are REVERSED: nobody should be kept from taking an event back.

    `warns` names the rules that this version only warns of (`quality/warnings.py`): a record that breaks no
    other is an event. All other rules are severe: a record that breaks one goes to quarantine.

    `announced_break` says what this version refuses though an earlier one allowed it, in words for partners.
    Without such words it must not refuse anything more (`paywave schemas check`).
    """

    version: int
    effective_from: datetime
    max_future: timedelta = timedelta(minutes=5)
    max_age: Mapping[str, timedelta] = field(
        default_factory=lambda: {
            "AUTH": timedelta(days=7),
            "CAPTURE": timedelta(days=30),
            "REFUND": timedelta(days=30),
            "CHARGEBACK": timedelta(days=30),
        }
    )
    more_than_zero: frozenset[str] = frozenset()
    refers: frozenset[str] = frozenset()
    warns: frozenset[str] = frozenset()
    announced_break: str = ""


# Oldest first, each in force until the next. A version that was in force is never edited: old records must
# go on being judged as they were.
HISTORY: tuple[Contract, ...] = (
    # It has never refused a refund without a reference. That it warns of one changes no verdict.
    Contract(
        1,
        datetime(1970, 1, 1, tzinfo=UTC),
        refers=frozenset({"REFUND"}),
        warns=frozenset({REFERENCE}),
    ),
    Contract(
        2,
        datetime(2027, 1, 1, tzinfo=UTC),
        more_than_zero=frozenset({"REFUND", "CHARGEBACK"}),
        refers=frozenset({"REFUND"}),
        announced_break=(
            "A REFUND or CHARGEBACK of 0 is refused, and so is a REFUND with neither `transaction_ref` nor "
            "`original_event_id`, unless it is REVERSED."
        ),
    ),
)


def contract(version: int, history: tuple[Contract, ...] = HISTORY) -> Contract:
    """Return a version of the contract. Raises `UnknownContract`, naming those there are."""
    for known in history:
        if known.version == version:
            return known
    listed = "; ".join(f"{c.version} from {c.effective_from.isoformat()}" for c in history)
    raise UnknownContract(
        f"there is no contract version {version}",
        f"known are {listed}; a later one needs a newer release of this software",
    )


def in_force(kafka_ts: datetime, history: tuple[Contract, ...] = HISTORY) -> Contract:
    """Return the contract that judges a record of this Kafka time (UTC); `history` is oldest first."""
    for contract in reversed(history):
        if contract.effective_from <= kafka_ts:
            return contract
    return history[0]
