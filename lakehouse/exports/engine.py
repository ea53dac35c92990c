"""Joining and sorting the rows of one hour within bounded memory, by DuckDB, which spills to disk.

Belongs here: the SQL, over streams of rows that the caller opened. Does not: reading the lake
(`selection.py`), writing files (`parts.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.exports.manifest import Tally
from lakehouse.exports.selection import MOST_ACCOUNTS, Span
from lakehouse.offsets import OffsetVector
from lakehouse.whole_file import sync_folder
from quality.contract import REVERSED

# The order within a file: total, and told by the rows alone.
_ORDER = {
    PAYMENTS: "event_ts, account_id, business_key, transaction_ref NULLS FIRST",
    VERSIONS: "event_ts, account_id, event_id, content_hash",
    QUARANTINE: 'topic_id, partition, "offset"',
    RAW: 'topic_id, partition, "offset"',
}
# A notice is a version of the event that it names and no event itself: `fold.fold_events`, said in SQL, as in
# `lakehouse/conservation.py`. All that decides it stands in the same account, at the same event time.
_EVENTS = f"""
    WITH told AS (
        SELECT *, status = '{REVERSED}' AND original_event_id IS NOT NULL AS may_be_notice FROM versions
    ),
    own AS (SELECT DISTINCT account_id, event_ts, event_id FROM told WHERE NOT may_be_notice),
    named AS (SELECT DISTINCT account_id, event_ts, event_type, event_id FROM told WHERE NOT may_be_notice)
    SELECT told.* EXCLUDE may_be_notice,
           CASE WHEN may_be_notice AND own.event_id IS NULL AND named.event_id IS NOT NULL
                THEN told.original_event_id ELSE told.event_id END AS event_of
    FROM told
    LEFT JOIN own ON own.event_id = told.event_id AND own.account_id = told.account_id
                 AND own.event_ts = told.event_ts
    LEFT JOIN named ON named.event_id = told.original_event_id AND named.account_id = told.account_id
                   AND named.event_ts = told.event_ts AND named.event_type = told.event_type
"""  # noqa: S608
_MEMBERS = "SELECT DISTINCT account_id, event_ts, unnest(event_ids) AS event_of FROM payments"
_COORDINATES = 'topic_id, partition, "offset"'
_ENDS = pa.schema([("topic_id", pa.string()), ("partition", pa.int32()), ("next_offset", pa.int64())])
_MISSING = f"""
    SELECT topic_id, partition, count(*), min("offset"), max("offset")
    FROM (FROM wanted ANTI JOIN records USING ({_COORDINATES})) AS missing
    LEFT JOIN ends USING (topic_id, partition)
    WHERE "offset" >= coalesce(next_offset, 0)
    GROUP BY ALL ORDER BY ALL
