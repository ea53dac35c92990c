"""Which old days, of raw or of the curated tables, have records that a legal hold covers.

Belongs here: asking the tables. Does not: what a hold is (`lakehouse/holds.py`), dropping (`retention.py`,
`curated_retention.py`).

A record whose bytes name an account anywhere counts as the account's, whatever its key is: it may have
broken the contract, or come again under another key, and what may be covered is kept. It also counts by the
time at which its version says it happened: raw knows that only of records whose producer said so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    SELECT min(kafka_ts)::DATE, max(kafka_ts)::DATE, count(*) FROM {table}
    WHERE kafka_ts >= getvariable('since') AND kafka_ts < getvariable('cut') AND {condition}
    HAVING count(*) > 0
"""

# Payments are folded from versions, in the same groups: what is held of the one is held of the other.
_EVENT_DAYS = f"""
    SELECT min(event_ts)::DATE, max(event_ts)::DATE, count(*) FROM {VERSIONS}
    WHERE event_ts < getvariable('cut') AND {{condition}}
    HAVING count(*) > 0
"""  # noqa: S608
# No account is known of what broke the contract; the tag of a hold keeps what there was when it was placed.
_BROKEN_DAYS = f"""
    SELECT min(kafka_ts)::DATE, max(kafka_ts)::DATE, count(*) FROM {QUARANTINE}
    WHERE kafka_ts < getvariable('cut') AND {{condition}}
    HAVING count(*) > 0
"""  # noqa: S608


def held_event_days(
    catalog: RestCatalog, properties: Mapping[str, str], cut: datetime, holds: Iterable[Hold]
) -> tuple[HeldDays, ...]:
    """Find what each hold keeps of the curated tables before an event time (of quarantine: a Kafka time).

    Holds that keep nothing there are left out.
    """
    found = []
    for hold in holds:
        scope = hold.scope
        questions = [(_EVENT_DAYS, f"{'true' if scope.account_id is None else _TOLD} AND {_in_time(scope)}")]
        if scope.account_id is None:
            questions.append((_BROKEN_DAYS, _between("kafka_ts", scope)))
        days = [
            row
            for sql, condition in questions
            for row in run_query(
                catalog, properties, sql.format(condition=condition), variables=_variables(scope, cut)
            ).rows
        ]
        if days:
            found.append(_kept(hold, days))
    return tuple(found)


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
    found = []
    for hold in holds:
        days = [
            row
            for table, condition, moment in _questions(catalog, hold.scope, snapshot_id)
            for row in run_query(
                catalog,
                properties,
                _DAYS.format(table=table, condition=condition),
                moment,
                variables={"since": since or _BEGINNING} | _variables(hold.scope, cut),
            ).rows
        ]
        if days:
            found.append(_kept(hold, days))
    return tuple(found)


def _questions(catalog: RestCatalog, scope: Scope, snapshot_id: int) -> Iterator[tuple[str, str, Moment]]:
    """Say which table to ask, for which rows, as of when."""
    at, in_time = Moment(snapshots={RAW: snapshot_id}), _in_time(scope)
    of_raw, of_versions = ("true", "true") if scope.account_id is None else (_OF_ACCOUNT, _TOLD)
    yield RAW, f"{of_raw} AND {in_time}", at
    if catalog.table_exists(VERSIONS):
        yield VERSIONS, f"{of_versions} AND {in_time}", NOW


def _in_time(scope: Scope) -> str:
    """Write the condition that a record was taken, or its event happened, in the time of a scope."""
    either = [_between(column, scope) for column in ("kafka_ts", "event_ts")]
    return f"({' OR '.join(either)})"


def _between(column: str, scope: Scope) -> str:
    terms = [f"{column} >= getvariable('starts')"] if scope.starts is not None else []
    terms += [f"{column} < getvariable('ends')"] if scope.ends is not None else []
    return f"({' AND '.join(terms) or 'true'})"


def _variables(scope: Scope, cut: datetime) -> dict[str, Any]:
    given: dict[str, Any] = {"cut": cut, "starts": scope.starts, "ends": scope.ends}
    if scope.account_id is not None:
        given |= {"account": scope.account_id, "key": scope.account_id.encode()}
    return {name: value for name, value in given.items() if value is not None}


def _kept(hold: Hold, days: list[tuple[date, date, int]]) -> HeldDays:
    """Put together what raw and versions say; the larger count is raw's, which has all copies, if any."""
    firsts, lasts, counts = zip(*days, strict=True)
    return HeldDays(hold, min(firsts), max(lasts), max(counts))
