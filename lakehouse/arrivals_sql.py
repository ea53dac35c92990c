"""What the publish log tells of late data, as views in DuckDB's SQL: hours, and the watermark.

Belongs here: what a closed hour, its completeness and the watermark are (docs/adr/0011-complete-to.md).
Does not: running it (`query.py`), which payments a late record changed (`changes.py`).
"""

from __future__ import annotations

from datetime import timedelta

from lakehouse.definitions import PAYMENTS, PUBLISH_LOG

ARRIVALS_VIEW = "curated.arrivals"
WATERMARK_VIEW = "curated.watermark"
# Chargebacks come from the networks' daily files: what is a day late is on time.
CLOSED_AFTER = timedelta(hours=24)
HOUR = timedelta(hours=1)
# Delays of this long before the newest publish tell what to expect.
_RECENT = "INTERVAL 24 HOURS"

# The names are those of lakehouse/definitions/, nothing from outside.
_PUBLISHES = f"""
publishes AS (  -- of the table that there is now, in case it was dropped and built again
  SELECT published_at, complete_to, arrivals FROM {PUBLISH_LOG}
  WHERE table_name = '{PAYMENTS}' AND table_uuid =
    (SELECT arg_max(table_uuid, published_at) FROM {PUBLISH_LOG} WHERE table_name = '{PAYMENTS}')
), noted AS (
  SELECT published_at, unnest(arrivals, recursive := true) FROM publishes
)"""  # noqa: S608

# One row per event hour; the one without an hour sums up what publishes had from before their newest 200.
ARRIVALS_SQL = f"""
WITH {_PUBLISHES}, hours AS (
  SELECT to_timestamp(hour * 3600) AS hour,
    to_timestamp((hour + 1) * 3600) + INTERVAL {CLOSED_AFTER.total_seconds():.0f} SECONDS AS closes_at,
    sum(records)::BIGINT AS records, max(max_delay_ms) AS max_delay_ms, max(p99_delay_ms) AS p99_delay_ms,
    min(published_at) AS first_published_at, max(published_at) AS last_published_at
  FROM noted GROUP BY noted.hour
), reached AS (
  SELECT complete_to, min(published_at) AS published_at FROM publishes
  WHERE complete_to IS NOT NULL GROUP BY complete_to
), closed AS (
  SELECT hours.*, reached.published_at AS closed_at
  FROM hours ASOF LEFT JOIN reached ON hours.closes_at <= reached.complete_to
), late AS (
  SELECT closed.hour, sum(noted.records)::BIGINT AS records
  FROM noted JOIN closed ON to_timestamp(noted.hour * 3600) = closed.hour
  WHERE noted.published_at > closed.closed_at GROUP BY closed.hour
)
SELECT closed.hour, closed.records, max_delay_ms, p99_delay_ms, first_published_at, last_published_at,
  closes_at, closed_at,
  CASE WHEN closed_at IS NOT NULL THEN coalesce(late.records, 0) END AS late_records,
  CASE WHEN closed_at IS NOT NULL THEN round(1 - coalesce(late.records, 0) / closed.records, 6) END
    AS completeness,
  (SELECT max(complete_to) FROM publishes) AS complete_to
FROM closed LEFT JOIN late USING (hour) ORDER BY closed.hour
"""  # noqa: S608

# One row. Of each hour of a publish 99 % came within its p99 and the rest within its maximum: the delay
# within which 99 % of all of them came is not more than what this finds.
WATERMARK_SQL = f"""
WITH {_PUBLISHES}, recent AS (
  SELECT * FROM noted WHERE published_at > (SELECT max(published_at) - {_RECENT} FROM publishes)
), shares AS (
  SELECT p99_delay_ms AS delay_ms, 99 * records AS share FROM recent
  UNION ALL SELECT max_delay_ms, records FROM recent
), ranked AS (
  SELECT delay_ms, sum(share) OVER (ORDER BY delay_ms) AS within, sum(share) OVER () AS total FROM shares
), found AS (
  SELECT min(delay_ms) AS delay_ms FROM ranked WHERE within * 100 >= total * 99
), known AS (
  SELECT max(complete_to) AS complete_to,
    (SELECT CASE WHEN delay_ms < 0 THEN 0 ELSE delay_ms END FROM found) AS p99_delay_ms
  FROM publishes
)
SELECT complete_to, p99_delay_ms,
  complete_to - to_milliseconds(p99_delay_ms) AS watermark,
  date_trunc('hour', complete_to - INTERVAL {CLOSED_AFTER.total_seconds():.0f} SECONDS) AS closed_to
FROM known
"""  # noqa: S608
