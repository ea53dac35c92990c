"""How long a backfill will take and what it will cost, from what was measured of its hours. Pure.

Belongs here: the formula and its rates. Does not: the figures (`measure.py`), how plans look (`plan.py`).

Each chunk reads raw from its first hour on: what speaks of an hour may have come at any time since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

_LEAST_FACTOR, _GREATEST_FACTOR = 0.1, 10.0


class Figures(Protocol):
    """What the formula needs to know of an hour."""

    @property
    def rows(self) -> int: ...
    @property
    def raw_read(self) -> int: ...


F = TypeVar("F", bound=Figures)


@dataclass(frozen=True)
class Rates:
    """What work costs, until a backfill has been measured; per core where it spreads over cores.

    Args:
        raw_per_core: records of raw that a core reads, decodes and judges in a second.
        rows_per_core: rows of both tables that a core folds and compares in a second.
        unit_rows: rows that are compared, and published if they differ, at once.
        unit_seconds: what each such unit takes besides, in each table.
        chunk_seconds: what each chunk takes besides: its scratch table, and looking at metadata.
        start_seconds: what each run takes besides: starting Spark, and the first queries.
        price: dollars for a core and an hour.
    """

    cores: int = 2
    raw_per_core: float = 8_000.0
    rows_per_core: float = 5_000.0
    unit_rows: int = 200_000
    unit_seconds: float = 2.0
    chunk_seconds: float = 6.0
    start_seconds: float = 15.0
    price: float = 0.08


@dataclass(frozen=True)
class Estimate:
    """Minutes and dollars; `factor` is by how much the rates were wrong the last time, and is in both."""

    minutes: float
    dollars: float
    cores: int
    price: float
    factor: float = 1.0

    @property
    def by_rates(self) -> float:
        """Minutes by the rates alone."""
        return self.minutes / self.factor


def estimate(chunks: Iterable[Sequence[Figures]], rates: Rates, factor: float = 1.0) -> Estimate:
    """Add up what each chunk of hours will take."""
    seconds = rates.start_seconds + sum(_chunk_seconds(chunk, rates) for chunk in chunks)
    minutes = seconds * factor / 60
    return Estimate(minutes, minutes / 60 * rates.cores * rates.price, rates.cores, rates.price, factor)


def measured_factor(by_rates: float, used: float) -> float:
    """Tell by how much the rates were wrong, given the minutes used; bounded, as one run may mislead."""
    if by_rates <= 0 or used <= 0:
        return 1.0
    return min(_GREATEST_FACTOR, max(_LEAST_FACTOR, used / by_rates))


def chunks(hours: Iterable[F], most_hours: int, most_rows: int) -> Iterator[tuple[F, ...]]:
    """Cut hours, in the order given, into chunks of at most so many hours and rows; large ones alone."""
    chunk: list[F] = []
    rows = 0
    for hour in hours:
        if chunk and (len(chunk) >= most_hours or rows + hour.rows > most_rows):
            yield tuple(chunk)
            chunk, rows = [], 0
        chunk.append(hour)
        rows += hour.rows
    if chunk:
        yield tuple(chunk)


def _chunk_seconds(chunk: Sequence[Figures], rates: Rates) -> float:
    rows = sum(hour.rows for hour in chunk)
    raw = max((hour.raw_read for hour in chunk), default=0)
    units = 2 * max(1, -(-rows // rates.unit_rows))
    spread = (raw / rates.raw_per_core + rows / rates.rows_per_core) / rates.cores
    return rates.chunk_seconds + units * rates.unit_seconds + spread
