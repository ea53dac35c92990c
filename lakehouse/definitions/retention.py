"""The ledger of retention: which days of which table were dropped, why, and by whose leave.

Belongs here: what the table is. Does not: making its rows (`lakehouse/retention_log.py`).
"""

from __future__ import annotations

from lakehouse.definitions.table import LONG, TEXT, TIME, Column, Table

RETENTION_LOG = "raw.retention_log"

RETENTION_TABLES: tuple[Table, ...] = (
    Table(
        name=RETENTION_LOG,
        meaning="One row per day that was dropped from a table; outlives the snapshots. Append only.",
        columns=(
            Column(
                "day",
                TIME,
                "Start of the day (UTC): of Kafka time, of event time in event_versions and payments",
            ),
            Column("records", LONG, "Rows that were dropped"),
            Column("files", LONG, "Data files of the day, each dropped whole"),
            Column("bytes", LONG, "Size of these files; freed once no snapshot and no tag needs them"),
            Column(
                "offsets", TEXT, "Of raw, as JSON: topic id to partition to [first, last, records] of the day"
            ),
            Column("reason", TEXT, "Why, in words"),
            Column("approver", TEXT, "Who approved it"),
            Column("actor", TEXT, "Who ran it: user and machine"),
            Column("kept_months", LONG, "Age below which nothing was dropped, in months"),
            Column("dropped_at", TIME, "When it was staged; readers saw it a moment later"),
            Column("snapshot_id", LONG, "Snapshot of the table that no longer has the day"),
            Column("token", TEXT, "Names the publish, as that snapshot's stamp does"),
            Column("dropped_from", TEXT, "Table that no longer has the day; null: raw", required=False),
        ),
        key=("snapshot_id", "day"),
        sort_by=("day",),
    ),
)
