"""Finding all that a story is made of: versions, raw records, quarantine; each by what is known by then.

Belongs here: which rows are asked for, and in which order. Does not: choosing files (`lookup.py`), what
readers saw (`seen.py`), what the rows come to (`plot.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import reduce
from typing import Any, NamedTuple

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
    EqualTo,
    GreaterThanOrEqual,
    In,
    LessThanOrEqual,
    Or,
)

from lakehouse.definitions import QUARANTINE, RAW, VERSIONS
from lakehouse.fold import Coordinates, Version
from lakehouse.gate_log import holds_of
from lakehouse.investigations.evidence import Evidence
from lakehouse.investigations.judged import Judged, coordinates_of, judged
from lakehouse.investigations.lookup import Effort, Lookup, OnFile, has_header, has_value
from lakehouse.investigations.rows import Transport, version_of
from lakehouse.investigations.story import InQuarantine
from lakehouse.investigations.subject import ACCOUNT, EVENT, TRANSACTION, Subject
from lakehouse.redrive_mark import read_coordinates

Group = tuple[str, datetime]
"""Account and event time: versions and payments of different ones have nothing to do with each other."""

_HEADER_VALUES = "headers.list.element.value"  # the column as Parquet names it
_KEY, _EVENT_ID, _REFERENCE = "key", "event_id", "transaction_ref"
_MOST_TERMS = 50
_CLOCKS = timedelta(hours=1)  # by which clocks of partners, Kafka and the catalog may differ
# pyiceberg's plugin for mypy knows no positional arguments
_is: Any = EqualTo
_in: Any = In
_from: Any = GreaterThanOrEqual
_to: Any = LessThanOrEqual


class Span(NamedTuple):
    """Event time to look in: from, to; None is open."""

    start: datetime | None = None
    end: datetime | None = None


class Finder:
    """Finds what the lake has of one subject.

    Args:
        span: only what happened in this time, where that is known: spares looking elsewhere.
        until: raw records of a later Kafka time are not looked for; None: all are.
        on_file: told how far the asking of files is.
    """

    def __init__(
        self,
        catalog: RestCatalog,
        subject: Subject,
        span: Span = Span(),  # noqa: B008  # it never changes
        until: datetime | None = None,
        on_file: OnFile | None = None,
    ) -> None:
        self._catalog = catalog
        self._subject = subject
        self._span = span
        self._until = until
        self._holds = holds_of(catalog)
        tables = {name: catalog.load_table(name) for name in (VERSIONS, RAW, QUARANTINE)}
        self._lookups = {name: Lookup(table, on_file=on_file) for name, table in tables.items()}
        self._versions: dict[tuple[str, str], dict[str, Any]] = {}
        self._records: dict[Coordinates, Judged] = {}
        self._looked: set[Group] = set()

    @property
    def efforts(self) -> list[Effort]:
        """What it took, table by table."""
        return [lookup.effort for lookup in self._lookups.values()]

    @property
    def groups(self) -> list[Group]:
        """The groups that the subject's versions are in."""
        told = ((v.account_id, v.event_ts) for v in self._stored())
        judged_ = ((r.event.account_id, r.event.event_ts) for r in self._records.values() if r.event)
        return sorted({*told, *judged_})

    def find(self) -> Evidence:
        """Look everywhere. What is found may be more than belongs to the story."""
        self._add_versions(self._lookups[VERSIONS].rows(self._of_subject(), self._wanted_versions()))
        self._add_groups()
        self._add_records()
        self._add_groups()  # of records that the curated job has not come to yet
        self._add_places(self._untold())
        quarantine = self._with_redrives()
        stored, transport = self._stored(), Transport()
        for row in self._versions.values():
            transport.add(coordinates_of(row), row["source"], row["topic"])
        return Evidence(
            self._subject, tuple(self._records.values()), tuple(stored), quarantine, (), transport
        )

    # -- event_versions --------------------------------------------------------------------------------------

    def _of_subject(self) -> BooleanExpression:
        column = {EVENT: _EVENT_ID, TRANSACTION: _REFERENCE, ACCOUNT: "account_id"}[self._subject.kind]
        return And(_is(column, self._subject.id), _between("event_ts", *self._span))

    def _wanted_versions(self) -> Mapping[str, Iterable[bytes]] | None:
        column = {EVENT: _EVENT_ID, TRANSACTION: _REFERENCE}.get(self._subject.kind)
        return None if column is None else {column: [self._subject.id.encode()]}

    def _add_versions(self, rows: Iterable[dict[str, Any]]) -> None:
        self._versions |= {(row["event_id"], row["content_hash"]): row for row in rows}

    def _add_groups(self) -> None:
        """Read every version of the groups at hand: the events of one payment stand in one group."""
        wanted = set(self.groups) - self._looked
        if wanted and self._subject.kind != ACCOUNT:  # of an account every version was read already
            rows = self._lookups[VERSIONS].rows(in_groups(wanted))
            self._add_versions(row for row in rows if (row["account_id"], row["event_ts"]) in wanted)
        self._looked |= wanted

    def _stored(self) -> list[Version]:
        return [version_of(row) for row in self._versions.values()]

    # -- raw -------------------------------------------------------------------------------------------------

    def _add_records(self) -> None:
        """Read raw records by a header that names an event, or by the key: the account."""
        lookup = self._lookups[RAW]
        if self._subject.kind == EVENT:
            ids = sorted(self._subject.in_bytes | {v.event_id.encode() for v in self._stored()})
            found = lookup.rows(self._time(), {_HEADER_VALUES: ids}, lambda batch: has_header(batch, ids))
        else:
            keys = [account.encode() for account in self._accounts()]
            if not keys:
                return
            found = lookup.rows(self._time(), {_KEY: keys}, lambda batch: has_value(batch, _KEY, keys))
        self._add(found)

    def _accounts(self) -> list[str]:
        if self._subject.kind == ACCOUNT:
            return [self._subject.id]
        return sorted({account for account, _ in self.groups})

    def _time(self) -> BooleanExpression:
        """Kafka times that may matter: of a transaction, from its first event that is known."""
        start = self._span.start
        if start is None and self._subject.kind == TRANSACTION:
            start = min((moment for _, moment in self.groups), default=None)
        first = None if start is None else start - _CLOCKS
        return _between("kafka_ts", first, None if self._until is None else self._until + _CLOCKS)

    def _untold(self) -> dict[Coordinates, datetime | None]:
        """Versions whose record was not found: its producer set another key, or no header."""
        places = {coordinates_of(row): row.get("kafka_ts") for row in self._versions.values()}
        return {where: moment for where, moment in places.items() if where not in self._records}

    def _add_places(self, places: Mapping[Coordinates, datetime | None]) -> None:
        """Read records by where they stand: statistics of partition and offset tell in which files."""
        waiting = sorted(places.items(), key=lambda place: place[0])
        for start in range(0, len(waiting), _MOST_TERMS):
            part = dict(waiting[start : start + _MOST_TERMS])
            rows = self._lookups[RAW].rows(_any(_at(*place) for place in part.items()))
            self._add(row for row in rows if coordinates_of(row) in part)

    def _add(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            record = judged(row, self._subject, self._holds)
            self._records[record.where] = record

    # -- quarantine ------------------------------------------------------------------------------------------

    def _with_redrives(self) -> dict[Coordinates, InQuarantine]:
        """Follow redrives both ways, one after the other, as far as raw has them."""
        quarantine, tried = self._quarantine(), set[Coordinates]()
        while places := {w: t for w, t in self._tied(quarantine).items() if w not in tried}:
            tried |= places.keys()
            self._add_places(places)
            quarantine = self._quarantine()
        return quarantine

    def _quarantine(self) -> dict[Coordinates, InQuarantine]:
        broken = [r for r in self._records.values() if r.event is None]
        if not broken:
            return {}
        moments, places = [r.kafka_ts for r in broken], {r.where for r in broken}
        where = And(_between("kafka_ts", min(moments), max(moments)), _offsets(r.offset for r in places))
        rows = self._lookups[QUARANTINE].rows(where)
        return {
            coordinates_of(row): InQuarantine(*(row[name] for name in InQuarantine._fields))
            for row in rows
            if coordinates_of(row) in places
        }

    def _tied(self, quarantine: Mapping[Coordinates, InQuarantine]) -> dict[Coordinates, datetime | None]:
        """Where redrives of the records stand, and what they are redrives of, if not at hand."""
        from_marks = {r.mark.of: r.mark.of_time for r in self._records.values() if r.mark}
        sent_again = {
            where: row.redriven_at
            for row in quarantine.values()
            if row.redriven_by is not None and (where := read_coordinates(row.redriven_by)) is not None
        }
        places: dict[Coordinates, datetime | None] = {**from_marks, **sent_again}
        return {where: moment for where, moment in places.items() if where not in self._records}


def in_groups(groups: Iterable[Group]) -> BooleanExpression:
    """Build the condition for rows of groups; of many groups it is wider: choose among the rows then."""
    groups = sorted(groups)
    if len(groups) <= _MOST_TERMS:
        return _any(And(_is("account_id", a), _is("event_ts", t.isoformat())) for a, t in groups)
    accounts = {account for account, _ in groups}
    times = [moment for _, moment in groups]
    return And(_in("account_id", accounts), _between("event_ts", min(times), max(times)))


def _at(where: Coordinates, moment: datetime | None) -> BooleanExpression:
    place = And(_is("partition", where.partition), _is("offset", where.offset))
    return And(place, _between("kafka_ts", moment, moment))


def _between(column: str, start: datetime | None, end: datetime | None) -> BooleanExpression:
    terms = [op(column, t.isoformat()) for op, t in ((_from, start), (_to, end)) if t is not None]
    everything: BooleanExpression = AlwaysTrue()
    return reduce(And, terms, everything)


def _offsets(offsets: Iterable[int]) -> BooleanExpression:
    known = set(offsets)  # of a list of more than 200 pyiceberg asks no file's statistics
    if len(known) > _MOST_TERMS:
        return And(_from("offset", min(known)), _to("offset", max(known)))
    return _in("offset", known)  # type: ignore[no-any-return]


def _any(terms: Iterable[BooleanExpression]) -> BooleanExpression:
    found: Iterator[BooleanExpression] = iter(terms)
    return reduce(Or, found)
