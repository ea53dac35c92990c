"""Reading what the quality page is made from: DuckDB on one set of snapshots.

Belongs here: the statements. Does not: what is made of the rows (`model.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pyiceberg.catalog.rest import RestCatalog

from lakehouse.arrivals_sql import ARRIVALS_VIEW
from lakehouse.consistency import consistent
from lakehouse.definitions import (
    DRIFT,
    PARTNER_HOURS,
    PAYMENTS,
    QUARANTINE,
    RECONCILIATION,
    VERSIONS,
)
from lakehouse.gate_log import GateLog
from lakehouse.moments import Moment
from lakehouse.query import run_query
from lakehouse.refs import read_head
from quality.contract import in_force
from streaming.profile.anomalies import find_anomalies
from streaming.quality_page.material import (
    Anomalies,
    Counted,
    Delay,
    DriftField,
    EventHour,
    Identity,
    MadeFrom,
    Material,
    Reason,
    Warned,
)
from streaming.schemas.drift_report import report_drift

HOUR, SPAN = timedelta(hours=1), timedelta(days=7)
_CURATED = (VERSIONS, PAYMENTS, QUARANTINE)
_LOOKED_AT = 24  # hours in which anomalies are looked for: each needs its weeks of history
_BEFORE = timedelta(hours=48)  # event hours before the range, which its records fell into

_Rows = Callable[[str], list[tuple[Any, ...]]]


def read_material(
    catalog: RestCatalog,
    properties: Mapping[str, str],
    start: datetime | None,
    end: datetime | None,
    now: datetime,
) -> Material:
    """Read the Kafka hours from `start` to before `end`; both are starts of hours, in UTC.

    Without an end, the hour of `now` is the last. Without a start, the first is that of the first record in
    the seven days before the end.

    Raises `UnknownMoment` where the curated tables have no offset vector in common.
    """
    end = end or now.replace(minute=0, second=0, microsecond=0) + HOUR
    heads = {name: read_head(catalog, name) for name in (*_CURATED, PARTNER_HOURS, DRIFT)}
    found = consistent({name: heads[name].table for name in _CURATED})
    is_reconciled = catalog.table_exists(RECONCILIATION)
    snapshots = {
        **{name: heads[name].snapshot.snapshot_id for name in (PARTNER_HOURS, DRIFT)},
        **found.snapshots,
    }
    if is_reconciled:
        snapshots[RECONCILIATION] = read_head(catalog, RECONCILIATION).snapshot.snapshot_id
    moment = Moment(snapshots=snapshots)

    def rows(sql: str) -> list[tuple[Any, ...]]:
        return run_query(catalog, properties, sql, moment).rows

    counted = [Counted(*row) for row in rows(_COUNTED.format(**_range(start or end - SPAN, end)))]
    start = start or min((row.hour for row in counted), default=end - HOUR)
    within = _range(start, end)
    fields = report_drift(catalog, start, end).found
    return Material(
        start=start,
        end=end,
        made_at=now,
        made_from=MadeFrom(
            snapshots,
            found.vector.to_json(),
            in_force(now).version,
            heads[VERSIONS].progress.complete_to,
            heads[PARTNER_HOURS].offsets.records_to(found.vector),
        ),
        counted=counted,
        duplicates=dict(rows(_DUPLICATES.format(**within))),
        reasons=[Reason(*row) for row in rows(_REASONS.format(**within))],
        warned=[Warned(*row) for row in rows(_WARNED.format(**within))],
        delays=[
            Delay(source, float(bound), count) for source, bound, count in rows(_DELAYS.format(**within))
        ],
        event_hours=[EventHour(*row) for row in rows(_EVENT_HOURS.format(**_range(start - _BEFORE, end)))],
        identities=read_identities(rows(IDENTITIES.format(**within))) if is_reconciled else None,
        gates=GateLog(catalog).events(),
        drift=[DriftField(d.field, d.source, d.json_type, d.first_seen, d.records) for d in fields],
        drift_hours=dict(rows(_DRIFT_HOURS.format(**within))),
        anomalies=_anomalies(catalog, properties, start, end, moment),
    )


def _anomalies(
    catalog: RestCatalog, properties: Mapping[str, str], start: datetime, end: datetime, moment: Moment
) -> Anomalies:
    complete_to = read_head(catalog, PARTNER_HOURS).progress.complete_to
    if complete_to is None:
        return Anomalies()
    last = complete_to.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [hour for i in range(_LOOKED_AT) if start <= (hour := min(last, end) - (i + 1) * HOUR)]
    report = find_anomalies(catalog, properties, hours, moment=moment)
    return Anomalies(len(report.hours), report.compared, report.unknown, report.found)


def read_identities(rows: list[tuple[Any, ...]]) -> list[Identity]:
    """Read the rows of `IDENTITIES`."""
    return [(one := Identity(*row))._replace(terms=json.loads(str(one.terms))) for row in rows]


def _range(start: datetime, end: datetime) -> dict[str, str]:
    return {"start": f"TIMESTAMPTZ '{start.isoformat()}'", "end": f"TIMESTAMPTZ '{end.isoformat()}'"}


# The names are those of lakehouse/definitions/, nothing from outside.
_COUNTED = f"""
    WITH counted AS (
        SELECT kafka_hour AS hour, source,
            sum(records) FILTER (measure = 'records') AS records,
            sum(records) FILTER (measure = 'late') AS late
        FROM {PARTNER_HOURS} WHERE kafka_hour >= {{start}} AND kafka_hour < {{end}} GROUP BY ALL
    ), stored AS (
        SELECT kafka_ts, source, 'version' AS state FROM {VERSIONS} UNION ALL
        SELECT kafka_ts, source, state FROM {QUARANTINE}
    ), told AS (
        SELECT date_trunc('hour', kafka_ts) AS hour, coalesce(source, '') AS source,
            count(*) FILTER (state = 'version') AS versions,
            count(*) FILTER (state <> 'version') AS quarantined, count(*) FILTER (state = 'open') AS open
        FROM stored WHERE kafka_ts >= {{start}} AND kafka_ts < {{end}} GROUP BY ALL
    )
    SELECT hour, source, coalesce(records, versions + quarantined)::BIGINT, coalesce(late, 0)::BIGINT,
        coalesce(versions, 0), coalesce(quarantined, 0), coalesce(open, 0)
    FROM counted FULL JOIN told USING (hour, source) ORDER BY hour, source
