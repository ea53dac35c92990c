"""The table of what each partner's hours looked like, counted.

Belongs here: what the table is. Does not: what is counted (`quality/profile.py`), counting (`streaming/`).
"""

from __future__ import annotations

from lakehouse.definitions.table import LONG, TEXT, TIME, Column, Table

PARTNER_HOURS = "quality.partner_hours"

# Counts only: they add up over batches, whatever the batches are; shares and quantiles do not.
PARTNER_HOURS_TABLE = Table(
    name=PARTNER_HOURS,
    meaning="One row per Kafka hour, partner, measure and value: how many records had it.",
    columns=(
        Column("kafka_hour", TIME, "Start of the hour in which Kafka took the records"),
        Column("source", TEXT, "Partner that sent them (header ce_source); empty where none is named"),
        Column(
            "measure",
            TEXT,
            "records, broken or valid; of valid records: late, warned, absent, currency, amount, …",
        ),
        Column("value", TEXT, "Category, absent field, or lower bound of a logarithmic bin; may be empty"),
        Column("records", LONG, "Records that had this value, redeliveries included"),
    ),
    key=("kafka_hour", "source", "measure", "value"),
    sort_by=("kafka_hour", "source", "measure"),
)
