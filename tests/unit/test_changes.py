"""What late versions change: both folds compared, payment by payment, and the records that did it."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from lakehouse.changes import Change, Changes, LateVersion, Sum, compare
from lakehouse.fold import Coordinates
from tests.events import NOON, TOPIC_ID, event_id, valid, wire

CLOSE = NOON + timedelta(days=1)
Row = dict[str, Any]
_offsets = count()


def version(name: str = "e1", *, taken: datetime | None = NOON, **changes: Any) -> Row:
    """A row of event_versions; `taken` is when Kafka took its earliest copy."""
    fields = valid(wire(name, **changes))._asdict()
    first = fields.pop("ingest_ts")
    where = Coordinates(TOPIC_ID, 0, next(_offsets))._asdict()
    return {**fields, "first_ingest_ts": first, "kafka_ts": taken, "source": "bank", "topic": "t", **where}


def late(name: str = "e1", hours: int = 1, **changes: Any) -> Row:
    return version(name, taken=CLOSE + timedelta(hours=hours), **changes)


def one(*rows: Row) -> Change:
    _, (change,) = compare(rows, CLOSE)
    return change


def records(versions: tuple[LateVersion, ...]) -> list[int]:
    return [v.coordinates.offset for v in versions]


def test_a_late_event_adds_its_payment() -> None:
    row = late("e2", merchant_id="shop-2")
    change = one(version(), row)
    assert (change.before, records(change.because_of)) == (None, [row["offset"]])
    assert change.after is not None
    assert (change.after.amount, change.after.event_ids) == (Decimal(100), (event_id("e2"),))


def test_a_late_correction_changes_what_is_shown() -> None:
    row = late(revision=1, amount="90")
    change = one(version(), row)
    assert change.before is not None
    assert change.after is not None
    assert (change.before.amount, change.after.amount) == (Decimal(100), Decimal(90))
    assert change.because_of[0].coordinates == Coordinates(TOPIC_ID, 0, row["offset"])
    assert change.because_of[0].kafka_ts == row["kafka_ts"]


def test_a_late_reference_moves_the_payment_to_another_key() -> None:
    row = late("e2", transaction_ref="T1")
    _, changes = compare([version(), row], CLOSE)
    removed, added = changes
    assert (removed.transaction_ref, removed.after) == (None, None)
    assert (added.transaction_ref, added.before) == ("T1", None)
    assert added.after is not None
    assert len(added.after.event_ids) == 2
    assert records(removed.because_of) == records(added.because_of) == [row["offset"]]


def test_a_late_version_that_does_not_win_changes_nothing_and_is_listed() -> None:
    row = late(revision=1, attributes={"note": "older"})
    told, changes = compare([version(revision=2), row], CLOSE)
    assert (records(told), changes) == ([row["offset"]], ())


def test_each_payment_is_told_the_late_versions_that_concern_it() -> None:
    first, second = late(revision=1, amount="90"), late("e2", merchant_id="shop-2", hours=2)
    told, changes = compare([version(), first, second], CLOSE)
    assert records(told) == [first["offset"], second["offset"]]
    assert sorted(records(change.because_of) for change in changes) == [[first["offset"]], [second["offset"]]]


@pytest.mark.parametrize("taken", [NOON, CLOSE, None])
def test_what_was_there_at_the_close_is_not_late(taken: datetime | None) -> None:
    assert compare([version(taken=taken)], CLOSE) == ((), ())


def test_groups_are_told_in_their_order_and_apart() -> None:
    rows = [late(account_id="acct-1"), late(account_id="acct-2"), version("e3", account_id="acct-3")]
    told, changes = compare(rows, CLOSE)
    assert len(told) == 2
    assert [change.account_id for change in changes] == ["acct-1", "acct-2"]


def test_sums_leave_out_what_is_reversed() -> None:
    rows = [version(), late(status="REVERSED"), late("e2", merchant_id="shop-2", currency="EUR")]
    told, changes = compare(rows, CLOSE)
    found = Changes(NOON, CLOSE, 1, None, None, told, changes)  # type: ignore[arg-type]
    nothing, hundred = Decimal("0.0000"), Decimal(100)
    assert found.sums == [Sum("CAPTURE", "EUR", nothing, hundred), Sum("CAPTURE", "USD", hundred, nothing)]
