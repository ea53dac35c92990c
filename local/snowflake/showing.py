"""SHOW and DESCRIBE: the account read back, with Snowflake's columns. Changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from local.snowflake import answers
from local.snowflake.account import Account, Session
from local.snowflake.answers import Answer
from local.snowflake.kinds import ALIASES, KINDS, SECRETS, SHOWN, Kind
from local.snowflake.refresh import status_of
from local.snowflake.registry import Entry, Grant
from local.snowflake.words import Name, Words

_GRANTS = (
    *("created_on", "privilege", "granted_on", "name", "granted_to", "grantee_name", "grant_option"),
    "granted_by",
)
_FUTURE = ("created_on", "privilege", "grant_on", "name", "grant_to", "grantee_name", "grant_option")
_PROPERTY = ("property", "property_type", "property_value", "property_default")
_POLICY = ("name", "signature", "return_type", "body")


def show(words: Words, account: Account, session: Session) -> Answer:
    """`SHOW kind [LIKE '…'] [IN …]`, and `SHOW GRANTS`."""
    if words.take("GRANTS"):
        return _show_grants(words, account, session)
    if words.take("FUTURE GRANTS"):
        return _show_future(words, account, session)
    shown = words.one_of(SHOWN)
    if not shown:
        raise words.wrong()
    kind = SHOWN[shown]
    like = words.text() if words.take("LIKE") else "%"
    within = _scope(words, account, session) if words.take("IN") else _here(kind, session)
    words.end()
    pattern = re.compile("".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in like), re.IGNORECASE)
    found = [one for one in account.registry.of_kind(kind.name, within) if pattern.fullmatch(one.name[-1])]
    return Answer(
        [column.partition("=")[0].partition(":")[0] for column in kind.columns.split()],
        [_row(kind, one, account) for one in found],
    )


def _here(kind: Kind, session: Session) -> Name:
    """Without a scope the session's own database or schema is meant, where it has one."""
    within = (session.database, session.schema)[: kind.parts - 1]
    return tuple(part for part in within if part) if None not in within else ()


def _scope(words: Words, account: Account, session: Session) -> Name:
    if words.take("ACCOUNT"):
        return ()
    kind = words.one_of(("DATABASE", "SCHEMA"))
    if words.at >= len(words.tokens) and kind:
        return _here(KINDS["SCHEMA" if kind == "DATABASE" else "VIEW"], session)
    name = words.name()
    kind = kind or ("SCHEMA" if len(name) == 2 else "DATABASE")
    return account.need(kind, name, session).name


def _row(kind: Kind, entry: Entry, account: Account) -> list[Any]:
    return [_cell(column, entry, account) for column in kind.columns.split()]


def _cell(column: str, entry: Entry, account: Account) -> Any:
    name, _, fixed = column.partition(":")
    if fixed:
        return fixed
    name, _, option = name.partition("=")
    special = _SPECIAL.get(name)
    if special and not option:
        return special(entry, account)
    return _text(entry.options.get(option or name.upper()))


_SPECIAL: dict[str, Callable[[Entry, Account], Any]] = {
    "created_on": lambda entry, _: entry.created_on,
    "name": lambda entry, _: entry.name[-1],
    "database_name": lambda entry, _: entry.name[0],
    "schema_name": lambda entry, _: entry.name[1],
    "owner": lambda entry, _: entry.owner,
    "owner_role_type": lambda *_: "ROLE",
    "kind": lambda entry, _: "CATALOG-LINKED" if "LINKED_CATALOG" in entry.options else "STANDARD",
    "comment": lambda entry, _: entry.options.get("COMMENT", ""),
    "auto_refresh_status": lambda entry, _: status_of(entry),
    "has_rsa_public_key": lambda entry, _: "true" if "RSA_PUBLIC_KEY" in entry.options else "false",
    "level": lambda entry, account: "WAREHOUSE" if _watched(entry, account) else None,
    "used_credits": lambda entry, account: _used(entry, account),
}


def _watched(entry: Entry, account: Account) -> list[Entry]:
    houses = account.registry.of_kind("WAREHOUSE")
    return [one for one in houses if one.options.get("RESOURCE_MONITOR") == entry.full_name]


