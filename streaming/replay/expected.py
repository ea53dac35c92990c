"""What the curated tables must hold, from records of raw: rows by the same decode and fold as the live job's.

Belongs here: building whole rows. Does not: comparing them (`compare.py`), any rule.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from lakehouse.definitions import BY_NAME, PAYMENTS, VERSIONS
from lakehouse.fold import Coordinates
from lakehouse.gate_log import GateLog
from lakehouse.gates import Hold
from lakehouse.offsets import OffsetVector
from lakehouse.retired import Retired
from streaming.decode import decode
from streaming.errors import RawRetired
from streaming.fold_groups import PAYMENT_KEY, VERSION_KEY, fold_groups
from streaming.holds import with_holds
from streaming.raw_reader import between
from streaming.replay.ranges import RawRange

COORDINATES = Coordinates._fields
ARRIVAL = ("first_ingest_ts", *COORDINATES)
VERSION_COLUMNS = tuple(column.name for column in BY_NAME[VERSIONS].columns)
PAYMENT_COLUMNS = tuple(column.name for column in BY_NAME[PAYMENTS].columns)
# What the fold says of a payment; all else is said by the version that it shows.
FOLDED = (*PAYMENT_KEY, "status", "event_ids", "flags")


def judged(spark: SparkSession, catalog: RestCatalog, records: RawRange) -> DataFrame:
    """Decode records; valid ones have the columns of event_versions, broken and held ones `violations`.

    Call it after looking at the tables: the holds of what was published by then are in the log.
    """
    holds = GateLog(catalog).state().holds_between(records.start, records.end)
    return judged_rows(records.read(spark), holds)


def judged_rows(raw: DataFrame, holds: Iterable[Hold]) -> DataFrame:
    """Decode rows of raw as `judged` does; `holds` are all that may be about them."""
    return with_holds(decode(raw), holds).withColumnRenamed("ingest_ts", "first_ingest_ts")


def valid(decoded: DataFrame) -> DataFrame:
    """Each valid record as a row of event_versions: the row that it would be alone."""
    return decoded.where("violations IS NULL").select(*VERSION_COLUMNS)


def with_retired(copies: DataFrame, versions: DataFrame, retired: Retired) -> DataFrame:
    """Add to copies from raw the versions that are told by records which retention dropped from it.

    Such a row is its earliest copy, whole: it stands for what raw no longer has, and so is never given up.
    """
    if not retired:
        return copies
    dropped = versions.where(between(OffsetVector(), retired.below)).select(*VERSION_COLUMNS)
    return copies.unionByName(dropped)


def without_retired(rows: DataFrame, retired: Retired) -> DataFrame:
    """Leave out the copies or versions whose rows retention dropped from a curated table, or would have.

    Args:
        retired: of the table that is to be told: of its head, or of its snapshot.
    """
    return rows.where(~is_retired(retired))


def is_retired(retired: Retired) -> Column:
    """Build the condition that retention dropped from a curated table what a record tells."""
    if not retired:
        return F.lit(False)
    return (F.col("event_ts") < F.lit(retired.before)) & between(OffsetVector(), retired.below)


def require_told(payments: DataFrame, versions: DataFrame, retired: Retired) -> None:
    """Check that versions have what payments show of dropped records: else nothing but payments has it.

    Raises `RawRetired`, naming one.
    """
    lost = untold(payments, versions, retired)
    if lost:
        raise RawRetired(
            f"{PAYMENTS} shows event {lost[0]['event_id']} by a record that retention dropped from raw, and "
            f"{VERSIONS} no longer has it: to fold it again would delete the payment",
            f"restore the rows of {VERSIONS} first, from an older snapshot or a tag (`paywave query --tag`)",
        )


def untold(payments: DataFrame, versions: DataFrame, retired: Retired) -> list[Row]:
    """Find a payment that shows a dropped record which versions do not have; none or one."""
    shown = payments.where(between(OffsetVector(), retired.below)).select(*VERSION_KEY, *COORDINATES)
    return shown.join(versions.select(*VERSION_KEY), list(VERSION_KEY), "left_anti").limit(1).collect()


def version_rows(copies: DataFrame) -> DataFrame:
    """Merge redeliveries: the row of each version is that of its earliest copy (`fold.fold_versions`)."""
    earliest = F.min_by(F.struct(*VERSION_COLUMNS), F.struct(*ARRIVAL)).alias("row")
    return copies.groupBy(*VERSION_KEY).agg(earliest).select("row.*")


def payment_rows(versions: DataFrame) -> DataFrame:
    """Fold whole groups of versions to the rows of payments."""
    return shown_rows(fold_groups(versions), versions)


def shown_rows(folded: DataFrame, versions: DataFrame) -> DataFrame:
    """Complete folded payments (`VERSION_KEY` and `FOLDED`) by what the versions that they show say."""
    rest = [c for c in PAYMENT_COLUMNS if c not in FOLDED]
    told = versions.select(*rest)
    return folded.select(*VERSION_KEY, *FOLDED).join(told, list(VERSION_KEY)).select(*PAYMENT_COLUMNS)
