"""Appending rows to a ledger without Spark, which takes seconds to start.

Belongs here: the plan of such a publish, and its audit. Does not: which rows, and when (`file_ledger.py`,
`chained_ledger.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse import audit
from lakehouse.definitions import BY_NAME
from lakehouse.publish import Plan, Stage
from lakehouse.refs import Head


def plan_to_append_without_spark(catalog: RestCatalog, head: Head, rows: pa.Table) -> Plan:
    """Plan the same for a table of format 2: pyiceberg cannot append to a newer one."""

    def write(stage: Stage) -> None:
        table = catalog.load_table(head.name)  # again: the head does not know the branch
        table.append(rows, snapshot_properties=stage.properties, branch=stage.branch)

    return Plan(write, just_these(head, rows.num_rows))


def just_these(head: Head, rows: int) -> Callable[[Table, Snapshot], None]:
    """Make the audit of such a publish: just so many rows were staged, no key twice."""
    key = BY_NAME[head.name].key

    def check(table: Table, staged: Snapshot) -> None:
        added = audit.added_rows(table, staged, head.snapshot.snapshot_id, key)
        audit.check_count(added.num_rows, rows, "rows staged", head.name)
        audit.check_unique(added, key, head.name)

    return check
