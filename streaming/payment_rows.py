"""Rows of payments: their content from the records or versions that they show, all else as decided.

Belongs here: these columns as Spark expressions. Does not: deciding (`decisions.py`).
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.definitions import BY_NAME, PAYMENTS
from lakehouse.fold import Coordinates
from streaming.decisions import INSERT, RECORD, REPLACE, STATE, alone
from streaming.fold_groups import VERSION_KEY

_COLUMNS = [column.name for column in BY_NAME[PAYMENTS].columns]


def told_by_copies(copies: DataFrame, decisions: DataFrame) -> DataFrame:
    """Build the payments that are told by copies: as decided or, where none names the copy, as one alone.

    Args:
        copies: valid records with the columns of event_versions.
        decisions: those that name copies.
    """
    decided = _renamed(decisions)
    shown = copies.join(decided, same_record(copies, decided), "left")
    is_shown = F.col("new_change").isNull() | F.col("new_change").isin(INSERT, REPLACE)
    return shown.where(is_shown).select(*map(_column, _COLUMNS))


def told_by_versions(versions: DataFrame, decisions: DataFrame) -> DataFrame:
    """Build the payments that show versions of which there is no copy at hand."""
    decided = _renamed(decisions)
    same = [versions[c] == decided[f"new_{c}"] for c in VERSION_KEY]
    return versions.join(decided, same).select(*(_decided(c) if c in STATE else F.col(c) for c in _COLUMNS))


def same_record(copies: DataFrame, decided: DataFrame) -> list[Column]:
    """Say that copies are the records which decisions (whose first columns are `RECORD`) name."""
    return [
        copies[c] == decided[named]
        for c, named in zip(Coordinates._fields, decided.columns[: len(RECORD)], strict=True)
    ]


def _renamed(decisions: DataFrame) -> DataFrame:
    return decisions.toDF(*(f"new_{c}" for c in decisions.columns))


def _column(name: str) -> Column:
    if name not in STATE:
        return F.col(name)
    return F.when(F.col("new_change").isNull(), _alone(name)).otherwise(_decided(name)).alias(name)


def _decided(name: str) -> Column:
    return F.col(f"new_{name}").alias(name)


def _alone(name: str) -> Column:
    if name == "event_ids":
        return F.array("event_id")
    if name not in {"status", "flags"}:
        return F.col(name)
    told = {status: getattr(payment, name) for status, payment in alone().items()}
    return F.coalesce(*(F.when(F.col("status") == status, _literal(value)) for status, value in told.items()))


def _literal(value: str | tuple[str, ...]) -> Column:
    return F.lit(value) if isinstance(value, str) else F.array(*map(F.lit, value)).cast("array<string>")
