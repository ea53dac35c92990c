"""Holds applied to decoded records: a valid record of a held slice is quarantined, by one rule.

Belongs here: `lakehouse.gates.Hold.holds` as Spark says it. Does not: when a slice is held (`gates.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.gates import HELD_VIOLATION, Hold
from lakehouse.offsets import OffsetVector
from quality.contract import Event
from streaming.raw_reader import between


def with_holds(decoded: DataFrame, holds: Iterable[Hold]) -> DataFrame:
    """Give the valid records that are held their one violation, and take their event away.

    Redriven records are never held: they were let through knowingly.

    Args:
        decoded: what `streaming.decode.decode` returns.
        holds: every hold that may be about these records; without any the records are left as they are.
    """
    conditions = [_by(hold) for hold in holds]
    if not conditions:
        return decoded
    is_held = F.expr("violations IS NULL AND redrive_of IS NULL") & reduce(or_, conditions)
    violation = F.struct(*(F.lit(text).alias(name) for name, text in HELD_VIOLATION._asdict().items()))
    changed = {name: F.when(~F.col("is_held"), F.col(name)) for name in Event._fields}
    changed["violations"] = F.when(F.col("is_held"), F.array(violation)).otherwise(F.col("violations"))
    return decoded.withColumn("is_held", is_held).withColumns(changed).drop("is_held")


def _by(hold: Hold) -> Column:
    is_theirs = F.col("source").eqNullSafe(F.lit(hold.source))
    since = ~between(OffsetVector(), hold.start)
    return is_theirs & since if hold.end is None else is_theirs & since & between(OffsetVector(), hold.end)
