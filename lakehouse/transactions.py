"""Transactions: what the payments of one reference come to. The reference every engine is held to.

Belongs here: the design's word "transaction" as plain Python, pure and order-free (docs/adr/0008).
Does not: I/O and engines (`streaming/`), what a payment is (`fold.py`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Context, Decimal, InvalidOperation, Rounded
from functools import reduce
from typing import NamedTuple

from lakehouse.errors import LakehouseError
from lakehouse.fold import ONLY_REVERSED, Payment
from quality.contract import REVERSED

AUTH, CAPTURE, REFUND, CHARGEBACK = "AUTH", "CAPTURE", "REFUND", "CHARGEBACK"
DECLINED = "DECLINED"
AUTHORISED, CAPTURED, VOIDED = "AUTHORISED", "CAPTURED", "VOIDED"
PARTIALLY_REFUNDED, REFUNDED, CHARGED_BACK = "PARTIALLY_REFUNDED", "REFUNDED", "CHARGED_BACK"
STATUSES = (AUTHORISED, CAPTURED, PARTIALLY_REFUNDED, REFUNDED, CHARGED_BACK, DECLINED, VOIDED)

CAPTURE_WITHOUT_AUTH = "capture_without_auth"
CAPTURED_MORE_THAN_AUTHORISED = "captured_more_than_authorised"
CHARGEBACK_AFTER_REFUND = "chargeback_after_refund"
REFUNDED_MORE_THAN_CAPTURED = "refunded_more_than_captured"
VOIDS_NOTHING = "voids_nothing"

_ZERO = Decimal("0.0000")
_EXACT = Context(prec=28, traps=[Rounded, InvalidOperation])  # DECIMAL(28,4): stop rather than lose a digit


class TransactionKey(NamedTuple):
    """What names a transaction. Either the reference or the business key is null, never both."""

    account_id: str
    transaction_ref: str | None
    currency: str
    business_key: str | None


class Kind(NamedTuple):
    """What makes payments of one transaction alike."""

    event_type: str
    amount: Decimal


class Part(NamedTuple):
    """What a payment is to its transaction. The rules look at these fields only."""

    key: TransactionKey
    event_type: str
    amount: Decimal
    status: str
    is_only_reversed: bool

    @property
    def is_live(self) -> bool:
        """Neither taken back nor declined: it counts, unless it is voided."""
        return self.status not in (REVERSED, DECLINED)

    @property
    def kind(self) -> Kind:
        """Its type and amount: what a payment that voids looks for."""
        return Kind(self.event_type, self.amount)


class Transaction(NamedTuple):
    """A transaction's row, its fields named as the columns. Sums have four places; flags are sorted."""

    account_id: str
    transaction_ref: str | None
    currency: str
    business_key: str | None
    authorised: Decimal
    captured: Decimal
    refunded: Decimal
    charged_back: Decimal
    net: Decimal
    status: str
    flags: tuple[str, ...]


def part(payment: Payment) -> Part:
    """Take from a payment what its transaction looks at.

    Raises:
        LakehouseError: the payment's row does not carry its content.
    """
    event = payment.row.event
    if event is None:
        raise LakehouseError(
            f"payment {payment.business_key} does not carry its content",
            hint="fold versions made by lakehouse.fold.record(), or build the Part from the table's columns",
        )
    reference = payment.transaction_ref
    stands_alone = payment.business_key if reference is None else None
    return Part(
        TransactionKey(event.account_id, reference, event.currency, stands_alone),
        event.event_type,
        event.amount,
        payment.status,
        ONLY_REVERSED in payment.flags,
    )


def fold_transactions(payments: Iterable[Payment]) -> list[Transaction]:
    """Gather payments to transactions, one row each, in whatever order they come; see `fold_parts`."""
    return fold_parts(map(part, payments))


