"""Reading back without Spark: SQL by DuckDB over its own Iceberg reader, or over pyiceberg's.

Belongs here: connecting DuckDB to the catalog, and running one read-only statement.
Does not: choosing snapshots (`moments.py`), printing (`cli/`).
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import duckdb
from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from lakehouse import arrivals_sql, transactions_sql
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import PAYMENTS, PUBLISH_LOG, RAW
from lakehouse.errors import LakehouseError
from lakehouse.moments import NOW, Moment, snapshots_at
from lakehouse.offsets import OffsetVector
from lakehouse.publish_log import unlogged

Reader = Literal["duckdb", "pyiceberg"]
_EXTENSIONS = ("avro", "httpfs", "iceberg")  # iceberg needs the other two loaded first
# Views of our own: the table that each reads, as it was at the moment that is meant, and its SELECT.
_OWN_VIEWS = {
    transactions_sql.VIEW: (PAYMENTS, transactions_sql.sql("duckdb", PAYMENTS)),
    arrivals_sql.ARRIVALS_VIEW: (PUBLISH_LOG, arrivals_sql.ARRIVALS_SQL),
    arrivals_sql.WATERMARK_VIEW: (PUBLISH_LOG, arrivals_sql.WATERMARK_SQL),
}
_READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
_tracer = trace.get_tracer(__name__)


class QueryError(LakehouseError):
    """The statement is wrong, or is not one that only reads."""


@dataclass(frozen=True)
class Result:
    """Columns and rows of a query, and the snapshot that each table was read at; `offsets` if consistent."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    snapshots: dict[str, int]
    offsets: OffsetVector | None = None


def run_query(
    catalog: RestCatalog,
    properties: Mapping[str, str],
    sql: str,
    moment: Moment = NOW,
    reader: Reader = "duckdb",
    variables: Mapping[str, Any] | None = None,
) -> Result:
    """Run one SELECT (DuckDB's SQL, tables as `schema.table`) on the tables as they were at `moment`.

    Besides the tables there are views: `curated.transactions_now` (the transactions of curated.payments),
    `curated.arrivals` and `curated.watermark` (how late records came). The publish log is always told whole,
    with what only the tables' metadata hold yet.

    Args:
        catalog: tells which snapshot of each table is meant.
        properties: pyiceberg's properties of the same catalog, for DuckDB's own connection.
        reader: who reads the Iceberg tables: DuckDB's extension, or pyiceberg.
        variables: what the statement reads by `getvariable('name')`: values that come from outside.

    Raises:
        QueryError: wrong SQL, no such table, or a statement that does more than read.
        UnknownMoment: a table cannot be read at `moment`.
    """
    with (
        _tracer.start_as_current_span("query", attributes={"reader": reader}),
        duckdb.connect(config={"allow_unsigned_extensions": "true"}) as connection,
    ):
        try:
            connection.execute("SET TimeZone = 'UTC'")
            for name, value in (variables or {}).items():  # names tables too, unlike a statement with `?`
                connection.execute(f'SET VARIABLE "{name}" = ?', [value])
            names = _tables_of(connection, sql)
            views = [name for name in names if name in _OWN_VIEWS]
            read = {_OWN_VIEWS[name][0] if name in views else name for name in names}
            tables = {name: load_table(catalog, name) for name in sorted(read)}
            snapshots, vector = snapshots_at(tables, moment)
            if reader == "duckdb":
                attach(connection, properties)
            for name, table in tables.items():
                source = _SOURCES[reader](connection, table, name, snapshots[name])
                if name == RAW and vector is not None:
                    source = f"(SELECT * FROM {source} WHERE {_below(vector)})"  # noqa: S608
                if name == PUBLISH_LOG and name not in moment.snapshots:
                    connection.register("unlogged", unlogged(catalog, table))
                    source = f"(SELECT * FROM {source} UNION ALL BY NAME SELECT * FROM unlogged)"  # noqa: S608
                _create_view(connection, name, source)
            for name in views:
                _create_view(connection, name, f"({_OWN_VIEWS[name][1]})")
            cursor = connection.execute(sql)
            return Result([c[0] for c in cursor.description], cursor.fetchall(), snapshots, vector)
        except duckdb.Error as error:
            raise QueryError(f"the query failed: {error}", "tables are named schema.table") from None


