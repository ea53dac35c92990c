"""What goes back to the client: rows, and errors with Snowflake's numbers. Nothing else belongs here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from snowflake.connector.errors import ProgrammingError
from sqlglot import exp

_TYPES = {
    bool: exp.DType.BOOLEAN,
    int: exp.DType.BIGINT,
    float: exp.DType.DOUBLE,
    datetime: exp.DType.TIMESTAMPTZ,
}


class Answer(NamedTuple):
    """The result of a statement; a column's type is that of its first value, text if it has none."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def select(self) -> exp.Query:
        """The same as a SELECT of constants, so that fakesnow sends it and RESULT_SCAN finds it again."""
        types = [_type_of([row[at] for row in self.rows]) for at in range(len(self.columns))]
        selects = [self._constants(row, types) for row in self.rows]
        if not selects:
            return self._constants([None] * len(types), types).where(exp.false())
        query: exp.Query = selects[0]
        for select in selects[1:]:
            query = exp.union(query, select, distinct=False, copy=False)
        return query

    def _constants(self, row: Sequence[Any], types: Sequence[exp.DType]) -> exp.Select:
        named = zip(row, types, self.columns, strict=True)
        return exp.select(
            *(exp.alias_(_constant(value, kind), name, quoted=True) for value, kind, name in named)
        )


def status(text: str) -> Answer:
    """What a statement that only does something says."""
    return Answer(("status",), [(text,)])


def _type_of(values: Sequence[Any]) -> exp.DType:
    value = next((value for value in values if value is not None), "")
    return _TYPES.get(type(value), exp.DType.TEXT)


def _constant(value: Any, kind: exp.DType) -> exp.Expr:
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    # Not by `exp.cast`, which parses the type's name for each value anew.
    return exp.Cast(
        this=exp.null() if value is None else exp.Literal.string(text),
        to=exp.DataType(this=kind, nested=False),
    )


def syntax_error(text: str) -> ProgrammingError:
    """The statement is not one that this stand-in understands."""
    return ProgrammingError(f"SQL compilation error:\n{text}", errno=1003, sqlstate="42000")


def invalid(text: str) -> ProgrammingError:
    """It is understood, and what it asks for cannot be."""
    return ProgrammingError(f"SQL compilation error:\n{text}", errno=2043, sqlstate="02000")


def unsupported(text: str) -> ProgrammingError:
    """Snowflake could do this, the stand-in does not."""
    return ProgrammingError(f"Unsupported feature '{text}' (of the stand-in)", errno=2, sqlstate="0A000")


def missing(kind: str, name: str, state: str = "02000") -> ProgrammingError:
    """There is no such object."""
    text = f"SQL compilation error:\n{kind.capitalize()} '{name}' does not exist or not authorized."
    return ProgrammingError(text, errno=2003, sqlstate=state)


def exists(name: str) -> ProgrammingError:
    """There is such an object already."""
    text = f"SQL compilation error:\nObject '{name}' already exists."
    return ProgrammingError(text, errno=2002, sqlstate="42710")


def not_kept(table: str) -> ProgrammingError:
    """There is no such version of a table, or none from that time."""
    text = f"SQL compilation error:\nTime travel data is not available for table {table}."
    return ProgrammingError(text, errno=707, sqlstate="02000")


def denied(kind: str, name: str) -> ProgrammingError:
    """The role lacks a privilege; Snowflake names the object without its schema."""
    own = name.rpartition(".")[2]
    text = f"SQL access control error:\nInsufficient privileges to operate on {kind.lower()} '{own}'."
    return ProgrammingError(text, errno=3001, sqlstate="42501")


def no_warehouse() -> ProgrammingError:
    """The session has none."""
    text = (
        "No active warehouse selected in the current session.  "
        "Select an active warehouse with the 'use warehouse' command.\n"
    )
    return ProgrammingError(text, errno=606, sqlstate="57P03")


def suspended(name: str) -> ProgrammingError:
    """The session's warehouse is suspended and will not resume by itself."""
    text = (
        f"Warehouse '{name}' is suspended. "
        f"Use 'alter warehouse {name} resume;' command if you need to use it again."
    )
    return ProgrammingError(text, errno=608, sqlstate="57P03")


def exhausted(name: str, monitor: str) -> ProgrammingError:
    """The session's warehouse may not resume: its resource monitor forbids it."""
    text = (
        f"Warehouse '{name}' cannot be resumed because resource monitor '{monitor}' has exceeded its quota."
    )
    return ProgrammingError(text, errno=90073, sqlstate="22000")


def unreachable(integration: str, reason: str) -> ProgrammingError:
    """The catalog behind an integration does not answer as it should."""
    text = (
        f"SQL Execution Error: Failed to access the REST endpoint of catalog integration {integration} "
        f"with error: {reason}. Check the accessibility of the REST catalog URI or warehouse."
    )
    return ProgrammingError(text, errno=4140, sqlstate="XX000")