def _used(entry: Entry, account: Account) -> str:
    """Nothing is counted here: all credits are used where trouble has the monitor suspend a warehouse."""
    trouble = account.trouble
    struck = any(trouble.meets("suspended", one.full_name) for one in _watched(entry, account))
    return f"{entry.options.get('CREDIT_QUOTA') or 0 if struck else 0:.2f}"


def _show_grants(words: Words, account: Account, session: Session) -> Answer:
    """`SHOW GRANTS ON kind name`, `SHOW GRANTS TO ROLE name`."""
    to = words.take("TO")
    if not to:
        words.need("ON")
    kind, name = "ACCOUNT", Name()
    if to or not words.take("ACCOUNT"):
        kind = ALIASES.get(words.one_of(ALIASES), "")
        if not kind or (to and kind not in ("ROLE", "USER")):
            raise words.wrong()
        name = account.need(kind, words.name(), session).name
    words.end()
    side, mine = "to" if to else "on", (kind, name)
    found = [x for x in account.registry.grants if (getattr(x, f"{side}_kind"), getattr(x, side)) == mine]
    owned = [_ownership(one) for one in account.registry.entries if _owns(one, mine, to)]
    return Answer(_GRANTS, [_grant(one) for one in [*owned, *found]])


def _show_future(words: Words, account: Account, session: Session) -> Answer:
    """There are none, as none can be made here."""
    kind = words.one_of(("TO ROLE", "IN DATABASE", "IN SCHEMA")).rpartition(" ")[2]
    if not kind:
        raise words.wrong()
    account.need(kind, words.name(), session)
    words.end()
    return Answer(_FUTURE, [])


def _owns(entry: Entry, mine: tuple[str, Name], to: bool) -> bool:
    is_role = to and mine[0] == "ROLE" and (entry.owner,) == mine[1] and bool(entry.text)
    return is_role or (not to and (entry.kind, entry.name) == mine)


def _ownership(entry: Entry) -> Grant:
    return Grant(
        "OWNERSHIP", entry.kind, entry.name, "ROLE", (entry.owner,), True, entry.owner, entry.created
    )


def _grant(one: Grant) -> tuple[Any, ...]:
    kind = {"CATALOG INTEGRATION": "INTEGRATION", "EXTERNAL VOLUME": "VOLUME"}.get(one.on_kind, one.on_kind)
    kind = {"ICEBERG TABLE": "TABLE"}.get(kind, kind).replace(" ", "_")
    option = "true" if one.option else "false"
    name = ".".join(one.on)
    return _when(one), one.privilege, kind, name, one.to_kind, ".".join(one.to), option, one.by


def _when(one: Grant) -> datetime:
    return datetime.fromtimestamp(one.created, UTC)


def describe(words: Words, account: Account, session: Session) -> Answer:
    """`DESCRIBE kind name`."""
    kind = ALIASES.get(words.one_of(ALIASES), "")
    if not kind:
        raise words.wrong()
    entry = account.need(kind, words.name(), session)
    words.end()
    if kind.endswith("POLICY"):
        state = entry.state
        return Answer(_POLICY, [(entry.name[-1], state["signature"], state["returns"], state["body"])])
    if kind == "EXTERNAL VOLUME":
        return Answer(("parent_property", *_PROPERTY), list(_volume(entry)))
    if kind == "CATALOG INTEGRATION":
        return Answer(_PROPERTY, [_property(key, entry.options.get(key)) for key in KINDS[kind].options])
    raise answers.unsupported(f"DESCRIBE {kind}")


def _volume(entry: Entry) -> Iterable[tuple[Any, ...]]:
    yield ("", *_property("ALLOW_WRITES", entry.options["ALLOW_WRITES"]))
    for at, location in enumerate(entry.options["STORAGE_LOCATIONS"], start=1):
        yield ("STORAGE_LOCATIONS", *_property(f"STORAGE_LOCATION_{at}", location))
    yield ("STORAGE_LOCATIONS", *_property("ACTIVE", entry.options["STORAGE_LOCATIONS"][0]["NAME"]))
    yield ("", *_property("COMMENT", entry.options.get("COMMENT", "")))


def _property(key: str, value: Any) -> tuple[str, str, str | None, str]:
    kind = {bool: "Boolean", int: "Integer", list: "List", dict: "Map"}.get(type(value), "String")
    if isinstance(value, dict):
        value = {name: "*****" if name in SECRETS else one for name, one in value.items()}
    return key, kind, _text(value), ""


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return None if value is None else str(value)
