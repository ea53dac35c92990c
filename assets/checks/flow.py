"""Checks of what flows: freshness and completeness in event time, gates, quarantine, reconciliation.

Belongs here: one function per check, from a lake to a finding. Does not: when they run (`standing.py`).
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from pyiceberg.expressions import EqualTo

from assets.checks.finding import Finding
from assets.lake import Lake
from lakehouse.arrivals_sql import ARRIVALS_VIEW
from lakehouse.complete import complete
from lakehouse.definitions import PAYMENTS, QUARANTINE, RECONCILIATION
from lakehouse.gate_log import GateLog
from lakehouse.query import run_query
from quality.policy import Action, gate
from streaming.backfill.hours import write_hour
from streaming.completeness import complete_to
from streaming.errors import StreamingError
from streaming.partitions import hour_of
from streaming.topic_state import BRIEF_SECONDS, inspect_topic

# What readers are promised, and how long an AZ may take to come back.
FRESH, LATE = timedelta(minutes=2), timedelta(minutes=10)
LEAST_COMPLETE = 0.99
RECONCILED_WITHIN = timedelta(hours=26)
_DAY = timedelta(days=1)
# When the last run was, and every break that no later run over at least the same records found to balance.
# What was judged record by record is not settled by counts.
_STANDING_BREAKS = f"""
WITH runs AS (
  SELECT run, identity, any_value(scope) AS scope, any_value(depth) AS depth, min(made_at) AS made_at,
    coalesce(min(scope_from), TIMESTAMPTZ '1970-01-01') AS since,
    coalesce(max(scope_to), min(made_at)) AS until,
    bool_or(state = 'broken') AS is_broken, any_value(first_break) AS first_break
  FROM {RECONCILIATION} GROUP BY run, identity
), standing AS (
  SELECT * FROM runs AS b WHERE is_broken AND NOT EXISTS (
    FROM runs AS l WHERE l.identity = b.identity AND NOT l.is_broken AND l.made_at > b.made_at
    AND l.since <= b.since AND l.until >= b.until AND (l.depth = 'deep' OR b.depth = 'counts'))
)
SELECT latest.made_at, identity, scope, first_break
FROM (SELECT max(made_at) AS made_at FROM runs) AS latest LEFT JOIN standing ON true
ORDER BY standing.made_at DESC
"""  # noqa: S608
_equal: Any = EqualTo  # pydantic hides its signature from the type checker


def freshness(lake: Lake, _name: str) -> Finding:
    """Readers have all that Kafka took until minutes ago, and so events up to the watermark.

    It is judged by the records' own times: a run, a backfill or a compaction makes nothing fresh.
    """
    settings = lake.settings()
    found = complete(lake.catalog(), lake.properties())
    try:
        topic = inspect_topic(settings.kafka_properties(), settings.kafka.topic, BRIEF_SECONDS)
        reached = found.tables[PAYMENTS].offsets.topics.get(topic.topic_id, {})
        found = found.at_least(complete_to(settings.kafka_properties(), topic, reached))
    except StreamingError:
        pass  # the stamps say how far it was
    if found.complete_to is None:
        return Finding(False, "not known yet: nothing has been published", warns=True)
    behind = datetime.now(UTC) - found.complete_to
    metadata = {
        "complete_to": dg.MetadataValue.timestamp(found.complete_to),
        "seconds_behind": round(behind.total_seconds(), 3),
        "records_behind": found.tables[PAYMENTS].behind,
    }
    if found.watermark is not None:
        metadata["watermark"] = dg.MetadataValue.timestamp(found.watermark)
    said = f"payments hold all that Kafka took up to {found.complete_to.isoformat()}, {behind} ago"
    return Finding(behind <= FRESH, said, warns=behind <= LATE, metadata=metadata)


def completeness(lake: Lake, _name: str) -> Finding:
    """Of the event hours that closed within a day, nearly all had come when they closed."""
    found = run_query(
        lake.catalog(),
        lake.properties(),
        f"SELECT hour, records, late_records, completeness FROM {ARRIVALS_VIEW} "  # noqa: S608
        f"WHERE hour IS NOT NULL AND closed_at >= getvariable('since') ORDER BY hour",
        variables={"since": datetime.now(UTC) - _DAY},
    )
    short = [row for row in found.rows if row[3] < LEAST_COMPLETE]
    records = [
        dg.TableRecord(
            {
                "event hour": write_hour(hour_of(hour)),
                "records": records,
                "late": late,
                "completeness": float(share),
            }
        )
        for hour, records, late, share in found.rows
    ]
    whole, closed = len(found.rows) - len(short), len(found.rows)
    said = f"{whole:,} of {closed:,} hours that closed within a day were complete when they closed"
    hours = {"hours": dg.MetadataValue.table(records)} if records else {}
    hint = "; `paywave changes --hour` says what came late" if short else ""
    return Finding(not short, said + hint, True, hours)


def gates(lake: Lake, _name: str) -> Finding:
    """No gate is closed and no partner is held."""
    standing = GateLog(lake.catalog()).state().standing
    closed = [event for event in standing if gate(event.gate).action is Action.BLOCK]
    text = "; ".join(f"{e.gate} {e.event} {e.source or ''}: {e.reason}" for e in standing)
    said = f"{text}; `paywave gate status` says what to do" if standing else "nothing is held back"
    return Finding(not standing, said, warns=not closed)


def quarantine(lake: Lake, _name: str) -> Finding:
    """Nothing has been open in quarantine for longer than a day."""
    table = lake.catalog().load_table(QUARANTINE)
    is_open = _equal("state", "open")
    rows = table.scan(is_open, selected_fields=("kafka_ts", "violations")).to_arrow().to_pylist()
    reasons = Counter(rule["rule"] for row in rows for rule in row["violations"])
    old = sum(row["kafka_ts"] < datetime.now(UTC) - _DAY for row in rows)
    records = [dg.TableRecord({"rule": rule, "open": count}) for rule, count in reasons.most_common()]
    return Finding(
        not old,
        f"{len(rows):,} records are open, {old:,} of them for more than a day; `paywave quarantine list`",
        True,
        {"open": len(rows), **({"reasons": dg.MetadataValue.table(records)} if records else {})},
    )


def balanced(lake: Lake, _name: str) -> Finding:
    """The books were reconciled within a day, and no break stands; a later run of it settles one."""
    found = run_query(lake.catalog(), lake.properties(), _STANDING_BREAKS)
    latest = found.rows[0][0] if found.rows else None
    if latest is None or latest < datetime.now(UTC) - RECONCILED_WITHIN:
        return Finding(False, f"nothing was reconciled within {RECONCILED_WITHIN}: `paywave reconcile`", True)
    broken = [(identity, scope, first) for _, identity, scope, first in found.rows if identity is not None]
    if not broken:
        return Finding(True, f"no break stands; reconciled at {latest.isoformat()}")
    identity, scope, first = broken[0]
    said = f"{len(broken):,} breaks stand, the latest: {identity}, {scope}"
    return Finding(False, f"{said}; first: {first or 'see `paywave reconcile`'}")
