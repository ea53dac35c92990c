"""DuckDB under fakesnow: databases, schemas, views, and Iceberg tables at one snapshot.

Belongs here: what DuckDB is told. Does not: when a table is refreshed (`refresh.py`), Snowflake's words.
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Mapping
from pathlib import Path
from threading import RLock
from urllib.parse import urlsplit

import duckdb
from fakesnow import info_schema
from fakesnow.conn import FakeSnowflakeConnection
from fakesnow.instance import GLOBAL_DATABASE_NAME
from fakesnow.transforms import show

from local.snowflake import answers
from local.snowflake.answers import Answer
from local.snowflake.words import Name

# Extensions, secret and quoting are as in lakehouse/query.py: no room may be imported by both, and one for
# thirty lines would be more to keep.
_EXTENSIONS = ("avro", "httpfs", "iceberg")  # iceberg needs the other two loaded first
# fakesnow writes a database's name into its SQL as it is.
_SAFE_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_OWN = "_STAND_IN"  # a database for what has no name in Snowflake
_NESTED = ("[]", "STRUCT(", "MAP(")


class Engine:
    """One DuckDB in memory; all of it can be made again from the registry and the metadata files."""

    def __init__(self, s3: Mapping[str, str]) -> None:
        self.connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
        self._lock = RLock()
        self.connection.execute("SET autoinstall_known_extensions = false")
        for name in _EXTENSIONS:
            self.connection.load_extension(_extension_file(name))
        self.connection.execute("SET GLOBAL TimeZone = 'UTC'")
        for database in (GLOBAL_DATABASE_NAME, _OWN):
            self.connection.execute(f"ATTACH ':memory:' AS {database}")
        self.connection.execute(info_schema.fs_global_creation_sql())
        self.connection.execute(show.fs_global_creation_sql())
        self.tell_store(s3)

    def tell_store(self, s3: Mapping[str, str]) -> None:
        """Say where the object store is, and the keys; Snowflake's external volume has a role for that."""
        self._run(_secret(s3))

    def create_database(self, name: str) -> None:
        """Make a database with the schema PUBLIC, as Snowflake does."""
        if not _SAFE_NAME.fullmatch(name):
            raise answers.unsupported(f"a database named {name}")
        with self._lock:
            FakeSnowflakeConnection(self.connection.cursor(), {}, name, "PUBLIC").close()

    def create_schema(self, name: Name) -> None:
        """Make a schema, if there is none."""
        self._run(f"CREATE SCHEMA IF NOT EXISTS {quoted(name)}")

    def create_view(self, name: Name, columns: str, body: str) -> None:
        """Make a view of Snowflake SQL; names in it without a schema are of the view's own."""
        with self._lock:
            database, schema, _ = name
            inside = FakeSnowflakeConnection(self.connection.cursor(), {}, database, schema)
            listed = f" ({columns})" if columns else ""
            inside.cursor().execute(f"CREATE OR REPLACE VIEW {quoted(name)}{listed} AS {body}")
            inside.close()

    def show_table(self, name: Name, metadata: Path) -> None:
        """Let the table be what its metadata file says: the columns of now, which a snapshot may not have."""
        self._run(f"CREATE OR REPLACE VIEW {quoted(name)} AS {self._scan(metadata)}")

    def show_version(self, name: Name, metadata: Path, snapshot: int) -> Name:
        """The name under which an older snapshot of a table can be read."""
        known = (_OWN, "main", f"{'.'.join(name)}@{snapshot}")
        self._run(f"CREATE OR REPLACE VIEW {quoted(known)} AS {self._scan(metadata, snapshot)}")
        return known

    def hold(self, answer: Answer, key: str) -> Name:
        """The name under which an answer can be selected from: fakesnow is slow at many constants."""
        known = (_OWN, "main", key)
        self._run(f"CREATE OR REPLACE TABLE {quoted(known)} AS {answer.select().sql(dialect='duckdb')}")
        return known

    def drop(self, kind: str, name: Name) -> None:
        """Remove a database, a schema or a view, with all that is in it."""
        if kind == "DATABASE":
            self._run(f"DETACH DATABASE IF EXISTS {quoted(name)}")
        elif kind == "SCHEMA":
            self._run(f"DROP SCHEMA IF EXISTS {quoted(name)} CASCADE")
        elif kind in ("VIEW", "ICEBERG TABLE"):
            self._run(f"DROP VIEW IF EXISTS {quoted(name)}")

    def columns(self, name: Name) -> list[tuple[str, str]]:
        """Names and DuckDB types of what can be selected from."""
        with self._lock:
            found = self.connection.execute(f"DESCRIBE {quoted(name)}").fetchall()
        return [(str(row[0]), str(row[1])) for row in found]

    def _scan(self, metadata: Path, snapshot: int | None = None) -> str:
        """Write the SELECT of a snapshot: names in capitals, nested values as JSON, as fakesnow has them."""
        pinned = f", snapshot_from_id => {snapshot}" if snapshot is not None else ""
        source = f"iceberg_scan({text(str(metadata))}{pinned})"
        with self._lock:
            found = self.connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()  # noqa: S608
        columns = ", ".join(f'{_value(row[0], row[1])} AS "{row[0].upper()}"' for row in found)
        return f"SELECT {columns} FROM {source}"  # noqa: S608

    def _run(self, sql: str) -> None:
        with self._lock:
            self.connection.execute(sql)


def _value(name: str, kind: str) -> str:
    if any(mark in kind for mark in _NESTED):
        return f"to_json({quoted((name,))})"
    other = {"FLOAT": "DOUBLE", "UUID": "VARCHAR"}.get(kind)
    return f"CAST({quoted((name,))} AS {other})" if other else quoted((name,))


def _secret(s3: Mapping[str, str]) -> str:
    options = ["TYPE s3", f"REGION {text(s3.get('s3.region', 'us-east-1'))}"]
    if "s3.endpoint" in s3:
        endpoint = urlsplit(s3["s3.endpoint"])
        options += [f"ENDPOINT {text(endpoint.netloc)}", f"USE_SSL {endpoint.scheme == 'https'}"]
    if "s3.access-key-id" in s3:
        options += [f"KEY_ID {text(s3['s3.access-key-id'])}", f"SECRET {text(s3['s3.secret-access-key'])}"]
    if s3.get("s3.path-style-access") == "true":
        options.append("URL_STYLE 'path'")
    return f"CREATE OR REPLACE SECRET store ({', '.join(options)})"


def _extension_file(name: str) -> str:
    folder = importlib.resources.files(f"duckdb_extension_{name}")
    return str(folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension")


def text(value: str) -> str:
    """Quote a SQL string."""
    return "'" + value.replace("'", "''") + "'"


def quoted(name: Name) -> str:
    """Quote a SQL name, part by part."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name)
