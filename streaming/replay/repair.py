"""`paywave repair`: fold the groups of identity conflicts together, as the reference does.

Belongs here: publishing that to payments. Does not: finding conflicts (`conflicts.py`).

The live job folds each group alone. When it touches one of these again the conflict is open again, until the
next repair.
"""

from __future__ import annotations

import structlog
from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from lakehouse.consistency import standings
from lakehouse.definitions import PAYMENTS, VERSIONS
from lakehouse.publish import Plan, Publisher
from lakehouse.refs import Head
from lakehouse.turns import wait_for_turn
from streaming.frames import Frames
from streaming.replay.conflicts import Conflict, Conflicts
from streaming.replay.pinned import Pinned, pin, pinned_at
from streaming.replay.replace import difference_of, replacement

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


def repair(
    catalog: RestCatalog, spark: SparkSession, buckets: int, dry_run: bool = False
) -> tuple[Conflict, ...]:
    """Find all identity conflicts and repair those that are open. Returns them as they were found."""
    with _tracer.start_as_current_span("repair", attributes={"dry_run": dry_run}):
        found = Conflicts.find(pin(spark, catalog, buckets)).judged()
        if dry_run or not any(conflict.is_open for conflict in found):
            return found
        wait_for_turn(catalog, PAYMENTS)

        def plan(head: Head) -> Plan | None:
            pinned = _at(spark, catalog, buckets, head)
            conflicts = Conflicts.find(pinned)
            if not conflicts.found:
                return None
            have = conflicts.within(pinned.read(PAYMENTS, conflicts.partitions))
            want = keep(conflicts.payments())
            found = difference_of(PAYMENTS, want, have, keep)
            return replacement(head, found, conflicts.partitions, buckets).plan if found else None

        with Frames() as keep:
            Publisher(catalog, "repair").publish(PAYMENTS, plan)
        _log.info("repaired", conflicts=len(found))
        return found


def _at(spark: SparkSession, catalog: RestCatalog, buckets: int, head: Head) -> Pinned:
    """Pin payments at the head, and the versions that it was folded from."""
    versions = catalog.load_table(VERSIONS)
    stood = (snapshot_id for snapshot_id, vector in standings(versions) if vector == head.offsets)
    newest = versions.metadata.current_snapshot_id
    snapshots = {PAYMENTS: head.snapshot.snapshot_id, VERSIONS: next(stood, newest)}
    tables = {PAYMENTS: head.table, VERSIONS: versions}
    return pinned_at(spark, tables, buckets, head.offsets, snapshots)
