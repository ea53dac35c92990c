"""Snowflake's functions and clauses within a query that fakesnow lacks: status, history, references, AT.

Belongs here: finding them in a parsed query and putting constants or other tables in their place.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import sqlglot
from snowflake.connector.errors import ProgrammingError
from sqlglot import exp

from local.snowflake import answers
from local.snowflake.account import Account, Session
from local.snowflake.answers import Answer
from local.snowflake.kinds import ALIASES
from local.snowflake.refresh import AUTOMATED, status_of
from local.snowflake.registry import Attached, Entry
from local.snowflake.versions import refs, snapshot_of
from local.snowflake.words import Name, Words

_Arguments = dict[str, str]
_HISTORY = (
    *("REFRESHED_ON", "METADATA_FILE_NAME", "SNAPSHOT_ID", "SEQUENCE_NUMBER", "ICEBERG_SCHEMA_ID"),
    *("QUERY_ID", "IS_CURRENT_SNAPSHOT", "SNAPSHOT_SUMMARY"),
)
_POLICIES = (
    *("POLICY_DB", "POLICY_SCHEMA", "POLICY_NAME", "POLICY_KIND", "REF_DATABASE_NAME", "REF_SCHEMA_NAME"),
    *("REF_ENTITY_NAME", "REF_ENTITY_DOMAIN", "REF_COLUMN_NAME", "REF_ARG_COLUMN_NAMES", "TAG_DATABASE"),
    *("TAG_SCHEMA", "TAG_NAME", "POLICY_STATUS"),
)
_TAGS = (
    *("TAG_DATABASE", "TAG_SCHEMA", "TAG_NAME", "TAG_VALUE", "APPLY_METHOD", "LEVEL", "OBJECT_DATABASE"),
    *("OBJECT_SCHEMA", "OBJECT_NAME", "DOMAIN", "COLUMN_NAME"),
)
_OF_FAKESNOW = ("RESULT_SCAN", "SPLIT_TO_TABLE")
_SESSION: dict[type[exp.Expr], str] = {
    exp.CurrentRole: "role",
    exp.CurrentWarehouse: "warehouse",
    exp.CurrentUser: "user",
}


def rewritten(query: exp.Expr, account: Account, session: Session) -> exp.Expr:
    """The query with everything of ours in it replaced; it is checked that it may be run."""
    named = {cte.alias_or_name.upper() for cte in query.find_all(exp.CTE)}
    relations = [
        one for one in query.find_all(exp.Table) if one.name.upper() not in named or one.args.get("db")
    ]
    for table in relations:
        _relation(table, account, session)
    if relations or any(_calls(rows) & _TABLES.keys() for rows in query.find_all(exp.TableFromRows)):
        account.need_warehouse(session)  # SYSTEM$ functions alone take none
    return query.transform(_replaced, account, session)


def has_ours(query: exp.Expr) -> bool:
    """Whether anything in it depends on the moment or the session, so that it cannot stand in a view."""
    historical = any(table.args.get("when") for table in query.find_all(exp.Table))
    return historical or bool(_calls(query) & {*_SCALARS, *_TABLES}) or query.find(*_SESSION) is not None


def _calls(expression: exp.Expr) -> set[str]:
    return {one.name.upper() for one in expression.find_all(exp.Anonymous)}


def _relation(table: exp.Table, account: Account, session: Session) -> None:
    """Check that a table is ours and may be read; AT an older snapshot it becomes that snapshot's.

    DuckDB would take more for a table: its own functions, and the name of any file.
    """
    if not all(isinstance(part, exp.Identifier) for part in table.parts):
        raise answers.unsupported(f"reading {table.sql(dialect='snowflake')}")
    name = tuple(part.name if part.args.get("quoted") else part.name.upper() for part in table.parts)
    if name[-2:-1] == ("INFORMATION_SCHEMA",):
        raise answers.unsupported("reading INFORMATION_SCHEMA, but for its table functions")
    entry, when = account.need_relation(name, session), table.args.get("when")
    if when is None:
        _limit(table, entry, account, session)
        return
    if entry.kind != "ICEBERG TABLE":
        raise answers.unsupported("AT or BEFORE on anything but an Iceberg table")
    older = account.refresher.version(entry, snapshot_of(entry, when, account))
    alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name))
    table.replace(_table(older, alias))


def _limit(table: exp.Table, entry: Entry, account: Account, session: Session) -> None:
    """Show of a view only the rows that its row access policy lets through to the session's roles."""
    on = ("ROW ACCESS POLICY", entry.kind, entry.name)
    hung = next((one for one in account.registry.attached if (one.kind, one.on_kind, one.on) == on), None)
    if hung is None:
        return
    policy = account.registry.need(hung.kind, hung.what).state
    columns = dict(zip(policy["arguments"], hung.columns, strict=True))
    roles = [exp.convert(role) for (role,) in sorted(account.roles(session))]

    def meant(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column):
            return exp.column(columns[node.name.upper()], quoted=True)
        if isinstance(node, exp.Anonymous):  # IS_ROLE_IN_SESSION, as `checked_body` lets no other through
            return exp.In(this=node.expressions[0], expressions=roles)
        return node

    shown = sqlglot.parse_one(policy["body"], read="snowflake").transform(meant)
    alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name))
    whole = exp.select("*").from_(_table(entry.name, None))
    table.replace(exp.Subquery(this=whole.where(shown), alias=alias))


