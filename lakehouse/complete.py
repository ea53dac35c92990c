"""Up to which Kafka time and event hour the tables are complete, from what they say themselves.

Belongs here: gathering stamps, the common vector and the watermark. Does not: asking Kafka (`streaming/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from pyiceberg.catalog.rest import RestCatalog

from lakehouse.arrivals_sql import CLOSED_AFTER, WATERMARK_VIEW
from lakehouse.consistency import consistent
from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.offsets import OffsetVector
from lakehouse.query import run_query
from lakehouse.refs import Head, read_head

_TABLES = (RAW, VERSIONS, PAYMENTS, QUARANTINE)


@dataclass(frozen=True)
class Standing:
    """Where one table stands: records consumed, those that raw has beyond, and up to which Kafka time."""

    snapshot_id: int
    offsets: OffsetVector
    records: int
    behind: int
    complete_to: datetime | None


@dataclass(frozen=True)
class Complete:
    """What a reader of payments has, and where each table stands.

    Args:
        complete_to: Kafka time up to which every record is in payments; None: not known yet.
        p99_delay: time within which 99 % of the records of the last 24 hours had come, at most.
        consistent: the greatest vector that all these tables have stood at.
    """

    complete_to: datetime | None
    p99_delay: timedelta | None
    consistent: OffsetVector
    tables: dict[str, Standing]

    def closed_to(self, closed_after: timedelta = CLOSED_AFTER) -> datetime | None:
        """Tell the event time up to which all hours are closed: the end of the last one."""
        if self.complete_to is None:
            return None
        return (self.complete_to - closed_after).astimezone(UTC).replace(minute=0, second=0, microsecond=0)

    def at_least(self, moment: datetime | None) -> Complete:
        """Take a Kafka time that was found elsewhere, if it is later."""
        known = (known for known in (self.complete_to, moment) if known is not None)
        return replace(self, complete_to=max(known, default=None))

    @property
    def watermark(self) -> datetime | None:
        """The event time up to which 99 % has come, if records come as they came in the last 24 hours."""
        if self.complete_to is None or self.p99_delay is None:
            return None
        return self.complete_to - self.p99_delay


def complete(catalog: RestCatalog, properties: Mapping[str, str]) -> Complete:
    """Read how far the tables are. Raises `UnknownMoment` where they have no vector in common."""
    heads = {name: read_head(catalog, name) for name in _TABLES}
    return Complete(
        heads[PAYMENTS].progress.complete_to,
        p99_delay(catalog, properties),
        consistent({name: head.table for name, head in heads.items()}).vector,
        {name: _standing(head, heads[RAW].offsets) for name, head in heads.items()},
    )


def p99_delay(catalog: RestCatalog, properties: Mapping[str, str]) -> timedelta | None:
    """Tell within which time 99 % of the records of the last 24 hours had come; None: not known yet."""
    answer = run_query(catalog, properties, f"SELECT p99_delay_ms FROM {WATERMARK_VIEW}")  # noqa: S608
    milliseconds: int | None = answer.rows[0][0]
    return None if milliseconds is None else timedelta(milliseconds=milliseconds)


def _standing(head: Head, raw: OffsetVector) -> Standing:
    return Standing(
        head.snapshot.snapshot_id,
        head.offsets,
        OffsetVector().records_to(head.offsets),
        head.offsets.records_to(raw),
        head.progress.complete_to,
    )
