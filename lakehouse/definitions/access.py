"""The access trail: who read, exported, replayed, overrode or dropped what, row after row in a chain.

Belongs here: what the table is. Does not: the chain (`lakehouse/chain.py`), writing it
(`lakehouse/access_log.py`).
"""

from __future__ import annotations

from lakehouse.definitions.table import CHAIN, TEXT, TIME, WITHOUT_SPARK, Column, Table

ACCESS_LOG = "audit.access_log"

ACCESS_TABLES: tuple[Table, ...] = (
    Table(
        name=ACCESS_LOG,
        meaning="One row per access, or per begin and end of a long one, chained by hashes. Append only.",
        columns=(
            *CHAIN,
            Column("at", TIME, "When it was recorded, by the clock of the machine that did it"),
            Column("actor", TEXT, "Who did it: user and machine"),
            Column("action", TEXT, "What was done, as the command is called: query, replay apply, …"),
            Column("target", TEXT, "On what: tables, a range, a partner, an account; empty where on all"),
            Column("parameters", TEXT, "How it was asked for, as JSON; without secrets and card numbers"),
            Column("result", TEXT, "begun, done …, or failed …; what begins and ends has a row for each"),
            Column("access_id", TEXT, "Names the access: the rows of its begin and of its end share it"),
        ),
        key=("seq",),
        sort_by=("seq",),
        properties=WITHOUT_SPARK,
    ),
)