def _table(name: Name, alias: exp.Expr | None) -> exp.Table:
    catalog, db, this = (exp.to_identifier(part, quoted=True) for part in name)
    return exp.Table(catalog=catalog, db=db, this=this, alias=alias)


def _replaced(node: exp.Expr, account: Account, session: Session) -> exp.Expr:
    if type(node) in _SESSION:
        return exp.cast(exp.convert(getattr(session, _SESSION[type(node)])), "TEXT")
    if isinstance(node, exp.Anonymous) and node.name.upper() in _SCALARS:
        value = _SCALARS[node.name.upper()](_arguments(node), account, session)
        return exp.cast(exp.convert(value), "TEXT")
    if isinstance(node, exp.TableFromRows):
        call = node.find(exp.Anonymous)
        if call is not None and call.name.upper() in _TABLES:
            rows = _TABLES[call.name.upper()](_arguments(call), account, session)
            held = account.engine.hold(rows, f"{call.name.upper()} {id(session)}")
            return _table(held, node.args.get("alias"))
        if call is not None and call.name.upper() not in _OF_FAKESNOW:
            raise answers.unsupported(f"the table function {call.name}")
    return node


def _arguments(call: exp.Anonymous) -> _Arguments:
    """The arguments by name, or by position; they must be constants."""
    found = {}
    for at, given in enumerate(call.expressions):
        key, value = (given.this.name, given.expression) if isinstance(given, exp.Kwarg) else (str(at), given)
        if not isinstance(value, exp.Literal):
            raise answers.unsupported(f"{call.name} of anything but a constant")
        found[key.upper()] = str(value.this)
    return found


def _argument(arguments: _Arguments, *keys: str) -> str:
    found = next((arguments[key] for key in keys if key in arguments), None)
    if found is None:
        raise answers.invalid(f"Missing argument {keys[0]}.")
    return found


def _status(arguments: _Arguments, account: Account, session: Session) -> str | None:
    return status_of(account.named("ICEBERG TABLE", _argument(arguments, "0"), session))


def _verify(arguments: _Arguments, account: Account, session: Session) -> str:
    try:
        account.catalogs.verify(account.named("CATALOG INTEGRATION", _argument(arguments, "0"), session))
    except ProgrammingError as error:
        said = {"success": False, "errorCode": f"{error.errno:06d}", "errorMessage": error.raw_msg}
        return json.dumps(said)
    return json.dumps({"success": True, "errorCode": "", "errorMessage": ""})


