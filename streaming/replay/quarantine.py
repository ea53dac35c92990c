"""Putting quarantine right for a chunk of raw: the records that break the contract, and no others.

Belongs here: the plan of that publish. Does not: what a state is (`redrive/state.py`).
"""

from __future__ import annotations

from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import audit
from lakehouse.definitions import BY_NAME, QUARANTINE, RAW
from lakehouse.offsets import OffsetVector
from lakehouse.publish import Plan, Stage
from lakehouse.refs import Head
from lakehouse.staged_rows import check_added
from lakehouse.staging import append, delete
from lakehouse.totals import RELEASED
from streaming.frames import Frames, read_table
from streaming.raw_reader import between
from streaming.redrive.state import in_hours_of, redrives, with_state
from streaming.replay.compare import rows_that_differ
from streaming.replay.expected import COORDINATES
from streaming.replay.pinned import read_at
from streaming.replay.ranges import RawRange
from streaming.replay.replace import Replacement
from streaming.replay.totals import corrected

_COLUMNS = tuple(column.name for column in BY_NAME[QUARANTINE].columns)
_SAID = tuple(name for name in _COLUMNS if name not in COORDINATES)


def redrives_until(spark: SparkSession, consumed: OffsetVector) -> DataFrame:
    """Find what was redriven by the time that quarantine had consumed so much of raw."""
    return redrives(read_table(spark, RAW).where(between(OffsetVector(), consumed)))


def quarantine_differs(decoded: DataFrame, have: DataFrame, redriven: DataFrame) -> DataFrame:
    """Hold the decoded records of a chunk against the rows that quarantine has of it.

    Args:
        redriven: what `redrives_until` found for the vector that quarantine stands at.
    """
    return rows_that_differ(_rows(decoded, redriven), have, COORDINATES, _SAID, COORDINATES)


def _rows(decoded: DataFrame, redriven: DataFrame) -> DataFrame:
    """Build the rows of quarantine that a chunk of decoded records comes to."""
    return with_state(decoded.where("violations IS NOT NULL"), redriven).select(*_COLUMNS)


def replace_quarantined(head: Head, chunk: RawRange, decoded: DataFrame, keep: Frames) -> Replacement | None:
    """Plan to bring the rows of a chunk to what its records are judged to be now; None where they are that.

    The table's progress stays where it is.
    """
    have = chunk.narrow(read_at(decoded.sparkSession, head))
    redriven = keep(redrives_until(decoded.sparkSession, head.offsets))
    differing = keep(quarantine_differs(decoded, have, redriven).select("kind", *COORDINATES))
    kinds = {row["kind"]: row["count"] for row in differing.groupBy("kind").count().collect()}
    if not kinds:
        return None
    wanted = F.broadcast(differing.drop("kind"))
    rows = _rows(decoded, redriven).join(wanted, list(COORDINATES), "left_semi").select(*_COLUMNS)
    added = sum(kinds.values()) - kinds.get("extra", 0)
    going = F.broadcast(differing.where("kind <> 'missing'"))
    gone = keep(have.join(going, list(COORDINATES), "left_semi").select(*COORDINATES, "kafka_ts"))
    removed = gone.count()  # repeated ones too

    def write(stage: Stage) -> None:
        if removed:
            delete(stage, gone.select(*COORDINATES).distinct(), COORDINATES, in_hours_of(gone, "t"))
        append(stage, rows)

    def check(table: IcebergTable, staged: Snapshot) -> None:
        check_added(table, staged, head, added)
        audit.check_deleted(head.snapshot, staged, removed, QUARANTINE)

    totals = corrected(head, RELEASED, added - removed)
    plan = Plan(write, check, contract_version=head.progress.contract_version, totals=totals)
    return Replacement(plan, added, removed)
