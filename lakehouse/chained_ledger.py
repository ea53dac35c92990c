"""Ledgers whose rows are chained: appended to without Spark, by the publish protocol, and followed.

Belongs here: any such table's rows, its tails, whether its chain holds. Does not: links (`chain.py`), what
the rows mean (`integrity/`, `hold_log.py`, `access_log.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, EqualTo, GreaterThan, LessThanOrEqual
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.chain import ADDED, EMPTY, LINK, SEQ, Break, Follower, Tail, chained
from lakehouse.definitions import BY_NAME
from lakehouse.light_appending import plan_to_append_without_spark
from lakehouse.patience import DEFAULT, Patience
from lakehouse.publish import Plan, Publisher
from lakehouse.refs import Head, ancestry, stamp_of
from lakehouse.tables import ensure_tables
from lakehouse.turns import drop_abandoned, opened_at

NOTE = "chain"
_ABANDONED = timedelta(minutes=10)
Row = dict[str, Any]
Choose = Callable[["ChainedLedger", Table], list[Row]]
"""Makes the rows to append, without number and link, of the ledger as it is; again after a lost race."""
# pyiceberg's plugin for mypy knows no positional arguments
_after: Any = GreaterThan
_to: Any = LessThanOrEqual
_at: Any = EqualTo
_AT_A_TIME = 10_000


class Verified(NamedTuple):
    """How many rows there are, the last one, and the first that is not right; None: all are."""

    rows: int
    last: Tail
    broken: Break | None


class ChainedLedger:
    """One such table. An append is built on the tail that the table has, and published only on that one."""

    def __init__(self, catalog: RestCatalog, name: str, writer: str, patience: Patience = DEFAULT) -> None:
        self.name = name
        self._catalog = catalog
        self._writer = writer
        self._publisher = Publisher(catalog, writer, patience)

    @property
    def schema(self) -> pa.Schema:
        """The columns as Arrow has them."""
        return schema_to_pyarrow(BY_NAME[self.name].schema(), include_field_ids=False)

    def prepare(self) -> None:
        """Make the table where a lake is older than it, or give it columns that it lacks."""
        ensure_tables(self._catalog, 1, [BY_NAME[self.name]])

    def table(self) -> Table | None:
        """Load the table; None where there is none yet."""
        try:
            found: Table = self._catalog.load_table(self.name)
        except NoSuchTableError:
            return None
        return found

    def rows(self, table: Table | None = None, after: int = 0) -> list[Row]:
        """Read the rows after a number, in their order; none where there is no table."""
        table = table or self.table()
        if table is None:
            return []
        condition: BooleanExpression = _after(SEQ, after) if after else AlwaysTrue()
        found: list[Row] = table.scan(condition).to_arrow().to_pylist()
        return sorted(found, key=lambda row: int(row[SEQ]))

    def in_order(self, table: Table, after: int = 0, at_a_time: int = _AT_A_TIME) -> Iterator[list[Row]]:
        """Read the rows after a number in their order, so many at a time; only numbers are held whole."""
        condition: BooleanExpression = _after(SEQ, after) if after else AlwaysTrue()
        found = table.scan(condition, selected_fields=(SEQ,)).to_arrow()[SEQ].combine_chunks()
        numbers = found.take(pc.sort_indices(found))
        ends = [numbers[at].as_py() for at in range(at_a_time - 1, len(numbers), at_a_time)]
        ends += [numbers[-1].as_py()] if len(numbers) else []
        for end in dict.fromkeys(ends):
            some: BooleanExpression = And(condition, _to(SEQ, end))
            rows: list[Row] = table.scan(some).to_arrow().to_pylist()
            yield sorted(rows, key=lambda row: int(row[SEQ]))
            condition = _after(SEQ, end)

    def batches(self, table: Table) -> Iterator[pa.RecordBatch]:
        """Read all rows, a few at a time, in no order."""
        yield from table.scan().to_arrow_batch_reader()

    def append(self, choose: Choose) -> list[Row]:
        """Append what `choose` makes of the ledger, chained; the stamp says where the chain ends then.

        Makes the table where there is none, and drops what killed writers left behind; where there is nothing
        to do of either, neither takes a request. Returns what was appended. Raises `PublishError`: nothing or
        all of it was; choosing again tells.
        """
        made: list[Row] = []

        def plan(head: Head) -> Plan | None:
            self._tidy(head)
            made[:] = chained(choose(self, head.table), self.tail(head.table))
            if not made:
                return None
            rows = pa.Table.from_pylist(made, self.schema)
            plan = plan_to_append_without_spark(self._catalog, head, rows)
            return replace(plan, notes={NOTE: str(Tail(made[-1][SEQ], made[-1][LINK]))})

        try:
            self._publisher.publish(self.name, plan)
        except NoSuchTableError:  # a lake from before there was this ledger
            self.prepare()
            self._publisher.publish(self.name, plan)
        return list(made)

    def tail(self, table: Table) -> Tail:
        """Find the end of the chain: in the stamp of the last append, else in the rows."""
        return next(stamped_tails(table), None) or self._read_tail(table)

    def verify(
        self, known: Iterable[Tail] = (), each: Callable[[list[Row]], None] = lambda _rows: None
    ) -> Verified:
        """Follow the whole chain, and hold it to what published snapshots say and to other known tails.

        `each` is given the rows as they are read, in their order: whoever needs them too reads once.
        """
        table = self.table()
        follower = Follower([*known, *(() if table is None else published_tails(table))])
        count, breaks = 0, list[Break]()
        for rows in () if table is None else self.in_order(table):
            count += len(rows)
            each(rows)
            breaks += [*follower.follow(rows)][: 1 - len(breaks)]
        breaks += [*follower.end(), *(() if table is None else unstamped(table, follower.tail))]
        return Verified(count, follower.tail, breaks[0] if breaks else None)

    def lost(self, table: Table, known: Iterable[Tail] = ()) -> Tail | None:
        """Find a tail that was published, or is known otherwise, and is not in the chain any more; or None.

        Reads no row where the stamps of main tell.
        """
        stamped = {tail.seq: tail for tail in stamped_tails(table)}
        for tail in (*known, *published_tails(table)):
            there = stamped[tail.seq] == tail if tail.seq in stamped else self._has(table, tail)
            if not there:
                return tail
        return None

    def _has(self, table: Table, tail: Tail) -> bool:
        if tail == EMPTY:
            return True
        found = table.scan(_at(SEQ, tail.seq), selected_fields=(SEQ, LINK)).to_arrow()
        return bool(found[LINK].to_pylist() == [tail.link])

    def _tidy(self, head: Head) -> None:
        stages = map(opened_at, head.table.metadata.refs)
        oldest = datetime.now(UTC) - _ABANDONED
        if any(opened is not None and opened < oldest for opened in stages):
            drop_abandoned(self._catalog, self.name, self._writer, _ABANDONED.total_seconds())

    def _read_tail(self, table: Table) -> Tail:
        rows = table.scan(selected_fields=(SEQ, LINK)).to_arrow().to_pylist()
        return max((Tail(row[SEQ], row[LINK]) for row in rows), default=EMPTY)


def stamped_tails(table: Table) -> Iterator[Tail]:
    """Read the tails that appends stamped, the newest first, as far back as main's snapshots are kept."""
    main = table.current_snapshot()
    yield from _tails(ancestry(table.metadata, main) if main is not None else ())


def published_tails(table: Table) -> Iterator[Tail]:
    """Read the tails that main ever had, also before it was rolled back, as far as snapshots are kept.

    What was staged and lost its race was never main's: its tail is none.
    """
    yield from stamped_tails(table)
    was_main = {entry.snapshot_id for entry in table.metadata.snapshot_log}
    yield from _tails(s for s in table.metadata.snapshots if s.snapshot_id in was_main)


def unstamped(table: Table, tail: Tail) -> Iterator[Break]:
    """Say, of the end that a chain has, whether it lies behind what the last append stamped."""
    stamped = next(stamped_tails(table), tail)
    if tail.seq > stamped.seq:
        first = stamped.seq + 1
        yield Break(first, ADDED, f"row {first} was written past the publish protocol")


def _tails(snapshots: Iterable[Snapshot]) -> Iterator[Tail]:
    for snapshot in snapshots:
        stamp = stamp_of(snapshot)
        if stamp is not None and NOTE in stamp.notes:
            yield Tail.parse(stamp.notes[NOTE])