def _link(arguments: _Arguments, account: Account, session: Session) -> str:
    database = account.named("DATABASE", _argument(arguments, "0"), session)
    if "LINKED_CATALOG" not in database.options:
        raise answers.invalid(f"Database {database.full_name} is not a catalog-linked database.")
    link = {key.lower(): value for key, value in database.options["LINKED_CATALOG"].items()}
    said = {
        "catalog_integration": link.pop("catalog"),
        "external_volume": database.options["EXTERNAL_VOLUME"],
    }
    case = database.options.get("CATALOG_CASE_SENSITIVITY", "CASE_INSENSITIVE")
    return json.dumps({**said, "catalog_case_sensitivity": case, "allowed_namespaces": None, **link})


def _history(arguments: _Arguments, account: Account, session: Session) -> Answer:
    entry = account.named("ICEBERG TABLE", _argument(arguments, "TABLE_NAME"), session)
    rows = [
        (
            datetime.fromisoformat(row["refreshed_on"]),
            *(row[key] for key in ("metadata", "snapshot", "sequence", "schema")),
            AUTOMATED if row["by"] == AUTOMATED else row["by"],
            row["snapshot"] is not None and row["snapshot"] == str(entry.state["snapshot"]),
            row["summary"],
        )
        for row in reversed(entry.state.get("history", []))
    ]
    return Answer(_HISTORY, rows)


def _refs(arguments: _Arguments, account: Account, session: Session) -> Answer:
    return refs(account.named("ICEBERG TABLE", _argument(arguments, "0"), session), account)


def _policies(arguments: _Arguments, account: Account, session: Session) -> Answer:
    found = [one for one in account.registry.attached if one.kind != "TAG"]
    if "POLICY_NAME" in arguments:
        what = account.full("MASKING POLICY", Words(arguments["POLICY_NAME"]).name(), session)
        found = [one for one in found if one.what == what]
    else:
        name = account.full(
            "VIEW", Words(_argument(arguments, "REF_ENTITY_NAME", "POLICY_NAME")).name(), session
        )
        found = [one for one in found if one.on == name]
    return Answer(_POLICIES, [_policy(one) for one in found])


def _policy(one: Attached) -> tuple[Any, ...]:
    kind, columns = one.kind.replace(" ", "_"), json.dumps(one.columns) if one.columns else None
    return (*one.what, kind, *one.on, _domain(one), one.column or None, columns, None, None, None, "ACTIVE")


def _tags(arguments: _Arguments, account: Account, session: Session) -> Answer:
    kind = ALIASES.get(_argument(arguments, "1", "OBJECT_DOMAIN").upper(), "")
    if not kind or kind == "VIEW":  # which goes by TABLE here
        raise answers.invalid(f"Invalid object domain {arguments.get('1')}.")
    name = account.full(kind, Words(_argument(arguments, "0", "OBJECT_NAME")).name(), session)
    found = [one for one in account.registry.attached if (one.kind, one.on) == ("TAG", name)]
    rows = []
    for one in found:
        level = "COLUMN" if one.column else _domain(one)
        inside = (*(None,) * (3 - len(one.on)), *one.on)
        rows.append((*one.what, one.value, "MANUAL", level, *inside, level, one.column or None))
    return Answer(_TAGS, rows)


def _domain(one: Attached) -> str:
    return "TABLE" if one.on_kind == "ICEBERG TABLE" else one.on_kind


_SCALARS: dict[str, Callable[[_Arguments, Account, Session], str | None]] = {
    "SYSTEM$AUTO_REFRESH_STATUS": _status,
    "SYSTEM$VERIFY_CATALOG_INTEGRATION": _verify,
    "SYSTEM$GET_CATALOG_LINKED_DATABASE_CONFIG": _link,
}
_TABLES: dict[str, Callable[[_Arguments, Account, Session], Answer]] = {
    "ICEBERG_TABLE_SNAPSHOT_REFRESH_HISTORY": _history,
    "GET_TABLE_VERSION_REFS": _refs,
    "POLICY_REFERENCES": _policies,
    "TAG_REFERENCES": _tags,
}
