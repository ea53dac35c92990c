"""The accounting identities that hold every record to account, and the sums that they are made of. Pure.

Belongs here: which identities there are, adding them up place by place, naming what does not add up.
Does not: counting (`streaming/reconcile/`), keeping the result.

A sum alone can hide two errors that cancel out. So whoever counts also matches row by row and names each
row that has no counterpart; an identity balances if its sums agree and nothing was named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

Number = int | Decimal
Place = tuple[tuple[str, str], ...]
"""Where a part of an identity was counted: names and values, e.g. topic, partition and hour."""
SHOWN = 20


class Formula(NamedTuple):
    """An identity: what stands left of the equals sign, and the terms on the right; counts, or amounts."""

    name: str
    left: str
    right: tuple[str, ...]
    is_money: bool = False

    def __str__(self) -> str:
        return f"{self.left} = {' + '.join(self.right)}"


# Along the way of a record. Counted per Kafka partition and hour:
KAFKA = Formula("kafka", "records kept by Kafka", ("records in raw",))
# What retention dropped is taken from its ledger.
RAW = Formula("raw", "offsets consumed", ("records in raw", "retired"))
RECORDS = Formula("records", "records", ("redelivered", "versions", "quarantined"))
# per currency and type of event:
VERSION_AMOUNTS = Formula("version_amounts", "amount in raw", ("amount of versions",), is_money=True)
# per event hour and bucket:
VERSIONS = Formula("versions", "versions", ("superseded", "events"))
EVENTS = Formula("events", "events", ("payments", "duplicates"))
# again per currency and type, payments that count (neither REVERSED nor DECLINED):
PAYMENT_AMOUNTS = Formula("payment_amounts", "amount by versions", ("amount of payments",), is_money=True)
# per bucket, and per currency and type; what ADR 0008 leaves out is a term of its own:
TRANSACTIONS = Formula("transactions", "transactions by payments", ("transactions",))
TRANSACTION_AMOUNTS = Formula(
    "transaction_amounts", "amount of payments", ("amount of transactions", "voided"), is_money=True
)
# per file of a partner; what the partner says, per currency and type of event:
FILE_ROWS = Formula("file_rows", "rows of files", ("accepted", "rejected"))
FILE_RECORDS = Formula("file_records", "events and rejected rows of files", ("folded", "quarantined"))
FILE_COUNTS = Formula("file_counts", "events that partners say", ("folded",))
FILE_AMOUNTS = Formula("file_amounts", "amount that partners say", ("amount folded",), is_money=True)


class Sums(NamedTuple):
    """Both sides of an identity, the right one term by term."""

    left: Number
    right: tuple[Number, ...]

    @property
    def are_equal(self) -> bool:
        return self.left == sum(self.right)

    def plus(self, other: Sums) -> Sums:
        right = tuple(a + b for a, b in zip(self.right, other.right, strict=True))
        return Sums(self.left + other.left, right)


class Break(NamedTuple):
    """A row that does not add up: what is wrong with it, and by what it is found. `order`: which is first."""

    order: tuple[Any, ...]
    what: str
    row: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.what}: " + " ".join(f"{name}={value}" for name, value in self.row.items())

    def as_json(self) -> dict[str, str]:
        return {"what": self.what, **self.row}


@dataclass
class Account:
    """One identity, added up.

    Parts that balance in themselves are kept in the total only, so that two years of hours fit into memory.
    Amounts have no total; the places that they are added at are a currency and a type, which are few.
    """

    formula: Formula
    parts: dict[Place, Sums] = field(default_factory=dict)
    total: Sums = field(init=False)
    breaks: int = 0
    first: Break | None = None

    def __post_init__(self) -> None:
        self.total = self._nothing()

    def add(self, place: Mapping[str, object], left: Number, *right: Number) -> None:
        """Add what was counted at a place, which must be whole: parts of it that differ are not set off."""
        sums = Sums(left, right)
        self.total = self.total.plus(sums)
        if self.formula.is_money or not sums.are_equal:
            where = tuple((name, str(value)) for name, value in place.items())
            self.parts[where] = self.parts.get(where, self._nothing()).plus(sums)

    def name(self, found: Break, times: int = 1) -> None:
        """Name a row that does not add up; the least by `order` is kept."""
        self.breaks += times
        if self.first is None or found.order < self.first.order:
            self.first = found

    @property
    def differing(self) -> dict[Place, Sums]:
        """The places where the sums are not equal."""
        return {place: sums for place, sums in self.parts.items() if not sums.are_equal}

    @property
    def is_balanced(self) -> bool:
        return not self.differing and not self.breaks

    def as_json(self) -> dict[str, Any]:
        """Render for programs; amounts as text, so that nothing is rounded."""
        total = {"parts": self._rendered(self.parts)} if self.formula.is_money else self._sides(self.total)
        return {
            "name": self.formula.name,
            "identity": str(self.formula),
            "balanced": self.is_balanced,
            **total,
            "differs": self.shown(),
            "differing": len(self.differing),
            "breaks": self.breaks,
            "first": self.first.as_json() if self.first is not None else None,
        }

    def shown(self) -> list[dict[str, Any]]:
        """Render the first places where the sides differ."""
        return self._rendered(self.differing)[:SHOWN]

    def terms(self, sums: Sums) -> dict[str, int | str]:
        """Name the terms of the right side, amounts as text."""
        return {n: self._text(v) for n, v in zip(self.formula.right, sums.right, strict=True)}

    def _rendered(self, parts: Mapping[Place, Sums]) -> list[dict[str, Any]]:
        return [{**dict(place), **self._sides(sums)} for place, sums in sorted(parts.items())]

    def _sides(self, sums: Sums) -> dict[str, Any]:
        return {
            "left": self._text(sums.left),
            "right": self._text(sum(sums.right)),
            "terms": self.terms(sums),
        }

    def _text(self, number: Number) -> int | str:
        return f"{number:.4f}" if self.formula.is_money else int(number)

    def _nothing(self) -> Sums:
        zero: Number = Decimal(0) if self.formula.is_money else 0
        return Sums(zero, (zero,) * len(self.formula.right))


class Run(NamedTuple):
    """Runs of offsets of one Kafka partition that are there without a gap, and the hours of their records."""

    first: int
    last: int
    first_hour: int
    last_hour: int


class Gap(NamedTuple):
    """Offsets that are not there, both inclusive, and the hour in which Kafka took the record before them."""

    first: int
    last: int
    hour: int | None

    @property
    def records(self) -> int:
        return self.last - self.first + 1


def gaps(runs: Iterable[Run], start: int, end: int) -> list[Gap]:
    """Find what is missing between `start` (inclusive) and `end` (exclusive).

    The hour of a missing record is not known: it is that of the record before it, or else of the one after.
    """
    found: list[Gap] = []
    expected, hour = start, None
    for run in sorted(runs):
        if run.first > expected:
            found.append(Gap(expected, min(run.first, end) - 1, run.first_hour if hour is None else hour))
        expected, hour = max(expected, run.last + 1), run.last_hour
    if expected < end:
        found.append(Gap(expected, end - 1, hour))
    return [gap for gap in found if gap.first <= gap.last]
