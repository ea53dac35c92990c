"""Which old days, of raw or of the curated tables, have records that a legal hold covers.

Belongs here: asking the tables. Does not: what a hold is (`lakehouse/holds.py`), dropping (`retention.py`,
`curated_retention.py`).

A record whose bytes name an account anywhere counts as the account's, whatever its key is: it may have
broken the contract, or come again under another key, and what may be covered is kept. It also counts by the
time at which its version says it happened: raw knows that only of records whose producer said so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

from pyiceberg.catalog.rest import RestCatalog

from lakehouse.definitions import QUARANTINE, RAW, VERSIONS
from lakehouse.holds import HeldDays, Hold, Scope
from lakehouse.moments import NOW, Moment
from lakehouse.query import run_query

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_OF_ACCOUNT = """("key" = getvariable('key') OR contains(hex("value"), hex(getvariable('key'))))"""
# By the days of records whose content names the account, whatever their key says.
_TOLD = "account_id = getvariable('account')"
_DAYS = """
    SELECT min({time})::DATE, max({time})::DATE, count(*) FROM {table}
    WHERE {time} < getvariable('cut') AND {condition}
    HAVING count(*) > 0
"""
_Question = tuple[str, Moment]  # a statement, and as of when it is asked


def held_days(
    catalog: RestCatalog,
    properties: Mapping[str, str],
    snapshot_id: int,
    since: datetime | None,
    cut: datetime,
    holds: Iterable[Hold],
) -> tuple[HeldDays, ...]:
    """Find what each hold keeps of raw before a Kafka time; holds that keep nothing are left out.

    Args:
        snapshot_id: raw is asked as of it.
        since: raw has nothing from before this Kafka time, by earlier drops.
        properties: pyiceberg's properties of the catalog, for DuckDB's own connection.
    """
    given = {"since": since or _BEGINNING, "cut": cut}
    return _kept_by(catalog, properties, holds, given, lambda scope: _of_raw(catalog, scope, snapshot_id))


def held_event_days(
    catalog: RestCatalog, properties: Mapping[str, str], cut: datetime, holds: Iterable[Hold]
) -> tuple[HeldDays, ...]:
    """Find what each hold keeps of the curated tables before an event time (of quarantine: a Kafka time).

    Holds that keep nothing there are left out.
    """
    return _kept_by(catalog, properties, holds, {"cut": cut}, _of_curated)


def _kept_by(
    catalog: RestCatalog,
    properties: Mapping[str, str],
    holds: Iterable[Hold],
    given: Mapping[str, Any],
    questions: Callable[[Scope], Iterator[_Question]],
) -> tuple[HeldDays, ...]:
    """Ask the questions about each hold's scope, and put together what they say."""
    found = []
    for hold in holds:
        variables = {**given, **_variables(hold.scope)}
        days = [
            row
            for sql, moment in questions(hold.scope)
            for row in run_query(catalog, properties, sql, moment, variables=variables).rows
        ]
        if days:
            found.append(_kept(hold, days))
    return tuple(found)


def _of_raw(catalog: RestCatalog, scope: Scope, snapshot_id: int) -> Iterator[_Question]:
    """Ask raw, as of a snapshot, and what versions know of its records."""
    at = Moment(snapshots={RAW: snapshot_id})
    here = f"kafka_ts >= getvariable('since') AND {_in_time(scope)}"
    of_raw, of_versions = ("true", "true") if scope.account_id is None else (_OF_ACCOUNT, _TOLD)
    yield _DAYS.format(time="kafka_ts", table=RAW, condition=f"{of_raw} AND {here}"), at
    if catalog.table_exists(VERSIONS):
        yield _DAYS.format(time="kafka_ts", table=VERSIONS, condition=f"{of_versions} AND {here}"), NOW


def _of_curated(scope: Scope) -> Iterator[_Question]:
    """Ask versions: payments are folded from them, in the same groups. Then quarantine, but not by account.

    No account is known of what broke the contract; the tag of a hold keeps what there was when it was placed.
    """
    of_versions = "true" if scope.account_id is None else _TOLD
    condition = f"{of_versions} AND {_in_time(scope)}"
    yield _DAYS.format(time="event_ts", table=VERSIONS, condition=condition), NOW
    if scope.account_id is None:
        broken = _between("kafka_ts", scope)
        yield _DAYS.format(time="kafka_ts", table=QUARANTINE, condition=broken), NOW


def _in_time(scope: Scope) -> str:
    """Write the condition that a record was taken, or its event happened, in the time of a scope."""
    either = [_between(column, scope) for column in ("kafka_ts", "event_ts")]
    return f"({' OR '.join(either)})"


def _between(column: str, scope: Scope) -> str:
    terms = [f"{column} >= getvariable('starts')"] if scope.starts is not None else []
    terms += [f"{column} < getvariable('ends')"] if scope.ends is not None else []
    return f"({' AND '.join(terms) or 'true'})"


def _variables(scope: Scope) -> dict[str, Any]:
    given: dict[str, Any] = {"starts": scope.starts, "ends": scope.ends}
    if scope.account_id is not None:
        given |= {"account": scope.account_id, "key": scope.account_id.encode()}
    return {name: value for name, value in given.items() if value is not None}


def _kept(hold: Hold, days: list[tuple[date, date, int]]) -> HeldDays:
    """Put together what raw and versions say; the larger count is raw's, which has all copies, if any."""
    firsts, lasts, counts = zip(*days, strict=True)
    return HeldDays(hold, min(firsts), max(lasts), max(counts))