def load_table(catalog: RestCatalog, name: str) -> Table:
    """Load a table that a query names as `schema.table`; raises QueryError, listing what there is."""
    try:
        table: Table = catalog.load_table(name)
    except NoSuchTableError:
        known = [".".join(t) for space in catalog.list_namespaces() for t in catalog.list_tables(space)]
        listed = ", ".join(sorted([*known, *_OWN_VIEWS]))
        raise QueryError(f"there is no table {name}", f"there are: {listed}") from None
    return table


def attach(connection: duckdb.DuckDBPyConnection, properties: Mapping[str, str]) -> None:
    """Attach the REST catalog, read-only, under the name `lake`."""
    connection.execute("SET autoinstall_known_extensions = false")
    for name in _EXTENSIONS:
        connection.load_extension(_extension_file(name))
    connection.execute(_secret(properties))
    options = ["TYPE iceberg", f"ENDPOINT {_text(properties['uri'])}", "READ_ONLY"]
    if properties.get("rest.sigv4-enabled") == "true":
        options.append("AUTHORIZATION_TYPE 'sigv4'")
    elif "token" in properties:
        connection.execute(f"CREATE SECRET catalog (TYPE iceberg, TOKEN {_text(properties['token'])})")
        options.append("SECRET catalog")
    else:
        options.append("AUTHORIZATION_TYPE 'none'")
    warehouse = _text(properties.get("warehouse", ""))
    connection.execute(f"ATTACH {warehouse} AS {CATALOG_NAME} ({', '.join(options)})")


def _by_duckdb(_: duckdb.DuckDBPyConnection, _table: Table, name: str, snapshot_id: int) -> str:
    return f"{CATALOG_NAME}.{_quoted(name)} AT (VERSION => {snapshot_id})"


def _by_pyiceberg(connection: duckdb.DuckDBPyConnection, table: Table, name: str, snapshot_id: int) -> str:
    held = name.replace(".", "_")
    connection.register(held, table.scan(snapshot_id=snapshot_id).to_arrow())
    return _quoted(held)


def _below(vector: OffsetVector) -> str:
    """Write the condition for records of raw that a vector has consumed."""
    terms = (
        f'(topic_id = {_text(topic_id)} AND partition = {partition} AND "offset" < {end})'
        for topic_id, partition, end in vector
    )
    return " OR ".join(terms) or "false"


def _create_view(connection: duckdb.DuckDBPyConnection, name: str, source: str) -> None:
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(name.split('.')[0])}")
    connection.execute(f"CREATE VIEW {_quoted(name)} AS SELECT * FROM {source}")  # noqa: S608


def _tables_of(connection: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type not in _READING:
        raise QueryError("one SELECT is wanted: `paywave query` only reads", "see `paywave query --help`")
    named = connection.get_table_names(sql, qualified=True)  # one with an alias is `schema.table AS alias`
    return sorted({name for name in (text.partition(" AS ")[0] for text in named) if name.count(".") == 1})


def _secret(properties: Mapping[str, str]) -> str:
    options = ["TYPE s3"]
    if "s3.endpoint" in properties:
        endpoint = urlsplit(properties["s3.endpoint"])
        options += [f"ENDPOINT {_text(endpoint.netloc)}", f"USE_SSL {endpoint.scheme == 'https'}"]
    if "s3.access-key-id" in properties:
        options.append(f"KEY_ID {_text(properties['s3.access-key-id'])}")
        options.append(f"SECRET {_text(properties['s3.secret-access-key'])}")
    else:
        options.append("PROVIDER credential_chain")
    if properties.get("s3.path-style-access") == "true":
        options.append("URL_STYLE 'path'")
    options.append(f"REGION {_text(properties.get('s3.region', 'us-east-1'))}")
    return f"CREATE SECRET store ({', '.join(options)})"


def _extension_file(name: str) -> str:
    """Find the extension in its wheel: nothing is downloaded at run time."""
    folder = importlib.resources.files(f"duckdb_extension_{name}")
    return str(folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension")


def _text(value: str) -> str:
    """Quote a SQL string."""
    return "'" + value.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    """Quote a SQL name, part by part."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


_SOURCES = {"duckdb": _by_duckdb, "pyiceberg": _by_pyiceberg}
