"""The access trail: who read, exported, replayed, overrode or dropped what, row after row in a chain.

Belongs here: what the table is. Does not: the chain (`lakehouse/access_chain.py`), writing it
(`lakehouse/access_log.py`).
"""

from __future__ import annotations

from lakehouse.definitions.table import LONG, TEXT, TIME, Column, Table

ACCESS_LOG = "audit.access_log"

ACCESS_TABLES: tuple[Table, ...] = (
    Table(
        name=ACCESS_LOG,
        meaning="One row per access, or per begin and end of a long one, chained by hashes. Append only.",
        columns=(
            Column("sequence", LONG, "Counts the rows from 1, without a gap"),
            Column("at", TIME, "When it was recorded, by the clock of the machine that did it"),
            Column("actor", TEXT, "Who did it: user and machine"),
            Column("action", TEXT, "What was done, as the command is called: query, replay apply, …"),
            Column("target", TEXT, "On what: tables, a range, a partner, an account; empty where on all"),
            Column("parameters", TEXT, "How it was asked for, as JSON; without secrets and card numbers"),
            Column("result", TEXT, "begun, done …, or failed …; what begins and ends has a row for each"),
            Column("access_id", TEXT, "Names the access: the rows of its begin and of its end share it"),
            Column("previous_hash", TEXT, "Hash of the row before, in hex; 64 zeros in the first row"),
            Column("hash", TEXT, "sha256 in hex over all columns before it, each with its length"),
        ),
        key=("sequence",),
        sort_by=("sequence",),
        # Written by pyiceberg, which cannot append to v3, as the dropzone's ledger is (ADR 0017): in a
        # moment, without Spark. The manifests are merged, or each read would open one per access.
        properties={"format-version": "2", "commit.manifest-merge.enabled": "true"},
    ),
)
