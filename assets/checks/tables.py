"""Checks of what tables hold: shape, keys, conservation, files.

Belongs here: one function per check, from a lake to a finding. Does not: when they run (`standing.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg

from assets.checks.finding import Finding
from assets.lake import Lake
from assets.metadata import of_head
from lakehouse.arrivals_sql import ARRIVALS_VIEW, HOUR
from lakehouse.definitions import BY_NAME, RAW, SNAPSHOTS_KEPT
from lakehouse.maintenance.measure import usage_of
from lakehouse.maintenance.need import Limits, is_needy
from lakehouse.query import run_query
from lakehouse.refs import read_head, stamp_of
from lakehouse.stored_hash import in_hours
from lakehouse.tables import compare
from quality.contract import HISTORY
from streaming.partitions import hour_of

# Keys are compared within hours that changed lately: a row that stands twice came with its second copy.
RECENT, MOST_HOURS = timedelta(hours=24), 48
# Files are looked at in the hours that compaction has come to of late.
FILES_OF = timedelta(days=7)
# Compaction takes the neediest first: a backlog of more than this says that it does not keep up.
MOST_NEEDY = 200


def contract(lake: Lake, name: str) -> Finding:
    """The table has the shape of its definition, and its newest rows were judged by a contract we know."""
    head = read_head(lake.catalog(), name)
    differences = compare(head.table, BY_NAME[name], lake.settings().tables.buckets)
    stamp = stamp_of(head.snapshot)
    if stamp is None:
        differences.append(f"snapshot {head.snapshot.snapshot_id} is not one of ours: nobody audited it")
    version = head.progress.contract_version
    if version is not None and version > HISTORY[-1].version:
        differences.append(f"judged by contract version {version}; this code knows {HISTORY[-1].version}")
    text = "; ".join(differences) or "as defined"
    return Finding(not differences, text, metadata={"contract_version": version or "none"})


def unique_key(lake: Lake, name: str) -> Finding:
    """No two rows share their key, in the newest event hours that were written to within a day."""
    hours = _written(lake)
    if not hours:
        return Finding(True, f"nothing was published within {RECENT}")
    key = ", ".join(f'"{column}"' for column in BY_NAME[name].key)
    found = run_query(
        lake.catalog(),
        lake.properties(),
        f"SELECT {key}, count(*) AS rows FROM {name} WHERE {in_hours(BY_NAME[name], hours)} "  # noqa: S608
        f"GROUP BY {key} HAVING count(*) > 1 ORDER BY ALL LIMIT 20",
    )
    if not found.rows:
        return Finding(True, f"no two rows of {len(hours):,} hours share ({key})")
    rows = [dict(zip(found.columns, map(_shown, row), strict=True)) for row in found.rows]
    first = ", ".join(f"{name} {value}" for name, value in rows[0].items())
    return Finding(
        False,
        f"rows share their key, the first of them: {first}; `paywave replay apply` puts the partition right",
        metadata={"doubled": dg.MetadataValue.table([dg.TableRecord(row) for row in rows])},
    )


def _shown(value: object) -> str:
    return "null" if value is None else str(value)


def _written(lake: Lake) -> set[int]:
    """The newest of the event hours that publishes of late brought records of."""
    found = run_query(
        lake.catalog(),
        lake.properties(),
        f"SELECT epoch(hour)::BIGINT // 3600 FROM {ARRIVALS_VIEW} WHERE hour IS NOT NULL "  # noqa: S608
        f"AND last_published_at >= getvariable('since') ORDER BY hour DESC LIMIT {MOST_HOURS}",
        variables={"since": datetime.now(UTC) - RECENT},
    )
    return {hour for (hour,) in found.rows}


def conservation(lake: Lake, _name: str) -> Finding:
    """Records = redelivered + versions + quarantined, by the metadata of the tables."""
    from streaming.reconcile.hours import count_tables  # loads Spark's library

    catalog = lake.catalog()
    results = list(count_tables(catalog, read_head(catalog, RAW), datetime.now(UTC)))
    accounts = [account for result in results for account in result.accounts]
    said = [
        f"{account.formula}: {account.total.left:,} = {' + '.join(f'{n:,}' for n in account.total.right)}"
        for account in accounts
    ]
    if not accounts:
        return Finding(True, "a batch is being published: versions and quarantine stand at different records")
    if all(account.is_balanced for account in accounts):
        return Finding(True, "; ".join(said))
    return Finding(False, f"{'; '.join(said)}; `paywave reconcile` names the first record that is missing")


def file_health(lake: Lake, name: str) -> Finding:
    """Few partitions of the last week have many small or half deleted files; few snapshots are kept."""
    head, limits = read_head(lake.catalog(), name), Limits()
    hours = _last_week() if BY_NAME[name].hour_of else None
    usages = usage_of(head.table, head.snapshot, limits.target_bytes, hours)
    needy = sum(is_needy(usage, limits) for usage in usages.values())
    snapshots = len(head.table.metadata.snapshots)
    told = of_head(head)
    return Finding(
        needy <= MOST_NEEDY and snapshots <= 4 * SNAPSHOTS_KEPT,
        f"{needy:,} of {len(usages):,} partitions are worth compacting, {snapshots:,} snapshots kept",
        warns=True,
        metadata={
            "needy_partitions": needy,
            "snapshots": snapshots,
            **{figure: told[figure] for figure in ("files", "bytes", "deleted_rows")},
        },
    )


def _last_week() -> range:
    now = hour_of(datetime.now(UTC))
    return range(now - round(FILES_OF / HOUR), now + 1)
