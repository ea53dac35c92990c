"""The table of reconciliations: what was held against what, and whether it added up.

Belongs here: what the table is. Does not: making its rows (`streaming/reconcile/`).
"""

from __future__ import annotations

from lakehouse.definitions.table import LONG, SUM, TEXT, TIME, Column, Table

RECONCILIATION = "quality.reconciliation"

RECONCILIATION_TABLES: tuple[Table, ...] = (
    Table(
        name=RECONCILIATION,
        meaning="One row per run, identity, currency and type: what was held against what. Append only.",
        columns=(
            Column("run", TEXT, "Names the run; all rows of one run speak of the same records"),
            Column("made_at", TIME, "When the run began"),
            Column("depth", TEXT, "deep: every record judged again; counts: rows and stamps counted only"),
            Column("scope", TEXT, "Records that the run is about, in words"),
            Column("scope_from", TIME, "Kafka time of them, from; null: from the first", required=False),
            Column("scope_to", TIME, "Kafka time of them, before; null: all that are folded", required=False),
            Column("identity", TEXT, "Short name of the identity"),
            Column("formula", TEXT, "The identity in words: left = term + term"),
            Column("currency", TEXT, "For sums of money: ISO 4217 code", required=False),
            Column("event_type", TEXT, "For sums of money: AUTH, CAPTURE, REFUND or CHARGEBACK", False),
            Column("left_sum", SUM, "Left side: a count, or an amount where a currency is named"),
            Column("right_sum", SUM, "Right side"),
            Column("terms", TEXT, "Terms of the right side, as JSON: name to count or amount as text"),
            Column("state", TEXT, "balanced or broken"),
            Column("breaks", LONG, "Rows that have no counterpart, or another one"),
            Column("first_break", TEXT, "The first of these, by what it is found", required=False),
            Column("differing", TEXT, "Places where the sides differ, as JSON; the first 20", False),
            Column("snapshots", TEXT, "Snapshots that were read, as JSON: table to id"),
            Column("offsets", TEXT, "How far Kafka was consumed in them, as JSON"),
        ),
        key=("run", "identity", "currency", "event_type"),
        sort_by=("made_at", "identity"),
    ),
)
