"""What there is to know of a batch before anything is written: counts, partitions, delays.

Belongs here: queries over the decoded records. Does not: what follows from it (`curated_batch.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.arrivals import Arrivals
from quality.surge import Source, Tally
from streaming.partitions import Partition, bucket_sql, hour_sql


@dataclass(frozen=True)
class Survey:
    """Counts of valid and broken records, the partitions that valid ones fall in, how late they came.

    `contract_version` is that of the newest record. `redriven` counts the records that stand for others;
    `since` is the Kafka hour of the first record that is broken or redriven, if there is one.
    """

    valid: int
    broken: int
    partitions: tuple[Partition, ...]
    arrivals: tuple[Arrivals, ...]
    contract_version: int
    redriven: int
    since: int | None


def survey(decoded: DataFrame, buckets: int) -> Survey:
    """Look over decoded records, of which there is at least one."""
    hour, bucket = F.expr(hour_sql()), F.expr(bucket_sql(buckets))
    delay = F.unix_millis("kafka_ts") - F.unix_millis("event_ts")
    concerns_quarantine = F.col("violations").isNotNull() | F.col("redrive_of").isNotNull()
    rows = (
        decoded.groupBy(F.col("violations").isNull().alias("is_valid"), hour.alias("hour"))
        .agg(
            F.count("*").alias("records"),
            F.count("redrive_of").alias("redriven"),
            F.min(F.when(concerns_quarantine, F.expr(hour_sql("kafka_ts")))).alias("since"),
            F.max("contract_version").alias("contract_version"),
            F.collect_set(bucket).alias("buckets"),
            F.max(delay).alias("max_delay"),
            F.percentile_approx(delay, 0.99, 1000).alias("p99_delay"),
        )
        .collect()
    )
    valid = [row for row in rows if row["is_valid"]]
    return Survey(
        sum(row["records"] for row in valid),
        sum(row["records"] for row in rows if not row["is_valid"]),
        tuple(Partition(row["hour"], bucket) for row in valid for bucket in row["buckets"]),
        tuple(Arrivals(r["hour"], r["records"], r["max_delay"], r["p99_delay"]) for r in valid),
        max(row["contract_version"] for row in rows),
        sum(row["redriven"] for row in rows),
        min((row["since"] for row in rows if row["since"] is not None), default=None),
    )


def tally_by_source(decoded: DataFrame) -> dict[Source, Tally]:
    """Count each partner's records, and those of them that break the contract; redriven ones aside."""
    is_broken = F.col("violations").isNotNull()
    counted = (
        decoded.where("redrive_of IS NULL")
        .groupBy("source")
        .agg(F.count("*").alias("records"), F.count_if(is_broken).alias("broken"))
    )
    return {row["source"]: Tally(row["records"], row["broken"]) for row in counted.collect()}
