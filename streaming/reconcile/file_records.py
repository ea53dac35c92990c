"""Where the records of partners' files stand, found in raw by the headers that the dropzone puts on them.

Belongs here: that query. Does not: what a file should come to (`files.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from lakehouse.definitions import QUARANTINE, RAW, VERSIONS
from lakehouse.gates import Hold
from lakehouse.offsets import OffsetVector
from quality.reconciliation import Run, gaps
from streaming.dropzone.rows import FILE, FILE_DIGEST, LINE
from streaming.fold_groups import VERSION_KEY
from streaming.frames import Frames, header_text, read_table
from streaming.raw_reader import between
from streaming.reconcile.files import FOLDED, NOWHERE, QUARANTINED, File, FileLine
from streaming.replay.expected import COORDINATES, is_retired, judged_rows
from streaming.replay.pinned import Pinned, count_by_partition

# The dropzone's clock and Kafka's may differ, and a record of a file is never looked for before it.
CLOCKS = timedelta(hours=1)
_FILE = ("digest", "sent_as")
_MOST_LINES = 1_000_000
Key = tuple[str, str]


class FileRecords:
    """Counts the records of some files, in one pass over raw from the first of them on; a context manager."""

    def __init__(
        self,
        spark: SparkSession,
        pinned: Pinned,
        raw_snapshot: int,
        files: list[File],
        holds: tuple[Hold, ...],
    ) -> None:
        self._holds = holds
        self._spark = spark
        self._pinned = pinned
        self._raw_snapshot = raw_snapshot
        self._files = files
        self._keep = Frames()

    def __enter__(self) -> FileRecords:
        tagged = self._tagged()
        decoded = self._keep(judged_rows(tagged, self._holds))
        touched, _ = count_by_partition(decoded, self._pinned.buckets)
        known = (
            self._pinned.read(VERSIONS, touched).select(*VERSION_KEY).distinct().withColumn("known", F.lit(1))
        )
        held = self._pinned.read(QUARANTINE).select(*COORDINATES, F.lit(1).alias("held"))
        stands = decoded.join(known, list(VERSION_KEY), "left").join(held, list(COORDINATES), "left")
        gone = is_retired(self._pinned.retired[VERSIONS])  # it was folded, and went since by retention
        stands = stands.withColumn("known", F.when(gone, 1).otherwise(F.col("known")))
        self._rows = self._keep(_by_row(stands.join(_narrow(tagged), list(COORDINATES))))
        return self

    def __exit__(self, *error: Any) -> None:
        self._keep.__exit__(None, None, None)

    def lines(self) -> dict[Key, list[FileLine]]:
        """Count the records of each file (digest, name it was sent as), each row of it once."""
        grouped = self._rows.groupBy(*_FILE, "what", "money.currency", "money.event_type")
        counted = grouped.agg(
            F.count("*").alias("records"), F.sum("money.amount").alias("amount"), F.min("line").alias("line")
        )
        found: dict[Key, list[FileLine]] = defaultdict(list)
        for row in counted.collect():
            kind = None if row["currency"] is None else (row["currency"], row["event_type"])
            line = FileLine(row["what"], kind, row["records"], row["amount"], row["line"])
            found[row["digest"], row["sent_as"]].append(line)
        return found

    def first_missing(self, file: File) -> int | None:
        """Find the first line of a file that no record is of; blank lines have none either."""
        of_file = (F.col("digest") == file.digest) & (F.col("sent_as") == file.sent_as)
        lines = self._rows.where(of_file).select("line").distinct().limit(_MOST_LINES).toArrow()["line"]
        runs = [Run(line, line, 0, 0) for line in lines.to_pylist()]
        last = max((run.last for run in runs), default=0)
        first = min((run.first for run in runs), default=1)
        # a header is a line too, and a row may be missing at the end
        missing = gaps(runs, min(first, 2), max(last, file.rows) + 1)
        return missing[0].first if missing else None

    def _tagged(self) -> DataFrame:
        since = min(file.received_at for file in self._files) - CLOCKS
        rows = read_table(self._spark, RAW, self._raw_snapshot).where(F.col("kafka_ts") >= F.lit(since))
        named = self._spark.createDataFrame(
            [(f.digest, f.sent_as) for f in self._files], "digest string, sent_as string"
        )
        below = rows.where(between(OffsetVector(), self._pinned.vector))
        headers = {"digest": FILE_DIGEST, "sent_as": FILE, "line": LINE}
        tagged = below.withColumns({column: header_text(name) for column, name in headers.items()})
        return tagged.join(F.broadcast(named.distinct()), list(_FILE), "left_semi")


def _narrow(tagged: DataFrame) -> DataFrame:
    # The same bytes of the same line are the same row: sent again after a kill. A redrive may have mended
    # them, and is the row that it stands for.
    digest = F.sha2(F.coalesce("value", F.lit("").cast("binary")), 256)
    first_sent = F.min(F.when(F.col("redrive_of").isNull(), digest)).over(Window.partitionBy(*_FILE, "line"))
    is_redrive = F.col("redrive_of").isNotNull() & (F.col("line") > 0)
    same = F.coalesce(F.when(is_redrive, first_sent), digest).alias("row")
    numbered = tagged.withColumn("line", F.coalesce(F.col("line").try_cast("long"), F.lit(0)))
    return numbered.select(*COORDINATES, *_FILE, "line", same)


def _by_row(records: DataFrame) -> DataFrame:
    is_valid = F.col("violations").isNull()
    folded = F.max(F.when(is_valid & F.col("known").isNotNull(), 1))
    held = F.max(F.when(~is_valid & F.col("held").isNotNull(), 1))
    money = F.max(F.when(is_valid, F.struct("currency", "event_type", "amount")))
    what = F.when(folded == 1, FOLDED).when(held == 1, QUARANTINED).otherwise(NOWHERE)
    return records.groupBy(*_FILE, "line", "row").agg(what.alias("what"), money.alias("money"))


def count_files(
    spark: SparkSession,
    pinned: Pinned,
    raw_snapshot: int,
    files: Iterable[File],
    holds: tuple[Hold, ...],
) -> list[tuple[File, list[FileLine], int | None]]:
    """Say of each file where its records stand, and which line is missing first where there are too few."""
    wanted = list(files)
    if not wanted:
        return []
    with FileRecords(spark, pinned, raw_snapshot, wanted, holds) as records:
        lines = records.lines()
        return [
            (f, lines[f.digest, f.sent_as], _missing(records, f, lines[f.digest, f.sent_as])) for f in wanted
        ]


def _missing(records: FileRecords, file: File, found: list[FileLine]) -> int | None:
    is_short = sum(line.records for line in found) < file.events + file.rejected
    return records.first_missing(file) if is_short else None