"""  # noqa: S608
# An event that is no payment of its own counts in the hour of the payment's row.
_DUPLICATES = f"""
    WITH several AS (
        SELECT topic_id, partition, "offset", len(event_ids) - 1 AS duplicates
        FROM {PAYMENTS} WHERE len(event_ids) > 1
    ), came AS (
        SELECT topic_id, partition, "offset", kafka_ts
        FROM {VERSIONS} WHERE kafka_ts >= {{start}} AND kafka_ts < {{end}}
    )
    SELECT date_trunc('hour', kafka_ts), sum(duplicates)::BIGINT
    FROM several JOIN came USING (topic_id, partition, "offset") GROUP BY ALL
"""  # noqa: S608
_REASONS = f"""
    WITH broken AS (
        SELECT topic_id, partition, "offset", coalesce(source, '') AS source, state,
            unnest(violations, recursive := true)
        FROM {QUARANTINE} WHERE kafka_ts >= {{start}} AND kafka_ts < {{end}}
    ), once AS (
        SELECT topic_id, partition, "offset", source, rule, field, any_value(state) AS state,
            min(message) AS message
        FROM broken GROUP BY ALL
    )
    SELECT rule, field, min(message), source, count(*), count(*) FILTER (state = 'open')
    FROM once GROUP BY rule, field, source
"""  # noqa: S608
_WARNED = f"""
    SELECT value, source, sum(records)::BIGINT FROM {PARTNER_HOURS}
    WHERE measure = 'warned' AND kafka_hour >= {{start}} AND kafka_hour < {{end}}
    GROUP BY ALL ORDER BY 3 DESC, 1, 2
"""  # noqa: S608
_DELAYS = f"""
    SELECT source, value, sum(records)::BIGINT FROM {PARTNER_HOURS}
    WHERE measure = 'delay' AND kafka_hour >= {{start}} AND kafka_hour < {{end}} GROUP BY ALL
"""  # noqa: S608
_EVENT_HOURS = f"""
    SELECT hour, records, late_records::BIGINT, completeness FROM {ARRIVALS_VIEW}
    WHERE hour >= {{start}} AND hour < {{end}} ORDER BY hour
"""  # noqa: S608
_DRIFT_HOURS = f"""
    SELECT kafka_hour, sum(records)::BIGINT FROM {DRIFT}
    WHERE kafka_hour >= {{start}} AND kafka_hour < {{end}} GROUP BY ALL
"""  # noqa: S608
IDENTITIES = f"""
    SELECT run, made_at, depth, scope, scope_from, scope_to, identity, formula, currency, event_type,
        left_sum, right_sum, terms, state, first_break
    FROM {RECONCILIATION}
    WHERE coalesce(scope_from < {{end}}, true) AND coalesce(scope_to > {{start}}, true)
    ORDER BY made_at, identity
"""  # noqa: S608
