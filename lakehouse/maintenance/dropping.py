"""The publish that drops old days of a table: whole files, by metadata, with what went in its stamp.

Belongs here: that plan, and how long it insists. Does not: which days, and whether they may go
(`retention.py`, `curated_retention.py`), finding and checking the files (`old_files.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date

from opentelemetry import metrics
from pyspark.sql import SparkSession

from lakehouse.definitions import BY_NAME
from lakehouse.maintenance.due import first_hour_of, start_of_day
from lakehouse.maintenance.old_files import OldFile, check_dropped, drop_files
from lakehouse.offsets import OffsetVector
from lakehouse.patience import DEFAULT
from lakehouse.publish import Plan, Stage
from lakehouse.refs import Head
from lakehouse.retention_log import NOTE, Day, Order, note_of
from lakehouse.retired import Retired
from lakehouse.totals import RETIRED

WRITER = "retention"
ABANDONED_SECONDS = 3600.0
# The jobs publish every few seconds; measuring is not done again for them, staging is.
PATIENCE = replace(DEFAULT, attempts=20)
dropped = metrics.get_meter(__name__).create_counter("paywave.retention.dropped", unit="{record}")


def plan_to_drop(
    head: Head,
    spark: Callable[[], SparkSession],
    before: date,
    old: Iterable[OldFile],
    days: list[Day],
    below: OffsetVector,
    order: Order,
) -> Plan:
    """Plan to drop the days of a table before one.

    Args:
        old: the files of these days; `days` says what is in them.
        below: records below it are those whose rows go; the stamp says so, with those of earlier drops.
    """
    cut, column = start_of_day(before), BY_NAME[head.name].hour_of
    assert column is not None

    def write(stage: Stage) -> None:
        drop_files(stage, spark(), column, cut.isoformat())

    return Plan(
        write,
        lambda table, staged: check_dropped(table, head.snapshot, staged, first_hour_of(before), old),
        totals={RETIRED: head.totals.get(RETIRED, 0) + sum(day.records for day in days)},
        retired=Retired(cut, head.retired.below.greatest(below)),
        notes={NOTE: note_of(order, days)},
    )
