"""Putting quarantine right for a chunk of raw: the records that break the contract, and no others.

Belongs here: the plan of that publish. Does not: redriving records, which is a change of state.
"""

from __future__ import annotations

from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse import audit
from lakehouse.definitions import BY_NAME, QUARANTINE
from lakehouse.publish import Plan, Stage
from lakehouse.refs import Head
from lakehouse.staging import append, delete
from streaming.frames import Frames
from streaming.replay.compare import rows_that_differ
from streaming.replay.expected import COORDINATES
from streaming.replay.pinned import read_at
from streaming.replay.ranges import RawRange
from streaming.replay.replace import Replacement
from streaming.replay.totals import corrected

# What raw decides; the state may have moved on since.
JUDGED = ("topic", "kafka_ts", "source", "violations", "contract_version")
_COLUMNS = tuple(column.name for column in BY_NAME[QUARANTINE].columns)


def quarantine_differs(decoded: DataFrame, have: DataFrame) -> DataFrame:
    """Hold the decoded records of a chunk against the rows that quarantine has of it."""
    broken = decoded.where("violations IS NOT NULL")
    return rows_that_differ(broken, have, COORDINATES, JUDGED, COORDINATES)


def replace_quarantined(head: Head, chunk: RawRange, decoded: DataFrame, keep: Frames) -> Replacement | None:
    """Plan to bring the rows of a chunk to what its records are judged to be now; None where they are that.

    A row that stays keeps its state. The table's progress stays where it is.
    """
    have = chunk.narrow(read_at(decoded.sparkSession, head))
    differing = keep(quarantine_differs(decoded, have).select("kind", *COORDINATES))
    kinds = {row["kind"]: row["count"] for row in differing.groupBy("kind").count().collect()}
    if not kinds:
        return None
    stands = have.select(*COORDINATES, "state")
    broken = decoded.where("violations IS NOT NULL")
    changed = broken.join(F.broadcast(differing.drop("kind")), list(COORDINATES), "left_semi")
    with_state = changed.join(stands, list(COORDINATES), "left")
    rows = with_state.withColumn("state", F.coalesce("state", F.lit("open"))).select(*_COLUMNS)
    added = kinds.get("missing", 0) + kinds.get("different", 0)
    removed = kinds.get("extra", 0) + kinds.get("different", 0)

    def write(stage: Stage) -> None:
        if removed:
            delete(stage, differing.where("kind <> 'missing'"), COORDINATES)
        append(stage, rows)

    def check(table: IcebergTable, staged: Snapshot) -> None:
        found = audit.added_rows(table, staged, head.snapshot.snapshot_id, COORDINATES)
        audit.check_count(found.num_rows, added, "records staged", QUARANTINE)
        audit.check_unique(found, COORDINATES, QUARANTINE)

    totals = corrected(head, "released", added - removed)
    plan = Plan(write, check, contract_version=head.progress.contract_version, totals=totals)
    return Replacement(plan, added, removed)
