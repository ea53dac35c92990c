"""The ledgers under raw's immutability: digests of its files, and legal holds.

Belongs here: what the tables are. Does not: making their rows (`lakehouse/integrity/`,
`lakehouse/hold_log.py`).
"""

from __future__ import annotations

from lakehouse.definitions.table import CHAIN, LONG, TEXT, TIME, WITHOUT_SPARK, Column, Table

FILE_DIGESTS = "raw.file_digests"
LEGAL_HOLDS = "raw.legal_holds"

IMMUTABILITY_TABLES: tuple[Table, ...] = (
    Table(
        name=FILE_DIGESTS,
        meaning="One row per file of raw, as it was when it was first seen: what integrity is held to. "
        "Append only, chained.",
        columns=(
            *CHAIN,
            Column("path", TEXT, "Where the file is"),
            Column("kind", TEXT, "data, manifest or manifest-list"),
            Column("sha256", TEXT, "sha256 of its bytes, in hex"),
            Column("bytes", LONG, "Its size"),
            Column("rows", LONG, "Rows in it; null for metadata", required=False),
            Column("snapshot_id", LONG, "Snapshot of raw that added it"),
            Column("first_seen", TIME, "When it was read for this row"),
        ),
        key=("path",),
        sort_by=("seq",),
        properties=WITHOUT_SPARK,
    ),
    Table(
        name=LEGAL_HOLDS,
        meaning="One row per hold that was placed or released; nothing expires that a standing hold covers. "
        "Append only, chained.",
        columns=(
            *CHAIN,
            Column("name", TEXT, "What the hold is called; of its tags too"),
            Column("event", TEXT, "placed or released"),
            Column("at", TIME, "When"),
            Column("account_id", TEXT, "Account whose records are held; null: of all", required=False),
            Column("starts", TIME, "First moment that it covers; null: from the beginning", required=False),
            Column("ends", TIME, "First moment that it covers no more; null: until it is released", False),
            Column("reason", TEXT, "Why, in words"),
            Column("approver", TEXT, "Who approved it"),
            Column("actor", TEXT, "Who ran it: user and machine"),
        ),
        key=("seq",),
        sort_by=("seq",),
        properties=WITHOUT_SPARK,
    ),
)
