"""Partners' hours that are unusual beside their own history.

Belongs here: reading the counts of hours and of the same hours of the weeks before. Does not: what is unusual
(`quality/partner_hour.py`), looks (`cli/`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pyiceberg.catalog.rest import RestCatalog

from lakehouse.definitions import PARTNER_HOURS, QUARANTINE, RAW, VERSIONS
from lakehouse.moments import NOW, Moment
from lakehouse.query import run_query
from lakehouse.refs import read_head
from quality.partner_hour import WEEK, WEEKS, Anomaly, Finding, Hour, hours_before, look_at
from quality.profile import RECORDS

HOUR = timedelta(hours=1)
_At = tuple[str, datetime]
_Rows = Callable[[str], list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Report:
    """What is unusual in some hours, the furthest off first.

    Args:
        hours: the hours that were looked at: those asked for that are complete.
        compared, unknown: figures that were compared, and those with too little history to know.
        complete_to: Kafka time up to which every record is counted; None: not known yet.
        behind: records of raw that are not counted yet.
    """

    hours: tuple[datetime, ...]
    found: tuple[Anomaly, ...]
    compared: int
    unknown: int
    complete_to: datetime | None
    behind: int


def find_anomalies(
    catalog: RestCatalog,
    properties: Mapping[str, str],
    wanted: Collection[datetime] | None = None,
    partner: str | None = None,
    moment: Moment = NOW,
) -> Report:
    """Compare hours with their history.

    Args:
        wanted: starts of Kafka hours; those that are not complete are left out. None: the last complete one.
        partner: only this one's.
        moment: which snapshots are read.
    """
    head, raw, versions = (read_head(catalog, name) for name in (PARTNER_HOURS, RAW, VERSIONS))
    complete_to = head.progress.complete_to
    hours = tuple(_complete(wanted, complete_to))
    known = _Known(
        lambda sql: run_query(catalog, properties, sql, moment).rows, hours, versions.progress.complete_to
    )
    found = [
        (hour, source, finding)
        for source, since in known.since.items()
        if partner in (None, source)
        for hour in hours
        if hour >= since
        for finding in known.look_at(source, hour, since)
    ]
    unusual = [
        Anomaly(hour, source, f.metric, f.comparison)
        for hour, source, f in found
        if f.comparison is not None and f.comparison.is_unusual
    ]
    compared = sum(f.comparison is not None for _, _, f in found)
    return Report(
        hours,
        tuple(sorted(unusual, key=lambda a: -a.comparison.off)),
        compared,
        len(found) - compared,
        complete_to,
        head.offsets.records_to(raw.offsets),
    )


def _complete(wanted: Collection[datetime] | None, complete_to: datetime | None) -> list[datetime]:
    if complete_to is None:
        return []
    last = complete_to.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - HOUR
    return [last] if wanted is None else sorted(hour for hour in wanted if hour <= last)


class _Known:
    """The counts of some hours, and of the same hours of the weeks before."""

    def __init__(self, rows: _Rows, hours: Sequence[datetime], curated_to: datetime | None) -> None:
        self._curated_to = curated_to
        self.since: dict[str, datetime] = dict(rows(_SINCE)) if hours else {}
        listed = ", ".join(sorted({_sql(hour - week * WEEK) for hour in hours for week in range(WEEKS + 1)}))
        self._counts: dict[_At, dict[tuple[str, str], int]] = {}
        self._told: dict[_At, int] = {}
        if not self.since:
            return
        for hour, source, measure, value, records in rows(_COUNTS.format(hours=listed)):
            self._counts.setdefault((source, hour), {})[measure, value] = records
        for hour, source, records in rows(_TOLD.format(hours=listed)):
            self._told[source, hour] = records

    def look_at(self, source: str, hour: datetime, since: datetime) -> list[Finding]:
        history = [self._hour(source, earlier) for earlier in hours_before(hour, since)]
        return look_at(self._hour(source, hour), history)

    def _hour(self, source: str, hour: datetime) -> Hour:
        counts = self._counts.get((source, hour), {})
        if self._curated_to is None or hour + HOUR > self._curated_to:
            return Hour(counts)
        told = self._told.get((source, hour), 0)
        return Hour(counts, redelivered=max(counts.get((RECORDS, ""), 0) - told, 0))


def _sql(moment: datetime) -> str:
    return f"TIMESTAMPTZ '{moment.isoformat()}'"


# The names are those of lakehouse/definitions/, nothing from outside.
_SINCE = f"""
    SELECT source, min(kafka_hour) FROM {PARTNER_HOURS} WHERE measure = '{RECORDS}'
    GROUP BY source ORDER BY source
"""  # noqa: S608
_COUNTS = f"""
    SELECT kafka_hour, source, measure, value, records FROM {PARTNER_HOURS} WHERE kafka_hour IN ({{hours}})
"""  # noqa: S608
# A record that is neither a version's earliest copy nor in quarantine is a redelivery: told from the tables
# as they are, since an earlier copy may still come.
_TOLD = f"""
    SELECT date_trunc('hour', kafka_ts) AS hour, coalesce(source, ''), count(*) FROM (
        SELECT kafka_ts, source FROM {VERSIONS} WHERE date_trunc('hour', kafka_ts) IN ({{hours}})
        UNION ALL
        SELECT kafka_ts, source FROM {QUARANTINE} WHERE date_trunc('hour', kafka_ts) IN ({{hours}})
    ) GROUP BY ALL
"""  # noqa: S608
