"""The table of what the gates did.

Belongs here: what it is. Does not: creating or evolving it (`lakehouse/tables.py`), what its rows come to
(`lakehouse/gates.py`).
"""

from __future__ import annotations

from lakehouse.definitions.table import AMOUNT, LONG, TEXT, TIME, Column, Table

GATE_LOG = "quality.gate_log"

GATE_TABLES: tuple[Table, ...] = (
    Table(
        name=GATE_LOG,
        meaning="One row per change of a gate's state; with raw and the contract it decides what is curated. "
        "Append only.",
        columns=(
            Column("seq", LONG, "Counts the rows; the order in which things happened"),
            Column("at", TIME, "When it happened"),
            Column("event", TEXT, "closed, opened, held, hold_ended or overridden"),
            Column("gate", TEXT, "Row of the policy (`paywave gate policy`)"),
            Column("table_name", TEXT, "Table whose publish was stopped", required=False),
            Column(
                "source", TEXT, "Partner whose slice it is about; null also for records that name none", False
            ),
            Column("starts", TEXT, "First offsets it is about, as JSON", required=False),
            Column("ends", TEXT, "Offsets that it is about no longer, as JSON", required=False),
            Column("measured", AMOUNT, "What was measured, as a share", required=False),
            Column("threshold", AMOUNT, "The limit then", required=False),
            Column("reason", TEXT, "Why, in words"),
            Column("actor", TEXT, "Who did it: a job, or a person"),
            Column("snapshot_id", LONG, "Snapshot of the table that readers keep meanwhile", required=False),
        ),
        key=("seq",),
        sort_by=("seq",),
    ),
)
