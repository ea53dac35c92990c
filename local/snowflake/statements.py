"""Statements about objects: CREATE, ALTER, DROP, USE, COMMENT; what they change in the account.

Belongs here: one object and its properties. Does not: SHOW and DESCRIBE (`showing.py`), grants, tags and
attached policies (`attaching.py`), queries (`functions.py`), reading a definition (`definitions.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from local.snowflake import answers, attaching, linked, showing
from local.snowflake.account import Account, Session
from local.snowflake.answers import Answer, status
from local.snowflake.definitions import ACTIONS, read_definition, read_triggers
from local.snowflake.kinds import ALIASES, KINDS, SECRETS
from local.snowflake.registry import Entry
from local.snowflake.words import Words

_DONE = status("Statement executed successfully.")
_CONTAINERS = ("DATABASE", "SCHEMA")


def taken(sql: str, account: Account, session: Session) -> Answer | None:
    """Carry out a statement of ours; None if it is a query, or something for fakesnow to judge."""
    words = Words(sql)
    handler = next((take for verb, take in _VERBS.items() if words.take(verb)), None)
    if handler is None:
        return None
    if words.peek_last() == "REFRESH":  # waits for the catalog, and others need not
        return handler(words, account, session)
    with account.registry.lock:
        return handler(words, account, session)


def _create(words: Words, account: Account, session: Session) -> Answer:
    replace = words.take("OR REPLACE")
    secure = words.take("SECURE")
    kind = KINDS.get(words.one_of(KINDS))
    if kind is None:
        if words.peek() in ("TABLE", "TRANSIENT", "TEMPORARY", "STAGE", "TASK"):
            raise answers.unsupported(f"CREATE {words.peek()}")
        raise words.wrong()
    if secure and kind.name != "VIEW":
        raise words.wrong()
    unless = words.take("IF NOT EXISTS")
    name = account.full(kind.name, words.name(), session)
    entry = Entry(kind.name, name, {}, words.sql, session.role)
    read_definition(words, kind, entry, secure)
    words.end()
    old = account.registry.find(kind.name, name)
    if old and unless:
        return status(f"{name[-1]} already exists, statement succeeded.")
    if old and not replace:
        raise answers.exists(name[-1])
    _make(entry, old, account, session)
    account.registry.save()
    return status(f"{kind.name.capitalize()} {name[-1]} successfully created.")


def _make(entry: Entry, old: Entry | None, account: Account, session: Session) -> None:
    """Bring an object into being; if that fails, nothing has changed."""
    if old and entry.kind in _CONTAINERS:
        _remove(old, account)
    linked.check_open(entry.name, account)
    if len(entry.name) == 3:
        account.need("SCHEMA", entry.name[:2], session)
    if "LINKED_CATALOG" in entry.options:
        _check_link(entry, account, session)
    if entry.kind == "ICEBERG TABLE":
        _make_table(entry, account, session)
    if entry.kind == "VIEW":
        _make_view(entry, account, session)
    else:
        account.registry.add(entry)
    if entry.kind == "DATABASE":
        account.engine.create_database(entry.name[0])
        public = Entry("SCHEMA", (*entry.name, "PUBLIC"), {}, owner=entry.owner)
        account.registry.add(public)
        session.database, session.schema = entry.name[0], "PUBLIC"
    if entry.kind == "SCHEMA":
        account.engine.create_schema(entry.name)
        session.database, session.schema = entry.name
    if entry.kind == "ICEBERG TABLE":
        account.refresher.show(entry)
        if old:
            account.refresher.forget(old)
        account.make_relations()


def _make_view(entry: Entry, account: Account, session: Session) -> None:
    registry = account.registry
    hung = [attaching.found(one, entry, account, session) for one in entry.state.pop("hung")]
    granted = [one for one in registry.grants if (one.on_kind, one.on) == (entry.kind, entry.name)]
    account.engine.create_view(entry.name, entry.state["columns"], entry.state["body"])
    registry.add(entry)
    registry.attached += hung
    registry.grants += granted if entry.state.pop("copies_grants") else []


def _make_table(entry: Entry, account: Account, session: Session) -> None:
    for key, kind in (("EXTERNAL_VOLUME", "EXTERNAL VOLUME"), ("CATALOG", "CATALOG INTEGRATION")):
        account.need(kind, Words(entry.options[key]).name(), session)
        entry.options[key] = Words(entry.options[key]).name()[0]
    account.refresher.refresh(entry, str(uuid.uuid4()))


def _check_link(entry: Entry, account: Account, session: Session) -> None:
    """A database that follows a catalog needs its integration and a volume, and says how often it looks."""
    link = entry.options["LINKED_CATALOG"]
    lacking = [key for key in ("CATALOG", "ALLOWED_WRITE_OPERATIONS") if key not in link]
    if lacking or "EXTERNAL_VOLUME" not in entry.options:
        raise answers.invalid(f"Missing option(s): {[*lacking, 'EXTERNAL_VOLUME']}.")
    account.need("CATALOG INTEGRATION", Words(link["CATALOG"]).name(), session)
    account.need("EXTERNAL VOLUME", Words(entry.options["EXTERNAL_VOLUME"]).name(), session)
    link.setdefault("SYNC_INTERVAL_SECONDS", 30)


def _drop(words: Words, account: Account, session: Session) -> Answer:
    kind, exists = _object(words), words.take("IF EXISTS")
    name = account.full(kind, words.name(), session)
    words.take("CASCADE")
    words.end()
    if exists and not account.registry.find(kind, name):
        return status("Drop statement executed successfully " + f"({name[-1]} already dropped).")
    entry = account.need(kind, name, session)
    _check_unused(entry, account)
    _remove(entry, account)
    account.registry.save()
    return status(f"{name[-1]} successfully dropped.")


def _check_unused(entry: Entry, account: Account) -> None:
    """Refuse to drop what something else stands on."""
    key = {"EXTERNAL VOLUME": "EXTERNAL_VOLUME", "CATALOG INTEGRATION": "CATALOG"}.get(entry.kind)
    tables = account.registry.of_kind("ICEBERG TABLE") if key else iter(())
    using = [one.full_name for one in tables if key and one.options[key] == entry.full_name]
    if entry.kind.endswith("POLICY"):
        using += [".".join(one.on) for one in account.registry.attached if one.what == entry.name]
    if using:
        what = f"{entry.kind.capitalize()} {entry.full_name}"
        raise answers.invalid(f"{what} cannot be dropped: it is used by {', '.join(using)}.")


def _remove(entry: Entry, account: Account) -> None:
    for gone in account.registry.drop(entry):
        account.forget(gone)


def _alter(words: Words, account: Account, session: Session) -> Answer:
    kind = _object(words)
    if words.peek() == "IF":
        raise answers.unsupported("ALTER … IF EXISTS")
    entry = account.need(kind, words.name(), session)
    if not (_acted(words, entry, account) or attaching.altered(words, entry, account, session)):
        _set(words, entry)
    words.end()
    account.registry.save()
    return _DONE


def _alter_session(words: Words, _: Account, session: Session) -> Answer | None:
    """The query tag goes into the log; what fakesnow knows of sessions is left to it."""
    if not words.take("SET QUERY_TAG ="):
        return None
    session.tag = words.text()
    words.end()
    return _DONE


def _acted(words: Words, entry: Entry, account: Account) -> bool:
    """Do what is not setting a property: REFRESH, SUSPEND, RESUME; false if it is none of these."""
    if entry.kind == "ICEBERG TABLE" and words.take("REFRESH"):
        words.end()
        account.refresher.refresh(entry, str(uuid.uuid4()))
    elif "LINKED_CATALOG" in entry.options and words.take("UPDATE LINKED_CATALOG"):
        linked.update(words, entry.options["LINKED_CATALOG"])
    elif entry.kind == "WAREHOUSE" and (words.take("SUSPEND") or words.take("RESUME")):
        words.take("IF SUSPENDED")
        wanted = "SUSPENDED" if words.peek_last() == "SUSPEND" else "STARTED"
        if entry.options["STATE_"] == wanted == "SUSPENDED":
            raise answers.invalid(f"Invalid state. Warehouse '{entry.full_name}' cannot be suspended.")
        entry.options["STATE_"] = wanted
    else:
        return False
    return True


def _set(words: Words, entry: Entry) -> None:
    """SET and UNSET of properties; those that are fixed are refused, as are those that are not there."""
    kind = KINDS[entry.kind]
    settable = {key: shape for key, shape in kind.options.items() if key not in kind.fixed}
    if "REST_AUTHENTICATION" in settable:  # of which only the secret of its own type can be another
        own = entry.options["REST_AUTHENTICATION"].get("TYPE")
        settable["REST_AUTHENTICATION"] = {name: str for name, of in SECRETS.items() if of == own}
    if words.take("SET"):
        found = words.options(settable)
        if not found:
            raise words.wrong()
        if found.get("AUTO_REFRESH") and not entry.options["AUTO_REFRESH"]:
            entry.state |= {"auto": "RUNNING", "reason": None}
        _merge(entry.options, found)
        _set_triggers(words, entry)
    elif _set_triggers(words, entry):
        return
    elif words.take("UNSET"):
        key = words.one_of(settable)
        if not key or key in kind.required:
            raise words.wrong()
        entry.options.pop(key, None)
        if key in kind.defaults:
            entry.options[key] = kind.defaults[key]
    else:
        raise words.wrong()


def _merge(options: dict[str, Any], found: dict[str, Any]) -> None:
    for key, value in found.items():
        options[key] = options.get(key, {}) | value if isinstance(value, dict) else value


def _set_triggers(words: Words, entry: Entry) -> bool:
    """`TRIGGERS …` of a resource monitor, which stands after SET or alone: they replace those before."""
    if entry.kind != "RESOURCE MONITOR" or not words.take("TRIGGERS"):
        return False
    found = read_triggers(words)
    if not found:
        raise words.wrong()
    entry.options = {key: value for key, value in entry.options.items() if key not in ACTIONS} | found
    return True


def _comment(words: Words, account: Account, session: Session) -> Answer:
    words.need("ON")
    entry = account.need(_object(words), words.name(), session)
    words.need("IS")
    entry.options["COMMENT"] = words.text()
    words.end()
    account.registry.save()
    return _DONE


def _use(words: Words, account: Account, session: Session) -> Answer:
    kind = words.one_of(("ROLE", "WAREHOUSE", "DATABASE", "SCHEMA"))
    if not kind and words.peek() in ("SECONDARY", "CATALOG"):
        raise words.wrong()
    kind = kind or "DATABASE"
    entry = account.need(kind, words.name(), session)
    words.end()
    chosen: dict[str, Any] = {
        "ROLE": {"role": entry.name[0]},
        "WAREHOUSE": {"warehouse": entry.name[0]},
        "DATABASE": {"database": entry.name[0], "schema": "PUBLIC"},
        "SCHEMA": {"database": entry.name[0], "schema": entry.name[-1]},
    }
    for key, value in chosen[kind].items():
        setattr(session, key, value)
    return _DONE


def _object(words: Words) -> str:
    kind = ALIASES.get(words.one_of(ALIASES))
    if kind is None:
        raise words.wrong()
    return kind


_VERBS: dict[str, Callable[[Words, Account, Session], Answer | None]] = {
    "CREATE": _create,
    "ALTER SESSION": _alter_session,
    "ALTER": _alter,
    "DROP": _drop,
    "COMMENT": _comment,
    "USE": _use,
    "GRANT": attaching.grant,
    "REVOKE": attaching.revoke,
    "SHOW": showing.show,
    "DESCRIBE": showing.describe,
    "DESC": showing.describe,
}