"""  # noqa: S608
_KAFKA_HOUR = "coalesce(CAST(epoch_us(date_trunc('hour', kafka_ts)) // 3600000000 AS VARCHAR), 'unknown')"


class Engine:
    """Temporary tables of the hour at hand; each step replaces those of the one before."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, coordinates: Path) -> None:
        self._connection, self._coordinates = connection, coordinates

    def hold_payments(self, rows: pa.RecordBatchReader) -> int:
        """Take in the payments of an hour. Returns how many."""
        return self._hold("payments", "SELECT * FROM incoming", rows)

    def accounts(self) -> list[str] | None:
        """Name the payments' accounts; None for more than are worth naming."""
        sql = f"SELECT DISTINCT account_id FROM payments ORDER BY 1 LIMIT {MOST_ACCOUNTS + 1}"  # noqa: S608
        found = [account for (account,) in self._connection.execute(sql).fetchall()]
        return found if len(found) <= MOST_ACCOUNTS else None

    def hold_versions(self, rows: pa.RecordBatchReader) -> int:
        """Take in versions, and keep those of the payments' events. Returns how many these are."""
        self._hold("versions", "SELECT * FROM incoming", rows)
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE told AS {_EVENTS}")
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE versions AS SELECT * FROM told SEMI JOIN ({_MEMBERS}) AS members "  # noqa: S608
            "USING (account_id, event_ts, event_of)"
        )
        self._connection.execute("DROP TABLE told")
        return self._count("SELECT count(*) FROM versions")

    def hold_quarantined(self, rows: pa.RecordBatchReader) -> int:
        """Take in rows of quarantine. Returns how many."""
        return self._hold("quarantined", "SELECT * FROM incoming", rows)

    def sorted_payments(self) -> Iterator[pa.RecordBatch]:
        """Stream the payments that are held, in the order of their file."""
        return self._sorted("SELECT * FROM payments", PAYMENTS)

    def sorted_versions(self) -> Iterator[pa.RecordBatch]:
        """Stream the versions that are held, in the order of their file."""
        return self._sorted("SELECT * EXCLUDE event_of FROM versions", VERSIONS)

    def sorted_quarantined(self) -> Iterator[pa.RecordBatch]:
        """Stream the rows of quarantine that are held, in the order of their file."""
        return self._sorted("SELECT * FROM quarantined", QUARANTINE)

    def tally(self) -> Tally:
        """Count the payments and versions that are held, and sum the payments' money."""
        counts = {
            "payments": "SELECT count(*) FROM payments",
            "members": "SELECT coalesce(sum(len(event_ids)), 0)::BIGINT FROM payments",
            "versions": "SELECT count(*) FROM versions",
            "events": "SELECT count(*) FROM (SELECT DISTINCT account_id, event_ts, event_of FROM versions)",
        }
        found = Tally()
        for name, sql in counts.items():
            found.counts[name] = self._count(sql)
        money = "SELECT currency, event_type, status, count(*), sum(amount) FROM payments GROUP BY ALL"
        for currency, event_type, status, payments, amount in self._connection.execute(money).fetchall():
            found.add_money((currency, event_type, status), payments, Decimal(amount))
        return found

    def note_versions(self, name: str) -> None:
        """Note where the versions' records lie, by hour of Kafka time; `name` is that of this step."""
        self._note("versions", name)

    def note_quarantined(self, name: str) -> None:
        """Note the same of rows of quarantine."""
        self._note("quarantined", name)

    def noted_hours(self) -> list[int | None]:
        """List the hours of Kafka time that records were noted in; None: not known, which comes last."""
        names = [path.name.removeprefix("kafka_hour=") for path in self._coordinates.glob("kafka_hour=*")]
        hours: list[int | None] = [*sorted(int(name) for name in names if name != "unknown")]
        return [*hours, None] if "unknown" in names else hours

    def hold_wanted(self, hour: int | None) -> list[Span]:
        """Take in what was noted of an hour. Returns the range of each partition, in order."""
        files = _text(self._coordinates / f"kafka_hour={'unknown' if hour is None else hour}" / "*.parquet")
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE wanted AS SELECT DISTINCT {_COORDINATES} "  # noqa: S608
            f"FROM read_parquet({files}, hive_partitioning = false)"
        )
        sql = 'SELECT topic_id, partition, count(*), min("offset"), max("offset") FROM wanted'
        found = self._connection.execute(f"{sql} GROUP BY ALL ORDER BY ALL").fetchall()
        return [Span(*row) for row in found]

    def wanted(self) -> list[tuple[str, int, int]]:
        """Name every record that is wanted."""
        found: list[tuple[str, int, int]] = self._connection.execute(
            f"SELECT {_COORDINATES} FROM wanted ORDER BY ALL"  # noqa: S608
        ).fetchall()
        return found

    def hold_records(self, rows: pa.RecordBatchReader) -> int:
        """Take in records of raw, and keep the wanted ones. Returns how many these are."""
        sql = f"SELECT incoming.* FROM incoming SEMI JOIN wanted USING ({_COORDINATES})"  # noqa: S608
        self._hold("records", sql, rows)
        return self._count("SELECT count(*) FROM records")

    def sorted_records(self) -> Iterator[pa.RecordBatch]:
        """Stream the records that are held, in the order of their file."""
        return self._sorted("SELECT * FROM records", RAW)

    def missing(self, since: OffsetVector | None = None) -> list[Span]:
        """Tell of wanted records that raw did not have, by partition; of those from offsets on only."""
        rows = [dict(zip(_ENDS.names, end, strict=True)) for end in since or ()]
        self._connection.register("ends", pa.Table.from_pylist(rows, _ENDS))
        try:
            return [Span(*row) for row in self._connection.execute(_MISSING).fetchall()]
        finally:
            self._connection.unregister("ends")

    def _hold(self, name: str, sql: str, rows: pa.RecordBatchReader) -> int:
        self._connection.register("incoming", rows)
        try:
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {sql}")
        finally:
            self._connection.unregister("incoming")
        return self._count(f"SELECT count(*) FROM {name}")  # noqa: S608

    def _sorted(self, sql: str, table: str) -> Iterator[pa.RecordBatch]:
        yield from self._connection.execute(f"{sql} ORDER BY {_ORDER[table]}").to_arrow_reader(8192)

    def _count(self, sql: str) -> int:
        row = self._connection.execute(sql).fetchone()
        assert row is not None
        return int(row[0])

    def _note(self, held: str, name: str) -> None:
        for torn in self._coordinates.glob(f"kafka_hour=*/{name}-*"):  # of a run that was killed
            torn.unlink()
        self._connection.execute(
            f"COPY (SELECT {_COORDINATES}, {_KAFKA_HOUR} AS kafka_hour FROM {held}) "  # noqa: S608
            f"TO {_text(self._coordinates)} (FORMAT parquet, PARTITION_BY (kafka_hour), "
            f"OVERWRITE_OR_IGNORE, FILENAME_PATTERN '{name}-{{i}}')"
        )
        # Before the journal says so: a note that a power cut takes would leave its records out, unnoticed.
        for path in self._coordinates.glob(f"kafka_hour=*/{name}-*"):
            with path.open("rb") as file:
                os.fsync(file.fileno())
            sync_folder(path.parent)
        sync_folder(self._coordinates)


@contextmanager
def engine(folder: Path, memory_mb: int) -> Iterator[Engine]:
    """Start an engine that keeps its notes and what does not fit into memory in a folder."""
    spill, coordinates = folder / "spill", folder / "coordinates"
    for path in (spill, coordinates):
        path.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {
        "memory_limit": f"{memory_mb}MB",
        "temp_directory": str(spill),
        # Each thread wants memory of its own to sort, and two were too many for 256 MB.
        "threads": 1,
        "preserve_insertion_order": "false",
    }
    with duckdb.connect(config=options) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield Engine(connection, coordinates)


def _text(path: Path) -> str:
    """Quote a path as a SQL string."""
    return "'" + str(path).replace("'", "''") + "'"
