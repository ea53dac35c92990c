"""Where our statements come in: a connection of fakesnow whose cursors ask us first.

Belongs here: what is ours, what fakesnow may judge, what is refused. Does not: HTTP (`server.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import duckdb
import sqlglot
from fakesnow.conn import FakeSnowflakeConnection
from fakesnow.cursor import FakeSnowflakeCursor
from snowflake.connector.errors import Error, ProgrammingError
from sqlglot import exp

from local.snowflake import answers
from local.snowflake.account import Account, Session
from local.snowflake.functions import rewritten
from local.snowflake.statements import taken
from local.snowflake.words import Words

_log = logging.getLogger("local.snowflake")
# What fakesnow carries out in full: queries, and what a session says of transactions. All else is refused.
_LEFT_TO_FAKESNOW = (exp.Query, exp.Commit, exp.Rollback, exp.Transaction)
_SETTINGS = ("AUTOCOMMIT", "QUOTED_IDENTIFIERS_IGNORE_CASE")


class Connection(FakeSnowflakeConnection):
    """One login: fakesnow's connection and what this session has chosen."""

    def __init__(self, account: Account, session: Session, autocommit: bool) -> None:
        results: dict[str, tuple[Any, ...]] = {}
        super().__init__(
            account.engine.connection.cursor(),
            results,
            session.database,
            session.schema,
            create_database=False,
            create_schema=False,
            autocommit=autocommit,
        )
        self.account, self.session = account, session
        self.follow()

    def follow(self) -> None:
        """Let fakesnow's database and schema be the session's."""
        chosen = (self.session.database, self.session.schema)
        if None not in chosen and self.account.registry.find("SCHEMA", (chosen[0] or "", chosen[1] or "")):
            self._duck_conn.execute(f"SET schema = '{chosen[0]}.{chosen[1]}'")
            self.database, self._schema = chosen
            self.database_set = self.schema_set = True

    def cursor(self, *_: Any) -> Cursor:  # type: ignore[override]
        """Make a cursor that asks us first."""
        return Cursor(self, self._duck_conn)


class Cursor(FakeSnowflakeCursor):
    """Takes our statements, refuses what nobody understands, hands the rest to fakesnow."""

    _conn: Connection

    def execute(self, command: str, params: Any = None, *args: Any, **kwargs: Any) -> Cursor:
        """Run one statement; raises what Snowflake would, and says so of anything it cannot do."""
        try:
            self._run(command, params, args, kwargs)
        except Error:
            raise
        except (duckdb.Error, NotImplementedError, ValueError) as error:
            text = f"The stand-in cannot run this: {error}"
            raise ProgrammingError(text, errno=603, sqlstate="XX000") from error
        return self

    def _describe_only(self, command: str) -> list[Any] | None:
        """Describe a query without running it; of other statements fakesnow would run them for that."""
        if not isinstance(_parsed(command), exp.Query):
            raise answers.unsupported("describing anything but a query")
        described: list[Any] | None = super()._describe_only(command)
        return described

    def _run(self, command: str, params: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        account, session = self._conn.account, self._conn.session
        describing = command.startswith("DESCRIBE SELECT")  # fakesnow's own, of a query without running it
        answer = None if describing else taken(command, account, session)
        _log.info("%s %s%s", session.user, f"[{session.tag}] " if session.tag else "", Words(command).peek())
        if answer is not None:
            self._conn.follow()
            self._execute(answer.select(), None)
            return
        query = _parsed(command.removeprefix("DESCRIBE ") if describing else command)
        _check(query)
        if isinstance(query, exp.Query):
            text = rewritten(query, account, session).sql(dialect="snowflake")
            command = f"DESCRIBE {text}" if describing else text
        super().execute(command, params, *args, **kwargs)


def _parsed(sql: str) -> exp.Expression:
    try:
        return sqlglot.parse_one(_with_tags(sql), read="snowflake")
    except sqlglot.errors.SqlglotError as error:
        plain = str(error).replace("\x1b[4m", "").replace("\x1b[0m", "")
        raise answers.syntax_error(plain.splitlines()[0] if plain else "syntax error") from None


def _with_tags(sql: str) -> str:
    """sqlglot does not know VERSION_TAG; a version that is a string is one."""
    words = Words(sql)
    for at, token in reversed(list(enumerate(words.tokens))):
        if token.text.upper() == "VERSION_TAG" and token.kind == "word" and words.peek(at + 1) == "=>":
            sql = f"{words.sql[: token.start]}VERSION{words.sql[token.start + len(token.text) :]}"
            words = Words(sql)
    return sql


def _check(statement: exp.Expression) -> None:
    """Refuse what neither we nor fakesnow carry out: sqlglot nods at much that it does not understand."""
    if isinstance(statement, _LEFT_TO_FAKESNOW):
        return
    settings = statement.find(exp.AlterSession)
    if settings and all(one.find(exp.Identifier).name.upper() in _SETTINGS for one in settings.expressions):
        return
    first = statement.sql(dialect="snowflake").split(maxsplit=1)[0]
    if isinstance(statement, exp.DML):
        raise answers.unsupported(f"{first}: the stand-in keeps no rows of its own")
    raise answers.syntax_error(f"syntax error line 1 at position 0 unexpected '{first}'.")