def fold_parts(parts: Iterable[Part]) -> list[Transaction]:
    """Gather the payments of each (account, reference, currency); one without reference stands alone.

    All payments of a transaction must be among them. One that lost its last payment has no row.
    """
    by_key: dict[TransactionKey, list[Part]] = defaultdict(list)
    for each in parts:
        by_key[each.key].append(each)
    return [_transaction(key, of_key) for key, of_key in by_key.items()]


def counting(parts: Iterable[Part]) -> tuple[Counter[Kind], Counter[Kind]]:
    """Void what is to be voided among the payments of one transaction.

    Each payment of which every member has REVERSED versions only voids the least live one of its type and
    amount. All that look for the same one are alike to a transaction, and so are all that they find:
    nothing depends on which voids which, only on how many there are.

    Returns:
        How many of each type and amount count, and how many found nothing to void.
    """
    parts = list(parts)
    live = Counter(p.kind for p in parts if p.is_live)
    voids = Counter(p.kind for p in parts if p.is_only_reversed)
    return live - voids, voids - live


def status_of(transaction: Transaction, has_auth: bool, all_declined: bool) -> str:
    """Say where a transaction stands, by the first line that holds; the last one always does.

    CHARGED_BACK        anything is charged back, whatever share: a dispute is what matters most
    REFUNDED            anything is refunded, and at least what was captured
    PARTIALLY_REFUNDED  anything is refunded
    CAPTURED            anything is captured
    AUTHORISED          an AUTH counts, of 0 too: that is how a card is verified
    DECLINED            every payment is DECLINED
    VOIDED              nothing is left: all was taken back, or corrected to 0
    """
    lines = (
        (transaction.charged_back > 0, CHARGED_BACK),
        (transaction.refunded > 0 and transaction.refunded >= transaction.captured, REFUNDED),
        (transaction.refunded > 0, PARTIALLY_REFUNDED),
        (transaction.captured > 0, CAPTURED),
        (has_auth, AUTHORISED),
        (all_declined, DECLINED),
    )
    return next((status for holds, status in lines if holds), VOIDED)


def flags_of(transaction: Transaction, has_auth: bool, voids_nothing: bool) -> tuple[str, ...]:
    """Name what is odd, sorted. They speak of sums: when things happened makes no difference.

    capture_without_auth           anything is captured, and no AUTH counts
    captured_more_than_authorised  an AUTH counts, but authorised < captured (never both of these)
    chargeback_after_refund        charged back while something is refunded: the money may go back twice
    refunded_more_than_captured    captured < refunded
    voids_nothing                  a payment of REVERSED versions only found no payment to void
    """
    captured, refunded = transaction.captured, transaction.refunded
    flags = {
        CAPTURE_WITHOUT_AUTH: captured > 0 and not has_auth,
        CAPTURED_MORE_THAN_AUTHORISED: has_auth and captured > transaction.authorised,
        CHARGEBACK_AFTER_REFUND: transaction.charged_back > 0 and refunded > 0,
        REFUNDED_MORE_THAN_CAPTURED: refunded > captured,
        VOIDS_NOTHING: voids_nothing,
    }
    return tuple(sorted(name for name, is_set in flags.items() if is_set))


def _transaction(key: TransactionKey, parts: list[Part]) -> Transaction:
    counted, voids_nothing = counting(parts)
    authorised, captured, refunded, charged_back = (
        _sum_of(event_type, counted) for event_type in (AUTH, CAPTURE, REFUND, CHARGEBACK)
    )
    net = _EXACT.subtract(_EXACT.subtract(captured, refunded), charged_back)
    bare = Transaction(*key, authorised, captured, refunded, charged_back, net, status="", flags=())
    has_auth = any(kind.event_type == AUTH for kind in counted)
    all_declined = all(p.status == DECLINED for p in parts)
    return bare._replace(
        status=status_of(bare, has_auth, all_declined),
        flags=flags_of(bare, has_auth, voids_nothing=bool(voids_nothing)),
    )


def _sum_of(event_type: str, counted: Counter[Kind]) -> Decimal:
    amounts = (kind.amount for kind in counted.elements() if kind.event_type == event_type)
    return reduce(_EXACT.add, amounts, _ZERO)
