"""Running counts after a replay: how many records are redeliveries, which no row says.

Belongs here: correcting the totals that the stamps carry. Does not: the conservation law, which reads them
(`lakehouse/conservation.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from pyiceberg.table.snapshots import Operation
from pyspark.sql import SparkSession

from lakehouse.definitions import QUARANTINE, VERSIONS
from lakehouse.publish import Plan, Publisher
from lakehouse.refs import Head, ancestry, stamp_of
from lakehouse.staging import append_nothing
from lakehouse.totals import REDELIVERED, RELEASED
from streaming.replay.pinned import read_at


def redelivered(head: Head, more: int) -> dict[str, int]:
    """A record that is a version now is a redelivery no longer, and the other way round."""
    return corrected(head, REDELIVERED, more)


def corrected(head: Head, name: str, more: int) -> dict[str, int]:
    """Lower a count by the rows that a replay brings (or raise it by those it takes away).

    Not where others than our writers changed the table: rows that come back were counted once already.
    """
    return {} if _is_changed_by_others(head) else {name: head.totals.get(name, 0) - more}


def count_anew(spark: SparkSession, publisher: Publisher, valid_records: Callable[[Head], int]) -> None:
    """Count redeliveries anew after a replay of all of raw, and publish the counts where they were wrong."""

    def of_versions(head: Head) -> Plan | None:
        rows = read_at(spark, head).count()
        return _recounted(spark, head, {REDELIVERED: valid_records(head) - rows})

    publisher.publish(VERSIONS, of_versions)
    publisher.publish(QUARANTINE, lambda head: _recounted(spark, head, {RELEASED: 0}))


def _recounted(spark: SparkSession, head: Head, totals: dict[str, int]) -> Plan | None:
    if all(head.totals.get(name, 0) == count for name, count in totals.items()):
        return None
    return Plan(
        lambda stage: append_nothing(stage, spark),
        lambda _table, _staged: None,
        contract_version=head.progress.contract_version,
        totals=totals,
    )


def _is_changed_by_others(head: Head) -> bool:
    return any(
        stamp_of(snapshot) is None
        and snapshot.summary is not None
        and snapshot.summary.operation is not Operation.REPLACE  # compaction changes no row
        for snapshot in ancestry(head.table.metadata, head.snapshot)
    )
