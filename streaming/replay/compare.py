"""Comparing what should be with what is, as Spark frames.

Belongs here: rows and groups that differ. Does not: where either side comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.definitions import Table
from lakehouse.table_hash import row_digest
from streaming.fold_groups import GROUP
from streaming.replay.report import Difference

# Beyond so many in one comparison they are counted no further: something is wrong as a whole.
MOST = 1000


def rows_that_differ(
    want: DataFrame, have: DataFrame, key: Sequence[str], columns: Sequence[str], shown: Sequence[str]
) -> DataFrame:
    """Hold rows against each other by a key that is unique among those wanted.

    Args:
        columns: what must agree; null is a value like any other.
        shown: columns that the result names a row by.

    Returns:
        `kind` (missing, extra, different, repeated), `columns` (names of those that differ) and the shown
        columns.
    """
    carried = dict.fromkeys((*columns, *shown))
    left = want.select(F.struct(*key).alias("want_key"), F.struct(*carried).alias("want"))
    rows = have.select(F.struct(*key).alias("have_key"), F.struct(*carried).alias("have"))
    right = rows.groupBy("have_key").agg(F.first("have").alias("have"), F.count("*").alias("times"))
    same_key = [F.col(f"want_key.{c}").eqNullSafe(F.col(f"have_key.{c}")) for c in key]
    differing = F.array_compact(F.array(*(F.when(~_agrees(c), F.lit(c)) for c in columns)))
    kind = (
        F.when(F.col("have").isNull(), "missing")
        .when(F.col("want").isNull(), "extra")
        .when(F.col("times") > 1, "repeated")
        .when(F.size(differing) > 0, "different")
    )
    compared = left.join(right, _all(same_key), "full_outer").withColumn("kind", kind)
    names = F.when(F.col("kind") == "different", differing).otherwise(F.array())
    row = [F.coalesce(F.col(f"want.{c}"), F.col(f"have.{c}")).alias(c) for c in dict.fromkeys(shown)]
    return compared.where("kind IS NOT NULL").select("kind", names.alias("columns"), *row)


def collected(table: str, found: DataFrame) -> list[Difference]:
    """Fetch differences, at most `MOST` of them."""
    return [
        Difference(table, row["kind"], tuple(row["columns"]), _named(row.asDict()))
        for row in found.limit(MOST).collect()
    ]


def groups_that_differ(want: DataFrame, have: DataFrame, table: Table) -> DataFrame:
    """Find the groups (`GROUP`) whose rows are not the same on both sides, repeated ones included."""
    left, right = _by_group(want, table, "want"), _by_group(have, table, "have")
    both = left.join(right, list(GROUP), "full_outer")
    return both.where(~F.col("want").eqNullSafe(F.col("have"))).select(*GROUP)


def _by_group(rows: DataFrame, table: Table, name: str) -> DataFrame:
    # a digest for a row: whole rows would all have to be in memory at once
    digest = F.expr(row_digest(table, "spark"))
    return rows.groupBy(*GROUP).agg(F.sort_array(F.collect_list(digest)).alias(name))


def _agrees(column: str) -> Column:
    return F.col(f"want.{column}").eqNullSafe(F.col(f"have.{column}"))


def _all(conditions: Sequence[Column]) -> Column:
    return reduce(lambda a, b: a & b, conditions)


def _named(row: dict[str, object]) -> dict[str, str]:
    return {k: str(v) for k, v in row.items() if k not in ("kind", "columns") and v is not None}
