"""The textbook version that the fold is measured against: from_json, row_number, one MERGE.

Belongs here: that job, as one finds it in tutorials. It is exact in nothing: no contract, no quarantine, no
corrections, no protocol; the latest ingest time of an event id wins.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import RAW
from lakehouse.offsets import OffsetVector
from streaming.raw_reader import between

_TABLE = f"{CATALOG_NAME}.bench.textbook"
_FIELDS = (
    "event_id string, event_type string, event_ts timestamp, ingest_ts timestamp, account_id string, "
    "card_id string, merchant_id string, amount decimal(19,4), currency string, network string, "
    "status string, revision bigint, original_event_id string, transaction_ref string, attributes string"
)


def create(spark: SparkSession) -> None:
    """Create the table anew: format v3, merge-on-read, by hour and four buckets."""
    spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {CATALOG_NAME}.bench")
    spark.sql(f"DROP TABLE IF EXISTS {_TABLE}")
    spark.sql(
        f"CREATE TABLE {_TABLE} ({_FIELDS}) USING iceberg "
        "PARTITIONED BY (hours(event_ts), bucket(4, account_id)) "
        "TBLPROPERTIES ('format-version'='3', 'write.merge.mode'='merge-on-read', "
        "'write.update.mode'='merge-on-read', 'write.delete.mode'='merge-on-read')"
    )


def fold(spark: SparkSession, start: OffsetVector, end: OffsetVector) -> None:
    """Fold the records of raw between two vectors into the table."""
    raw = spark.table(f"{CATALOG_NAME}.{RAW}").where(between(start, end))
    _latest(raw).createOrReplaceTempView("textbook_batch")
    spark.sql(
        f"MERGE INTO {_TABLE} t USING textbook_batch s "
        "ON t.event_id = s.event_id AND t.event_ts = s.event_ts AND t.account_id = s.account_id "
        "WHEN MATCHED AND s.ingest_ts > t.ingest_ts THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
    )


def _latest(raw: DataFrame) -> DataFrame:
    parsed = raw.select(F.from_json(F.col("value").cast("string"), _FIELDS).alias("event"), "offset")
    newest = Window.partitionBy("event_id").orderBy(F.desc("ingest_ts"), F.desc("offset"))
    events = parsed.select("event.*", "offset").where("event_id IS NOT NULL AND event_ts IS NOT NULL")
    return events.withColumn("rank", F.row_number().over(newest)).where("rank = 1").drop("rank", "offset")
