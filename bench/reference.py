"""What payments must be, by the plain fold of raw: their content hash at one offset vector after another.

Belongs here: judging and folding raw in plain Python, account by account, and adding up. Does not: the rules
(`quality/`), the fold (`lakehouse/fold.py`), reading payments.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from bench.lake import SOURCE, Lake
from lakehouse.content_hash import Sums, of_columns, of_lanes
from lakehouse.definitions import BY_NAME, PAYMENTS, RAW
from lakehouse.fold import Coordinates, Payment, Version, fold, record
from lakehouse.moments import Moment
from lakehouse.offsets import OffsetVector, Range
from lakehouse.query import run_query
from lakehouse.table_hash import shape_of, sql
from quality.contract import Event, in_force
from quality.judge import judge

_AT_ONCE = 20_000
_SHAPE = shape_of(BY_NAME[PAYMENTS])
_SUMS = sql(BY_NAME[PAYMENTS], "duckdb")
# The name is that of lakehouse/definitions/, nothing from outside.
_RECORDS = f'SELECT topic_id, topic, partition, "offset", kafka_ts, value FROM {RAW}'  # noqa: S608
_Row = tuple[Any, ...]


class Reference:
    """The plain fold of the records below a vector that only grows; what it came to is kept.

    An event's account never changes, so that a batch changes the payments of the accounts it speaks of only.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._copies: dict[str, list[Version]] = defaultdict(list)
        self._of_account: dict[str, Sums] = {}
        self._whole = Sums()
        self._vector = OffsetVector()
        self._known: dict[str, Sums] = {OffsetVector().to_json(): Sums()}
        self._lock = Lock()

    def at(
        self, vector: OffsetVector, report: Callable[[int, int], None] = lambda _done, _total: None
    ) -> Sums:
        """Return what payments come to at a vector: one asked for before, or beyond all of those."""
        with self._lock:
            key = vector.to_json()
            if key not in self._known:
                if not vector.covers(self._vector):
                    raise ValueError(f"never asked for, and behind {self._vector.to_json()}: {key}")
                self._advance(vector, report)
                self._known[key] = self._whole
            return self._known[key]

    def _advance(self, vector: OffsetVector, report: Callable[[int, int], None]) -> None:
        total, done = self._vector.records_to(vector), 0
        touched: set[str] = set()
        while ranges := self._vector.ranges_to(vector):
            end = self._vector.part_way(vector, _AT_ONCE)
            rows = self._read(self._vector.ranges_to(end))
            touched |= self._take(rows)
            done += len(rows)
            self._vector = end
            report(done, total)
            assert rows, ranges
        for account in touched:
            self._refold(account)

    def _read(self, ranges: Iterable[Range]) -> list[_Row]:
        terms = " OR ".join(
            f"(topic_id = '{r.topic_id}' AND partition = {r.partition} "
            f'AND "offset" >= {r.start} AND "offset" < {r.end})'
            for r in ranges
        )
        properties = self._lake.settings.catalog_properties()
        return run_query(self._lake.catalog, properties, f"{_RECORDS} WHERE {terms}").rows

    def _take(self, rows: Iterable[_Row]) -> set[str]:
        touched = set()
        for topic_id, topic, partition, offset, kafka_ts, value in rows:
            self._topic = topic
            verdict = judge(value, kafka_ts, in_force(kafka_ts), False)
            if isinstance(verdict, Event):
                version = record(verdict, Coordinates(topic_id, partition, offset))
                self._copies[version.account_id].append(version)
                touched.add(version.account_id)
        return touched

    def _refold(self, account: str) -> None:
        before = self._of_account.get(account, Sums())
        rows = [_row(payment, self._topic) for payment in fold(self._copies[account])]
        now = of_columns(_SHAPE, [[row[name] for row in rows] for name, _ in _SHAPE])
        self._of_account[account] = now
        self._whole = Sums(
            self._whole.rows - before.rows + now.rows, self._whole.total - before.total + now.total
        )


def found(lake: Lake, moment: Moment) -> tuple[Sums, OffsetVector | None]:
    """Add up the rows of payments as a reader sees them, all columns; returns their vector with a
    consistent moment.
    """
    result = run_query(lake.catalog, lake.settings.catalog_properties(), _SUMS, moment)
    rows, *lanes = result.rows[0]
    return of_lanes(rows, [int(lane or 0) for lane in lanes]), result.offsets


def _row(payment: Payment, topic: str) -> dict[str, Any]:
    version = payment.row
    assert version.event is not None
    assert version.coordinates is not None
    own = {"first_ingest_ts": version.first_ingest_ts, "source": SOURCE, "topic": topic}
    told = payment._asdict()
    del told["row"]
    return {**version.event._asdict(), **version.coordinates._asdict(), **own, **told}
