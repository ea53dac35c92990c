"""Where our statements come in: a connection of fakesnow whose cursors ask us first.

Belongs here: what is ours, what fakesnow may judge, what is refused. Does not: HTTP (`server.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import duckdb
import sqlglot
from fakesnow import transforms
from fakesnow.conn import FakeSnowflakeConnection
from fakesnow.cursor import FakeSnowflakeCursor
from snowflake.connector.errors import Error, ProgrammingError
from sqlglot import exp

from local.snowflake import answers
from local.snowflake.account import Account, Session
from local.snowflake.engine import quoted, text
from local.snowflake.functions import rewritten
from local.snowflake.statements import taken
from local.snowflake.words import Words

_log = logging.getLogger("local.snowflake")
# What fakesnow carries out besides queries: the connector says it by itself. All else is refused.
_LEFT_TO_FAKESNOW = (exp.Commit, exp.Rollback)
_SETTINGS = {"AUTOCOMMIT"}
# It warns of what it does not understand; that is refused, or was ours.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


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
            name = quoted((chosen[0] or "", chosen[1] or ""))
            self._duck_conn.execute(f"SET schema = {text(name)}")
            self.database, self._schema = chosen
            self.database_set = self.schema_set = True

    def cursor(self, *_: Any) -> Cursor:
        """Make a cursor that asks us first."""
        return Cursor(self, self._duck_conn)


class Cursor(FakeSnowflakeCursor):
    """Takes our statements, refuses what nobody understands, hands the rest to fakesnow."""

    _conn: Connection
    is_query = False

    def execute(self, command: str, params: Any = None, *args: Any, **kwargs: Any) -> Cursor:
        """Run one statement; raises what Snowflake would, and says so of anything it cannot do."""
        try:
            self._run(command, params, args, kwargs)
        except Error:
            raise
        except (duckdb.Error, NotImplementedError, ValueError) as error:
            said = f"The stand-in cannot run this: {error}"
            raise ProgrammingError(said, errno=603, sqlstate="XX000") from error
        # fakesnow keeps every result by its id, which nobody asks for, and DuckDB reserves a million rows in
        # each: gigabytes of addresses after some hundred statements.
        self._conn.results_cache.clear()
        return self

    def describe_only(self, command: str) -> None:
        """Find the columns of a query without its rows; other statements would have to be carried out."""
        query = _parsed(command)
        if not isinstance(query, exp.Query):
            raise answers.unsupported("describing anything but a query")
        self.execute(exp.select("*").from_(query.subquery("described")).limit(0).sql(dialect="snowflake"))

    @property
    def arrow(self) -> Any:
        """The rows of the last statement, as an Arrow table."""
        return self._arrow_table

    def _run(self, command: str, params: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        account, session = self._conn.account, self._conn.session
        verb, tag = Words(command).peek(), f"[{session.tag}] " if session.tag else ""
        _log.info("%s %s%s", session.user, tag, verb)
        answer = taken(command, account, session)
        if answer is not None:
            self._conn.follow()
            self._execute(answer.select(), None)
            return
        statement = _parsed(command)
        self.is_query = isinstance(statement, exp.Query)
        if self.is_query:
            command = rewritten(statement, account, session).sql(dialect="snowflake")
        else:
            _check(statement)
        super().execute(command, params, *args, **kwargs)


def _parsed(sql: str) -> exp.Expr:
    try:
        return sqlglot.parse_one(sql, read="snowflake")
    except sqlglot.errors.SqlglotError as error:
        plain = str(error).replace("\x1b[4m", "").replace("\x1b[0m", "")
        raise answers.syntax_error(plain.splitlines()[0] if plain else "syntax error") from None


def _check(statement: exp.Expr) -> None:
    """Refuse what neither we nor fakesnow carry out: sqlglot nods at much that it does not understand."""
    settings = statement.find(exp.AlterSession)
    named = {one.name.upper() for one in settings.find_all(exp.Identifier)} if settings else {""}
    if isinstance(statement, _LEFT_TO_FAKESNOW) or _SETTINGS.issuperset(named):
        return
    first = statement.sql(dialect="snowflake").split(maxsplit=1)[0]
    if isinstance(statement, (exp.DML, exp.Transaction)):
        raise answers.unsupported(f"{first}, as it keeps no rows of its own")
    raise answers.syntax_error(f"syntax error line 1 at position 0 unexpected '{first}'.")


def _exact(expression: exp.Expr) -> exp.Expr:
    """fakesnow lets every SUM be of floats, for columns that may be text. Sums of money must be exact."""
    argument = expression.args.get("this")
    done = _with_casts(expression)
    for one in done.find_all(type(expression)):
        cast = one.args.get("this")
        if isinstance(cast, exp.TryCast) and cast is not argument and cast.this == argument:
            one.set("this", cast.this)
    return done


_with_casts, transforms.numeric_agg_implicit_cast = transforms.numeric_agg_implicit_cast, _exact
