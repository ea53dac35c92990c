"""The tables as data: columns with their meaning, partitions, sort order, properties.

Belongs here: which tables there are. Does not: creating or evolving them (`tables.py`), filling them
(`streaming/`).
"""

from lakehouse.definitions.access import ACCESS_LOG, ACCESS_TABLES
from lakehouse.definitions.gates import GATE_LOG, GATE_TABLES
from lakehouse.definitions.immutability import FILE_DIGESTS, IMMUTABILITY_TABLES, LEGAL_HOLDS
from lakehouse.definitions.ledgers import DRIFT, LEDGER_TABLES, PARTNER_FILES, PUBLISH_LOG
from lakehouse.definitions.partner_hours import PARTNER_HOURS, PARTNER_HOURS_TABLE
from lakehouse.definitions.payments import PAYMENT_TABLES, PAYMENTS, QUARANTINE, RAW, TRANSACTIONS, VERSIONS
from lakehouse.definitions.reconciliation import RECONCILIATION, RECONCILIATION_TABLES
from lakehouse.definitions.retention import RETENTION_LOG, RETENTION_TABLES
from lakehouse.definitions.table import FIRST_PARTITION_ID, SNAPSHOTS_KEPT, Column, Table

__all__ = [
    "ACCESS_LOG",
    "BY_NAME",
    "DRIFT",
    "FILE_DIGESTS",
    "FIRST_PARTITION_ID",
    "GATE_LOG",
    "LEGAL_HOLDS",
    "PARTNER_FILES",
    "PARTNER_HOURS",
    "PAYMENTS",
    "PUBLISH_LOG",
    "QUARANTINE",
    "RAW",
    "RECONCILIATION",
    "RETENTION_LOG",
    "SNAPSHOTS_KEPT",
    "TABLES",
    "TRANSACTIONS",
    "VERSIONS",
    "Column",
    "Table",
]

TABLES: tuple[Table, ...] = (
    *PAYMENT_TABLES,
    *LEDGER_TABLES,
    PARTNER_HOURS_TABLE,
    *GATE_TABLES,
    *RECONCILIATION_TABLES,
    *RETENTION_TABLES,
    *ACCESS_TABLES,
    *IMMUTABILITY_TABLES,
)
BY_NAME = {table.name: table for table in TABLES}
