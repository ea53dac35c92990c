"""A connection to Snowflake by its own connector: log in, ask, and say in our words what went wrong.

Belongs here: the connector. Does not: any statement but those it is given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import snowflake.connector
from opentelemetry import trace
from snowflake.connector import DictCursor
from snowflake.connector.errors import DatabaseError, Error

from snowflake_external.errors import Denied, Missing, SnowflakeError, Unreachable

_MISSING = frozenset({2003, 2043})
_DENIED = frozenset({3001, 3003})
_NO_WAREHOUSE = frozenset({606, 90073})
_QUOTED = re.compile(r"'[^']*'")
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

    def ask(self, text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Run a statement; rows by lower-case column name. Values go by parameters, never into the text."""
        with _TRACER.start_as_current_span("snowflake.query", attributes={"db.system.name": "snowflake"}):
            try:
                with self._connection.cursor(DictCursor) as cursor:
                    cursor.execute(text, tuple(parameters) or None)
                    return [_lower(row) for row in cursor.fetchall()]
            except Error as error:
                raise translated(error, text, self._login.role) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        self._connection.close()


def translated(error: Error, text: str, role: str | None) -> SnowflakeError:
    """Say what Snowflake refused, of which object, and which grant or setting mends it."""
    said = " ".join(str(error.raw_msg or error).split())
    who = f"role {role}" if role else "the user's default role"
    if not isinstance(error, DatabaseError):
        return Unreachable(f"Snowflake did not answer: {said}", "nothing was lost; try again")
    if error.errno in _NO_WAREHOUSE:
        return Denied(
            f"no warehouse runs for {who}: {said}", "resume it, or grant USAGE ON WAREHOUSE to the role"
        )
    if error.errno in _MISSING:
        return Missing(
            f"{who} finds no such object: {said}",
            "`paywave snowflake plan` says whether it is missing; else the role lacks USAGE on what it is in",
        )
    if error.errno in _DENIED or "nsufficient privileges" in said:
        return Denied(f"{who} may not: {said}", f"grant it what this takes: {_QUOTED.sub('…', text)[:120]}")
    return SnowflakeError(f"Snowflake refused a statement: {said}", f"it was: {_QUOTED.sub('…', text)[:120]}")


def _login_failed(login: Login, error: Error) -> SnowflakeError:
    said = " ".join(str(error.raw_msg or error).split())
    where = login.host or login.account
    # the number is the same for both: only the text tells a refusal from an address where nobody is
    if isinstance(error, DatabaseError) and "Could not connect" not in said:
        return Denied(
            f"{where} refused the login of {login.user}: {said}",
            "see whether the user has this key (DESCRIBE USER … RSA_PUBLIC_KEY_FP) and the role",
        )
    return Unreachable(f"cannot reach {where}: {said}", "see snowflake.account and snowflake.host")


def _lower(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name, value in row.items()}
