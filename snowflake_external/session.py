"""A connection to Snowflake by its own connector: log in, ask, and say in our words what went wrong.

Belongs here: the connector. Does not: any statement but those it is given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import snowflake.connector
from opentelemetry import trace
from snowflake.connector import DictCursor
from snowflake.connector.cursor import SnowflakeCursor
from snowflake.connector.errors import DatabaseError, Error, OperationalError

from snowflake_external.errors import Denied, SnowflakeError, Unreachable
from snowflake_external.refusals import refusal

_TRACER = trace.get_tracer(__name__)


@dataclass(frozen=True)
class Login:
    """Who logs in, and where; times in seconds.

    Args:
        key_file: a private key in PEM, encrypted or not; the service user has its public half.
        password: only for the stand-in: Snowflake itself refuses passwords of service users.
        host: of a stand-in or a private link; Snowflake's own address follows from the account.
    """

    account: str
    user: str
    role: str | None = None
    warehouse: str | None = None
    key_file: Path | None = None
    key_passphrase: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    host: str | None = None
    port: int | None = None
    protocol: str = "https"
    login_s: int = 30
    query_s: int = 120

    def parameters(self) -> dict[str, Any]:
        """What the connector takes. Not for logs."""
        given = {
            "account": self.account,
            "user": self.user,
            "role": self.role,
            "warehouse": self.warehouse,
            "host": self.host,
            "port": self.port,
            "password": self.password,
            # the connector tries again with longer pauses, but no longer than this
            "login_timeout": self.login_s,
            "network_timeout": self.query_s,
        }
        if self.key_file is not None:
            given |= {
                "authenticator": "SNOWFLAKE_JWT",
                "private_key_file": str(self.key_file),
                "private_key_file_pwd": self.key_passphrase,
            }
        if self.host is not None:
            given |= {"protocol": self.protocol}
        return {name: value for name, value in given.items() if value is not None}


class Rows(NamedTuple):
    """The result of a query."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


class Session:
    """One session; a context manager. Whatever it sends carries a tag that says which command sent it.

    Raises Unreachable where Snowflake does not answer, Denied where it refuses the login.
    """

    def __init__(self, login: Login, command: str) -> None:
        self._login = login
        tag = json.dumps({"app": "paywave", "command": command})
        try:
            self._connection = snowflake.connector.connect(
                **login.parameters(), session_parameters={"QUERY_TAG": tag}
            )
        except Error as error:
            raise _login_failed(login, error) from None
        except (OSError, TypeError, ValueError) as error:
            # so the connector lets through what goes wrong as it reads the key
            if login.key_file is None:
                raise
            raise _key_unread(login.key_file, error) from None

    def ask(self, text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Run a statement; rows by lower-case column name. Values go by parameters, never into the text."""
        with self._executed(text, parameters, DictCursor) as cursor:
            return [_lower(row) for row in cursor.fetchall()]

    def fetch(self, text: str) -> Rows:
        """Run a query; its rows in order, and the names of its columns in lower case, which may repeat."""
        with self._executed(text, (), SnowflakeCursor) as cursor:
            columns = [str(column.name).lower() for column in cursor.description]
            return Rows(columns, [tuple(row) for row in cursor.fetchall()])

    @contextmanager
    def _executed(
        self, text: str, parameters: Sequence[Any], kind: type[SnowflakeCursor | DictCursor]
    ) -> Iterator[Any]:
        with _TRACER.start_as_current_span("snowflake.query", attributes={"db.system.name": "snowflake"}):
            try:
                with self._connection.cursor(kind) as cursor:
                    cursor.execute(text, tuple(parameters) or None)
                    yield cursor
            except Error as error:
                raise _translated(error, text, self._login) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        self._connection.close()


def _translated(error: Error, text: str, login: Login) -> SnowflakeError:
    said = " ".join(str(error.raw_msg or error).split())
    if isinstance(error, OperationalError) or not isinstance(error, DatabaseError):
        return Unreachable(f"Snowflake did not answer: {said}", "nothing was lost; try again")
    return refusal(error.errno, said, text, login.role, login.warehouse)


def _login_failed(login: Login, error: Error) -> SnowflakeError:
    said = " ".join(str(error.raw_msg or error).split())
    where = login.host or login.account
    # the number is the same for both: only the text tells a refusal from an address where nobody is
    if isinstance(error, DatabaseError) and "Could not connect" not in said:
        hint = "see whether the user has this key (DESCRIBE USER … RSA_PUBLIC_KEY_FP)"
        if login.role and login.role.lower() in said.lower():
            hint = f"GRANT ROLE {login.role} TO USER {login.user}, or set snowflake.role to one that it has"
        return Denied(f"{where} refused the login of {login.user}: {said}", hint)
    return Unreachable(f"cannot reach {where}: {said}", "see snowflake.account and snowflake.host")


def _key_unread(key_file: Path, error: Exception) -> SnowflakeError:
    return Denied(
        f"the private key in {key_file} cannot be read: {type(error).__name__}",
        "snowflake.private_key_file must name a private key in PEM, snowflake.private_key_passphrase its "
        "passphrase if it is encrypted, and else be left out",
    )


def _lower(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name, value in row.items()}
