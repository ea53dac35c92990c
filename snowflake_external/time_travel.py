"""Reading the lake's tables as they were, in Snowflake if it can, else in the lake itself.

Belongs here: asking Snowflake whether it can, and running the query. Does not: which snapshot a moment means
(`lakehouse/moments.py`), the text of the query (`pinned_sql.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog

from lakehouse.definitions import BY_NAME
from lakehouse.moments import Moment, snapshots_at
from lakehouse.offsets import OffsetVector
from lakehouse.query import load_table, run_query
from snowflake_external.deployment import Deployment
from snowflake_external.errors import SnowflakeError, Unreachable
from snowflake_external.estate import EXPOSED, Names
from snowflake_external.existing import Ask
from snowflake_external.pinned_sql import Pin, Select
from snowflake_external.session import Rows
from snowflake_external.sql import identifier, literal

_tracer = trace.get_tracer(__name__)


class Asks(Protocol):
    """A session of Snowflake (`session.py`)."""

    @property
    def ask(self) -> Ask: ...

    def fetch(self, text: str) -> Rows: ...


class Way(StrEnum):
    """Who read the rows."""

    SNOWFLAKE = "snowflake"
    LAKEHOUSE = "lakehouse"


@dataclass(frozen=True)
class Reading:
    """Rows, the snapshot that each table was read at, and which way was taken and why.

    Args:
        statement: as it was run; an auditor can run it again.
        offsets: the common vector, where the moment asks for one.
    """

    way: Way
    why: str
    statement: str
    columns: list[str]
    rows: list[tuple[Any, ...]]
    snapshots: dict[str, int]
    offsets: OffsetVector | None = None


def read_at(
    deployment: Deployment,
    catalog: RestCatalog,
    properties: Mapping[str, str],
    snowflake: Asks,
    sql: str,
    moment: Moment,
) -> Reading:
    """Run one SELECT (tables as `schema.table`) on the tables as they were at `moment`.

    The lake says which snapshots are meant. Snowflake reads exactly these; where it cannot (the account has
    no time travel by version, it has not refreshed so far, a table is not shown to it), DuckDB reads them in
    the lake. A refusal or an outage is no reason to go another way: it is raised.

    Args:
        catalog: tells which snapshot of each table is meant.
        properties: pyiceberg's properties of the same catalog, for DuckDB's connection.

    Raises:
        WrongQuery: more than one SELECT, or tables that cannot be told.
        UnknownMoment: a table cannot be read at `moment`.
        SnowflakeError: Snowflake does not answer, or refuses the tables as they are now.
        QueryError: the lake's reader does not take the statement.
    """
    select = Select.of(sql, BY_NAME)
    snapshots, offsets = snapshots_at({name: load_table(catalog, name) for name in select.tables}, moment)
    pins = {name: Pin(snapshot, moment.tag) for name, snapshot in snapshots.items()}
    with _tracer.start_as_current_span("snowflake.read_at") as span:
        names = Names(deployment)
        why_not = _why_not(names, snowflake, pins)
        span.set_attribute("way", Way.LAKEHOUSE if why_not else Way.SNOWFLAKE)
        if why_not:
            read = run_query(catalog, properties, sql, moment)
            return Reading(Way.LAKEHOUSE, why_not, sql, read.columns, read.rows, read.snapshots, read.offsets)
        statement = select.at({one: f"{identifier(*names.table(one))} {pin}" for one, pin in pins.items()})
        columns, rows = snowflake.fetch(statement)
        why = "Snowflake reads every table at its snapshot"
        return Reading(Way.SNOWFLAKE, why, statement, columns, rows, snapshots, offsets)


def _why_not(names: Names, snowflake: Asks, pins: Mapping[str, Pin]) -> str | None:
    """Say why Snowflake cannot read these versions; None if it can."""
    hidden = sorted(set(pins) - set(EXPOSED))
    if hidden:
        return f"Snowflake is not shown {', '.join(hidden)}"
    found = (_lacking(snowflake, identifier(*names.table(name)), pin) for name, pin in pins.items())
    return next((why for why in found if why is not None), None)


def _lacking(snowflake: Asks, table: str, pin: Pin) -> str | None:
    """Try a version of a table without reading any row.

    First without the version: what is wrong then has nothing to do with time travel. So no error needs to be
    told from another by its number, which Snowflake does not document for versions.
    """
    snowflake.ask(f"SELECT 1 FROM {table} LIMIT 0")  # noqa: S608  # quoted
    try:
        if pin.tag is not None and _tagged(snowflake, table, pin.tag) != pin.snapshot_id:
            return f"Snowflake has the tag {pin.tag} of {table} elsewhere, or not yet"
        snowflake.ask(f"SELECT 1 FROM {table} {pin} LIMIT 0")  # noqa: S608  # quoted
    except Unreachable:
        raise
    except SnowflakeError as error:
        return f"Snowflake does not read {table} {pin}: {error}"
    return None


def _tagged(snowflake: Asks, table: str, tag: str) -> int | None:
    """The snapshot that a tag stands on by what Snowflake knows: a tag may have been moved since."""
    function = f"GET_TABLE_VERSION_REFS({literal(table)})"
    query = f"SELECT version_id FROM TABLE({function}) WHERE reference_name = %s"  # noqa: S608  # quoted
    rows = snowflake.ask(query, (tag,))
    return int(rows[0]["version_id"]) if rows else None
