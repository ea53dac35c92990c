"""What a CREATE says after the name: properties, and what views, policies and monitors have besides.

Belongs here: reading a definition into an entry. Does not: bringing it into being (`statements.py`).
"""

from __future__ import annotations

from collections.abc import Collection

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from local.snowflake import answers
from local.snowflake.functions import has_ours
from local.snowflake.kinds import Kind
from local.snowflake.registry import Entry
from local.snowflake.words import Name, Words

# A policy or tag as it is named in a definition: its kind and name, the column, the tag's value, its columns.
Hung = tuple[str, Name, str, str, tuple[str, ...]]
_TYPES = ("VARCHAR", "STRING", "NUMBER", "BOOLEAN", "DATE", "TIMESTAMP_LTZ", "TIMESTAMP_NTZ", "VARIANT")
_OF_POLICIES = ("IS_ROLE_IN_SESSION",)  # functions that sqlglot does not know by itself
ACTIONS = ("NOTIFY", "SUSPEND", "SUSPEND_IMMEDIATE")  # of a resource monitor


def read_definition(words: Words, kind: Kind, entry: Entry, secure: bool) -> None:
    """Read what follows the name: properties, and what some kinds have besides."""
    if kind.name == "VIEW":
        _read_view(words, entry, secure)
    elif kind.name.endswith("POLICY"):
        _read_policy(words, entry)
    else:
        follows = kind.name in ("WAREHOUSE", "RESOURCE MONITOR") and words.take("WITH")
        found = words.options(kind.options)
        if follows and not found:
            raise words.wrong()
        entry.options = dict(kind.defaults) | found
    if kind.name == "TAG" and words.take("ALLOWED_VALUES"):
        entry.options["ALLOWED_VALUES"] = [words.text()]
        while words.take(","):
            entry.options["ALLOWED_VALUES"].append(words.text())
        entry.options |= words.options(kind.options)
    if kind.name == "RESOURCE MONITOR" and words.take("TRIGGERS"):
        entry.options |= read_triggers(words)
    if kind.name == "USER":
        entry.options["NAME_"] = entry.name[0]
    if entry.options.get("INITIALLY_SUSPENDED"):
        entry.options["STATE_"] = "SUSPENDED"
    lacking = [key for key in kind.required if key not in entry.options]
    if lacking:
        raise answers.invalid(f"Missing option(s): [{', '.join(lacking)}].")


def read_triggers(words: Words) -> dict[str, str]:
    """Read `ON 80 PERCENT DO NOTIFY …` of a resource monitor: the shares at which each action is taken."""
    found: dict[str, str] = {}
    while words.take("ON"):
        percent = words.number()
        words.need("PERCENT DO")
        action = words.one_of(ACTIONS)
        if not action:
            raise words.wrong()
        found[action] = f"{found[action]},{percent}%" if action in found else f"{percent}%"
    return found


def _read_view(words: Words, entry: Entry, secure: bool) -> None:
    """Read a view: columns, what is hung on them and on it, and the query, which must be one that stays."""
    columns: list[str] = []
    comments: dict[str, str] = {}
    hung: list[Hung] = []
    if words.take("("):
        while not words.take(")"):
            column = words.name()[0]
            columns.append(f'"{column}"')
            hung += _hung(words, column)
            if words.take("COMMENT"):
                comments[column] = words.text()
            if words.peek() != ")":
                words.need(",")
    hung += _hung(words, "")
    for used in (used for *_, names in hung for used in names if f'"{used}"' not in columns):
        raise answers.missing("COLUMN", used)
    copies = words.take("COPY GRANTS")
    entry.options = words.options({"COMMENT": str}) | {"IS_SECURE": "true" if secure else "false"}
    words.need("AS")
    query = _parsed(words.rest())
    if not isinstance(query, exp.Query):
        raise answers.syntax_error("a view is made of one query.")
    if has_ours(query):
        raise answers.unsupported("AT, the session's role and system functions within a view")
    entry.options["TEXT"] = words.sql
    body = query.sql(dialect="snowflake")
    entry.state = {"columns": ", ".join(columns), "body": body, "comments": comments}
    entry.state |= {"hung": hung, "copies_grants": copies}


def _hung(words: Words, column: str) -> list[Hung]:
    """Read the policies and tags of a view, or of one of its columns."""
    found: list[Hung] = []
    while True:
        words.take("WITH")
        if column and words.take("MASKING POLICY"):
            found.append(("MASKING POLICY", words.name(), column, "", ()))
        elif not column and words.take("ROW ACCESS POLICY"):
            policy = words.name()
            words.need("ON")
            found.append(("ROW ACCESS POLICY", policy, "", "", tuple(words.names())))
        elif words.take("TAG"):
            words.need("(")
            while not words.take(")"):
                tag = words.name()
                words.need("=")
                found.append(("TAG", tag, column, words.text(), ()))
                words.take(",")
        else:
            return found


def _parsed(sql: str) -> exp.Expr:
    try:
        return sqlglot.parse_one(sql, read="snowflake")
    except SqlglotError as error:
        raise answers.syntax_error(str(error).splitlines()[0]) from None


def _read_policy(words: Words, entry: Entry) -> None:
    """Read `AS (argument type, …) RETURNS type -> body [COMMENT = '…']`; the body must be Snowflake's SQL."""
    words.need("AS")
    start = words.at
    words.need("(")
    arguments = {words.name()[0]: _type(words)}
    while words.take(","):
        arguments[words.name()[0]] = _type(words)
    words.need(")")
    signature = words.between(start, words.at)
    words.need("RETURNS")
    returns = _type(words)
    expected = next(iter(arguments.values())) if entry.kind == "MASKING POLICY" else "BOOLEAN"
    if returns != expected:
        raise answers.invalid(f"{entry.kind.capitalize()} {entry.full_name} has to return {expected}.")
    words.need("->")
    body, last = words.at, max(words.at, len(words.tokens) - 3)
    words.at = last
    if words.peek() == "COMMENT" and words.peek(1) == "=":
        entry.options |= words.options({"COMMENT": str})
    else:
        last = len(words.tokens)
        words.rest()
    entry.state = {"signature": signature, "arguments": list(arguments), "returns": returns}
    entry.state["body"] = checked_body(words.between(body, last), arguments)


def _type(words: Words) -> str:
    found = words.one_of(_TYPES)
    if not found:
        raise words.wrong()
    return found


def checked_body(body: str, arguments: Collection[str]) -> str:
    """The same; an error if a policy's body is no expression, or needs what is neither given nor known."""
    query = _parsed(f"SELECT {body}")
    if not isinstance(query, exp.Select) or len(query.expressions) != 1 or query.find(exp.Table):
        raise answers.syntax_error("a policy's body is one expression.")
    for column in query.find_all(exp.Column):
        if column.name.upper() not in arguments:
            raise answers.missing("COLUMN", column.name.upper())
    for call in query.find_all(exp.Anonymous):
        if call.name.upper() not in _OF_POLICIES:
            raise answers.invalid(f"Unknown function {call.name.upper()}.")
    return body
