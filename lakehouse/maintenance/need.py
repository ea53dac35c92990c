"""Which partitions are worth compacting, told by what their files are like: the largest need first. Pure.

Belongs here: that choice, and packing it into commits. Does not: reading metadata (`measure.py`), rewriting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

PartitionKey = tuple[int, ...]
MEGABYTE = 1024 * 1024
# Iceberg's rewriting leaves files that have this share of the target: what it leaves must not look needy.
SMALL_SHARE = 0.75


@dataclass(frozen=True)
class Usage:
    """What a partition's live files are like.

    Args:
        files, bytes, rows: of its data files; deleted rows are among the rows.
        small, small_bytes: of those among them that are small enough to be packed.
        vectors: deletion vectors, each of which a reader opens besides its data file.
        deleted: rows that the vectors take away.
        written_at: when its newest file came; None where that snapshot has expired.
    """

    files: int = 0
    bytes: int = 0
    rows: int = 0
    small: int = 0
    small_bytes: int = 0
    vectors: int = 0
    deleted: int = 0
    written_at: datetime | None = None

    def __add__(self, other: Usage) -> Usage:
        times = [at for at in (self.written_at, other.written_at) if at is not None]
        return Usage(
            self.files + other.files,
            self.bytes + other.bytes,
            self.rows + other.rows,
            self.small + other.small,
            self.small_bytes + other.small_bytes,
            self.vectors + other.vectors,
            self.deleted + other.deleted,
            max(times, default=None),
        )


@dataclass(frozen=True)
class Limits:
    """From which need on a partition is rewritten, and how large files and commits become.

    Args:
        target_bytes: size of a file that is large enough.
        least_saved: opens that a rewrite must save whoever reads the partition.
        deleted_share: share of deleted rows that is too much, however few the files.
        commit_bytes: data that one commit rewrites, about.
    """

    target_bytes: int = 256 * MEGABYTE
    least_saved: int = 4
    deleted_share: float = 0.1
    commit_bytes: int = 4096 * MEGABYTE


@dataclass(frozen=True)
class Cold:
    """When a partition is left alone: its hour is over and closed, and nothing came for some time.

    Args:
        closed_hour: first event hour (since 1970-01-01 UTC) that is not closed; None: no hour is known to be.
        quiet_since: a partition that was written to after this is still being written to.
    """

    closed_hour: int | None
    quiet_since: datetime

    def holds(self, key: PartitionKey, usage: Usage) -> bool:
        """Tell whether a partition (hour first) is cold."""
        is_quiet = usage.written_at is None or usage.written_at < self.quiet_since
        return is_quiet and self.closed_hour is not None and key[0] < self.closed_hour


def opens_saved(usage: Usage, target_bytes: int) -> int:
    """Count the files that a reader of the partition would not have to open after a rewrite, at least."""
    return usage.small + usage.vectors - -(-usage.small_bytes // target_bytes)


def is_needy(usage: Usage, limits: Limits) -> bool:
    """Tell whether rewriting a partition is worth it."""
    saved = opens_saved(usage, limits.target_bytes)
    return saved >= limits.least_saved or usage.deleted > usage.rows * limits.deleted_share


def choose(
    usages: Mapping[PartitionKey, Usage], limits: Limits, is_cold: Callable[[PartitionKey, Usage], bool]
) -> list[PartitionKey]:
    """Choose the partitions to rewrite, the largest need first; equal needs in the order of their keys."""
    chosen = [key for key, usage in usages.items() if is_needy(usage, limits) and is_cold(key, usage)]
    return sorted(chosen, key=lambda key: (-opens_saved(usages[key], limits.target_bytes), key))


def units(
    keys: Iterable[PartitionKey], usages: Mapping[PartitionKey, Usage], most_bytes: int
) -> Iterator[list[PartitionKey]]:
    """Pack partitions, in the order given, into commits of at most so many bytes; a larger one is alone."""
    unit: list[PartitionKey] = []
    size = 0
    for key in keys:
        if unit and size + usages[key].bytes > most_bytes:
            yield unit
            unit, size = [], 0
        unit.append(key)
        size += usages[key].bytes
    if unit:
        yield unit


def grouped(keys: Iterable[PartitionKey]) -> list[tuple[list[int], ...]]:
    """Write partitions of at most two values as products, so that naming them is short: ([hours], [buckets]).

    The one partition of a table that has no more is the product of nothing.
    """
    seconds_of: dict[int, list[int]] = {}
    for key in sorted(set(keys)):
        if not key:
            return [()]
        seconds_of.setdefault(key[0], []).extend(key[1:])
    firsts_of: dict[tuple[int, ...], list[int]] = {}
    for first, seconds in seconds_of.items():
        firsts_of.setdefault(tuple(seconds), []).append(first)
    return [(firsts, list(seconds)) if seconds else (firsts,) for seconds, firsts in firsts_of.items()]
