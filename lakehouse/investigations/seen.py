"""What readers saw: rows of payments and transactions at a time, and since when they saw a record.

Belongs here: reading a kept snapshot, and folding again up to the logged vector where it has expired.
Does not: finding records (`find.py`), the fold (`lakehouse/fold.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.expressions import And, BooleanExpression, EqualTo, GreaterThanOrEqual, In, LessThanOrEqual

from lakehouse.definitions import PAYMENTS, PUBLISH_LOG, TRANSACTIONS
from lakehouse.errors import UnknownMoment
from lakehouse.investigations.evidence import Evidence, cast_of
from lakehouse.investigations.find import Group, in_groups
from lakehouse.investigations.lookup import Effort, Lookup
from lakehouse.investigations.rows import Row, folded, transaction_rows
from lakehouse.investigations.story import CLOCKS, Publish, Seen, Shown, in_order
from lakehouse.investigations.subject import EVENT, TRANSACTION
from lakehouse.offsets import OffsetVector
from lakehouse.publish_log import rows_of, unlogged

_WINDOW = timedelta(hours=6)
_MOST_WINDOWS = 20
_LOGGED = (
    "table_name", "published_at", "snapshot_id", "writer", "offsets", "contract_version", "code_version",
)  # fmt: skip
# pyiceberg's plugin for mypy knows no positional arguments
_is: Any = EqualTo
_in: Any = In
_from: Any = GreaterThanOrEqual
_to: Any = LessThanOrEqual


class Readers:
    """What readers of payments and transactions saw of the events in some groups."""

    def __init__(self, catalog: RestCatalog, evidence: Evidence, groups: Iterable[Group]) -> None:
        self._evidence = evidence
        self._groups = sorted(set(groups))
        self._tables = {name: catalog.load_table(name) for name in (PAYMENTS, TRANSACTIONS, PUBLISH_LOG)}
        self._lookups: list[Lookup] = []
        self._log = Lookup(self._tables[PUBLISH_LOG])
        waiting = unlogged(catalog, self._tables[PUBLISH_LOG]).to_pylist()
        self._unlogged = [row for row in waiting if row["table_name"] in (PAYMENTS, TRANSACTIONS)]
        self._kept = {
            name: {snapshot.snapshot_id for snapshot in self._tables[name].metadata.snapshots}
            for name in (PAYMENTS, TRANSACTIONS)
        }

    @property
    def efforts(self) -> list[Effort]:
        """What it took, table and snapshot by table and snapshot."""
        return [lookup.effort for lookup in (*self._lookups, self._log)]

    def publishes(self) -> tuple[Publish, ...]:
        """Publishes of payments since when readers may have seen the records, the first one first.

        The log is read around the records' times; where a record is in none of those publishes, to its end.
        """
        records = [r for r in self._evidence.records if r.event is not None]
        windows = _windows(r.kafka_ts for r in records)
        found = [p for start, end in windows for p in self._logged(PAYMENTS, start, end)]
        shown = Shown(found)
        late = [r for r in records if shown.first_with(r) is None]
        if late:
            found += self._logged(PAYMENTS, min(r.kafka_ts for r in late), None)
        return in_order(found)

    def at(self, moment: datetime | None) -> Seen:
        """Tell the rows as readers saw them at a time, or see them now.

        Raises `UnknownMoment` for a time before readers saw anything.
        """
        payments, published, again = self._rows(PAYMENTS, moment)
        vector = published.offsets if published is not None else None
        references = {row["transaction_ref"] for row in payments} - {None}
        if self._evidence.subject.kind == TRANSACTION:
            references = {self._evidence.subject.id}
        transactions, _, _ = self._rows(TRANSACTIONS, moment)
        shown = [row for row in transactions if self._is_shown(row, references, payments)]
        return Seen(moment, published, vector or OffsetVector(), again, tuple(payments), tuple(shown))

    def _is_shown(self, row: Row, references: set[str], payments: Iterable[Row]) -> bool:
        if row["transaction_ref"] is not None:
            return row["transaction_ref"] in references
        return any(row["business_key"] == payment["business_key"] for payment in payments)

    def _rows(self, name: str, moment: datetime | None) -> tuple[list[Row], Publish | None, bool]:
        """Read a table's rows at a moment: at its snapshot or, where that has expired, folded again."""
        history = [self._publish(row) for row in rows_of(self._tables[name])]
        seen = [p for p in history if moment is None or p.published_at <= _to_the_millisecond(moment)]
        if seen:
            return self._read(name, seen[-1]), seen[-1], False
        assert moment is not None
        published = self._logged_before(name, moment)
        vector = published.offsets if published is not None else None
        if published is None or vector is None:
            if name == TRANSACTIONS:
                return [], None, False
            raise UnknownMoment(
                f"readers saw no payments at {moment.isoformat()}: nothing was published by then",
                f"the oldest publish that is known: {self._oldest(name)}",
            )
        return self._folded(name, vector), published, True

    def _read(self, name: str, published: Publish) -> list[Row]:
        lookup = Lookup(self._tables[name], published.snapshot_id)
        self._lookups.append(lookup)
        if not self._groups:
            return []
        if name == TRANSACTIONS:
            return lookup.rows(_in("account_id", {account for account, _ in self._groups}))
        rows = lookup.rows(in_groups(self._groups))
        events, payments = folded(self._evidence.below(published.offsets))
        cast = cast_of(self._evidence.subject, events, payments)
        return _in_order(row for row in rows if not cast.isdisjoint(row["event_ids"]))

    def _folded(self, name: str, vector: OffsetVector) -> list[Row]:
        if name == PAYMENTS:
            return _in_order(self._evidence.rows_at(vector))
        if self._evidence.subject.kind == EVENT:
            return []  # its transaction may have other events, which were not looked for
        return transaction_rows(self._evidence.all_rows_at(vector))

    # -- the publish log -------------------------------------------------------------------------------------

    def _logged(self, name: str, start: datetime | None, end: datetime | None) -> list[Publish]:
        terms: list[BooleanExpression] = [_is("table_name", name)]
        terms += [_from("published_at", start.isoformat())] if start else []
        terms += [_to("published_at", end.isoformat())] if end else []
        columns = [c for c in _LOGGED if c in self._tables[PUBLISH_LOG].schema().column_names]
        where = terms[0] if len(terms) == 1 else And(*terms)
        rows = self._log.rows(where, columns=columns)
        rows += [row for row in self._unlogged if row["table_name"] == name and _in_time(row, start, end)]
        return [self._publish(row) for row in rows]

    def _logged_before(self, name: str, moment: datetime) -> Publish | None:
        for start in (moment - _WINDOW, None):
            found = self._logged(name, start, moment)
            if found:
                return max(found, key=lambda p: p.published_at)
        return None

    def _oldest(self, name: str) -> str:
        return min((p.published_at.isoformat() for p in self._logged(name, None, None)), default="none")

    def _publish(self, row: Mapping[str, Any]) -> Publish:
        vector = None if row["offsets"] is None else OffsetVector.from_json(row["offsets"])
        return Publish(
            row["table_name"],
            row["published_at"],
            row["snapshot_id"],
            row["writer"],
            vector,
            row["contract_version"],
            row.get("code_version"),
            row["snapshot_id"] in self._kept[row["table_name"]],
        )


def _windows(moments: Iterable[datetime]) -> list[tuple[datetime, datetime]]:
    """Spans of time after the moments in which they were published, run together where they touch."""
    found: list[tuple[datetime, datetime]] = []
    for moment in sorted(moments):
        start, end = moment - CLOCKS, moment + _WINDOW
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return found if len(found) <= _MOST_WINDOWS else [(found[0][0], found[-1][1])]


def _in_time(row: Mapping[str, Any], start: datetime | None, end: datetime | None) -> bool:
    moment = row["published_at"]
    return (start is None or moment >= start) and (end is None or moment <= end)


def _in_order(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda r: (r["event_ts"], r["business_key"], r["transaction_ref"] or ""))


def _to_the_millisecond(moment: datetime) -> datetime:
    """Catalogs tell times in milliseconds."""
    return datetime.fromtimestamp(int(moment.timestamp() * 1000) / 1000, UTC)
