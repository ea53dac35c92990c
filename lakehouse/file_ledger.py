"""The ledger of partners' files: its table, read and appended to without Spark, by the publish protocol.

Belongs here: that. Does not: what an entry means, and when one is written (`streaming/dropzone/ledger.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.expressions import And, BooleanExpression, EqualTo, GreaterThanOrEqual, In, Or
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from lakehouse.definitions import BY_NAME, PARTNER_FILES
from lakehouse.light_appending import plan_to_append_without_spark
from lakehouse.patience import DEFAULT, Patience
from lakehouse.publish import Plan, Publisher
from lakehouse.refs import MAIN, Head, snapshot_of
from lakehouse.turns import drop_abandoned

WRITER = "dropzone"
_ABANDONED_SECONDS = 600.0
_SCHEMA = schema_to_pyarrow(BY_NAME[PARTNER_FILES].schema(), include_field_ids=False)
Row = dict[str, Any]
# pydantic hides the signatures of these from the type checker
_equal: Any = EqualTo
_in: Any = In
_from: Any = GreaterThanOrEqual


class FileLedger:
    """The ledger's table. Each change is built on what the table holds, and published only if it still does.

    So of two that want the same file one gets it, and the other one sees that when it builds again.
    """

    def __init__(self, catalog: RestCatalog, patience: Patience = DEFAULT) -> None:
        self._catalog = catalog
        self._publisher = Publisher(catalog, WRITER, patience)

    def tidy(self) -> None:
        """Drop branches that a killed dropzone left behind."""
        drop_abandoned(self._catalog, PARTNER_FILES, WRITER, _ABANDONED_SECONDS)

    def read(self, partner: str, names: Iterable[str] = (), digests: Iterable[str] = ()) -> list[Row]:
        """Read a partner's rows that have one of these names or digests, in no order."""
        return _rows(self._catalog.load_table(PARTNER_FILES), partner, list(names), list(digests))

    def settled(self, since: datetime | None = None) -> list[Row]:
        """Read the rows of all partners that say that a file was read, or came again, from a moment on."""
        condition: BooleanExpression = _in("state", ["done", "repeated"])
        if since is not None:
            condition = And(condition, _from("changed_at", since.isoformat()))
        return _scan(self._catalog.load_table(PARTNER_FILES), condition)

    def change(
        self,
        partner: str,
        names: Sequence[str],
        digests: Sequence[str],
        choose: Callable[[list[Row]], list[Row]],
    ) -> list[Row]:
        """Append the rows that `choose` makes of the partner's rows with these names or digests.

        `choose` is called again whenever another writer was first. Returns what was appended.

        Raises LostRace, OutcomeUnknown: nothing or all of it was appended; choosing again tells.
        """
        chosen: list[Row] = []

        def plan(head: Head) -> Plan | None:
            chosen[:] = choose(_rows(head.table, partner, list(names), list(digests)))
            if not chosen:
                return None
            rows = pa.Table.from_pylist(chosen, _SCHEMA)
            return plan_to_append_without_spark(self._catalog, head, rows)

        self._publisher.publish(PARTNER_FILES, plan)
        return list(chosen)


def _rows(table: Table, partner: str, names: list[str], digests: list[str]) -> list[Row]:
    wanted: list[BooleanExpression] = [_in("name", names)] if names else []
    wanted += [_in("digest", digests)] if digests else []
    if not wanted:
        return []
    either = Or(*wanted) if len(wanted) == 2 else wanted[0]
    return _scan(table, And(_equal("partner", partner), either))


def _scan(table: Table, condition: BooleanExpression) -> list[Row]:
    main = snapshot_of(table.metadata, MAIN)
    assert main is not None  # tables are born with a snapshot
    rows: list[Row] = table.scan(condition, snapshot_id=main.snapshot_id).to_arrow().to_pylist()
    return rows
