"""Which (hour, bucket) partitions a batch touches, and the predicate that names them as literals.

Belongs here: that list and its SQL (Spark's). Does not: what is read or written there. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple, cast

from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from lakehouse.catalog import CATALOG_NAME

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)


class Partition(NamedTuple):
    """One partition of a curated table: hours since 1970-01-01 UTC, and the account's bucket."""

    hour: int
    bucket: int


def partition_of(event_ts: datetime, account_id: str, buckets: int) -> Partition:
    """Find the partition of a row, as the tables' specification does."""
    return Partition(hour_of(event_ts), _bucket_of(buckets)(account_id))


def hour_of(moment: datetime) -> int:
    """Count the hours from 1970-01-01 UTC to the one that a moment lies in."""
    return (moment - _EPOCH) // _HOUR


def start_of(hour: int) -> datetime:
    """Return the moment at which an hour, counted from 1970-01-01 UTC, begins."""
    return _EPOCH + hour * _HOUR


def hour_sql(column: str = "event_ts") -> str:
    """Render SQL for the hour of a row's partition; null where the column is."""
    return f"{CATALOG_NAME}.system.hours({column})"


def bucket_sql(buckets: int, column: str = "account_id") -> str:
    """Render SQL for the bucket of a row's partition."""
    return f"{CATALOG_NAME}.system.bucket({buckets}, {column})"


@cache
def _bucket_of(buckets: int) -> Callable[[str], int]:
    return cast(Callable[[str], int], BucketTransform(buckets).transform(StringType()))


def predicate(partitions: Iterable[Partition], buckets: int, alias: str = "") -> str:
    """Render SQL that is true for rows of just these partitions, in terms Iceberg prunes files by.

    Hours become ranges of event_ts, so that neighbours merge into one; buckets are named where not all of
    them are touched. No partitions: `false`.
    """
    prefix = _prefix(alias)
    by_hour: dict[int, set[int]] = defaultdict(set)
    for hour, bucket in partitions:
        by_hour[hour].add(bucket)
    hours_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for hour, touched in by_hour.items():
        hours_of[tuple(sorted(touched))].append(hour)
    terms = []
    for named, hours in sorted(hours_of.items()):
        spans = " OR ".join(_span(first, last, prefix) for first, last in _runs(sorted(hours)))
        if len(named) == buckets:
            terms.append(f"({spans})")
        else:
            terms.append(f"(({spans}) AND {_in_buckets(named, buckets, prefix)})")
    return "(" + " OR ".join(terms) + ")" if terms else "false"


def hours_predicate(hours: Iterable[int], column: str, alias: str = "") -> str:
    """Render SQL that is true where a column lies in these hours. No hours: `false`."""
    spans = [_span(first, last, _prefix(alias), column) for first, last in _runs(sorted(set(hours)))]
    return "(" + " OR ".join(spans) + ")" if spans else "false"


def bucket_predicate(touched: Iterable[int], buckets: int, alias: str = "") -> str:
    """Render SQL that is true for rows of these buckets, of whatever hour. No buckets: `false`."""
    named = sorted(set(touched))
    if not named:
        return "false"
    return "true" if len(named) == buckets else _in_buckets(named, buckets, _prefix(alias))


def _prefix(alias: str) -> str:
    return f"{alias}." if alias else ""


def _in_buckets(named: Iterable[int], buckets: int, prefix: str) -> str:
    listed = ", ".join(map(str, named))
    return f"{bucket_sql(buckets, f'{prefix}account_id')} IN ({listed})"


def _runs(hours: list[int]) -> list[tuple[int, int]]:
    """Group sorted hours into (first, last) of each unbroken run."""
    runs: list[tuple[int, int]] = []
    for hour in hours:
        if runs and hour == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], hour
        else:
            runs.append((hour, hour))
    return runs


def _span(first: int, last: int, prefix: str, column: str = "event_ts") -> str:
    start, end = (f"TIMESTAMP '{_moment(hour)}'" for hour in (first, last + 1))
    return f"({prefix}{column} >= {start} AND {prefix}{column} < {end})"


def _moment(hour: int) -> str:
    return start_of(hour).isoformat(sep=" ")
