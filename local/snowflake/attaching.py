"""What is hung on objects: grants, tags, policies, comments of columns. Belongs here: their statements.

None of it changes what a SELECT returns: it is there to be set, shown and taken away again.
"""

from __future__ import annotations

import time

from local.snowflake import answers
from local.snowflake.account import Account, Session
from local.snowflake.answers import Answer, status
from local.snowflake.definitions import Hung
from local.snowflake.kinds import ACCOUNT_PRIVILEGES, ALIASES, KINDS
from local.snowflake.registry import Attached, Entry, Grant
from local.snowflake.words import Name, Words

_DONE = status("Statement executed successfully.")
_RELATIONS = ("ICEBERG TABLE", "VIEW")


def grant(words: Words, account: Account, session: Session) -> Answer:
    """`GRANT privileges ON object TO ROLE r [WITH GRANT OPTION]`, `GRANT ROLE r TO ROLE|USER x`."""
    found = _grants(words, account, session, "TO")
    option = words.take("WITH GRANT OPTION")
    words.take("COPY CURRENT GRANTS")
    words.end()
    for one in found:
        if one.privilege == "OWNERSHIP":
            account.registry.need(one.on_kind, one.on).owner = one.to[0]
        else:
            given = Grant(*_key(one), option, session.role, time.time())
            account.registry.grants = [*(x for x in account.registry.grants if _key(x) != _key(one)), given]
    account.registry.save()
    return _DONE


def revoke(words: Words, account: Account, session: Session) -> Answer:
    """The same with REVOKE and FROM."""
    gone = {_key(one) for one in _grants(words, account, session, "FROM")}
    words.end()
    account.registry.grants = [one for one in account.registry.grants if _key(one) not in gone]
    account.registry.save()
    return _DONE


def _key(one: Grant) -> tuple[str, str, Name, str, Name]:
    return one.privilege, one.on_kind, one.on, one.to_kind, one.to


def _grants(words: Words, account: Account, session: Session, to: str) -> list[Grant]:
    role = words.one_of(("DATABASE ROLE", "ROLE"))
    if role:
        privileges, on = ["USAGE"], (role, account.need(role, words.name(), session).name)
    else:
        privileges, on = _privileges(words, account, session)
    words.need(to)
    kind = words.one_of(("DATABASE ROLE", "ROLE", "USER")) or "ROLE"
    grantee = account.need(kind, words.name(), session)
    return [Grant(privilege, *on, grantee.kind, grantee.name) for privilege in privileges]


def _privileges(words: Words, account: Account, session: Session) -> tuple[list[str], tuple[str, Name]]:
    """Read `privilege, … ON object`; a privilege that such an object does not have is an error."""
    start = words.at
    while words.peek() and words.peek() != "ON":
        words.at += 1
    asked = [" ".join(one.split()).upper() for one in words.between(start, words.at).split(",")]
    words.need("ON")
    if words.take("ACCOUNT"):
        on, known = ("ACCOUNT", Name()), list(ACCOUNT_PRIVILEGES)
    else:
        kind = ALIASES.get(words.one_of(ALIASES), "")
        if not kind:
            raise words.wrong()
        on = (kind, account.need(kind, words.name(), session).name)
        known = [one.replace("_", " ") for one in KINDS[kind].privileges.split()]
    if asked in (["ALL"], ["ALL PRIVILEGES"]):
        return known, on
    unknown = [one for one in asked if one not in (*known, "OWNERSHIP")]
    if unknown or (on[0] == "ACCOUNT" and "OWNERSHIP" in asked):
        raise answers.syntax_error(f"{', '.join(unknown or asked)} is no privilege on {on[0].lower()}.")
    return asked, on


def altered(words: Words, entry: Entry, account: Account, session: Session) -> bool:
    """Do what ALTER says of tags, policies and columns; false if it says nothing of them."""
    if words.take("SET TAG"):
        _set_tags(words, entry, "", account, session)
    elif words.take("UNSET TAG"):
        _detach(account, entry, "", "TAG", account.full("TAG", words.name(), session))
    elif entry.kind in _RELATIONS and words.one_of(("ALTER COLUMN", "MODIFY COLUMN")):
        _alter_column(words, entry, account, session)
    elif entry.kind in _RELATIONS and words.take("ADD ROW ACCESS POLICY"):
        _add_row_access(words, entry, account, session)
    elif entry.kind in _RELATIONS and words.take("DROP ROW ACCESS POLICY"):
        _detach(account, entry, "", "ROW ACCESS POLICY", account.full("TAG", words.name(), session))
    elif entry.kind in _RELATIONS and words.take("DROP ALL ROW ACCESS POLICIES"):
        _detach(account, entry, "", "ROW ACCESS POLICY", some=False)
    else:
        return entry.kind.endswith("POLICY") and _set_body(words, entry)
    return True


def _alter_column(words: Words, entry: Entry, account: Account, session: Session) -> None:
    column = words.name()[0]
    _need_column(entry, column, account)
    if words.take("COMMENT"):
        comment_column(entry, column, words.text(), account)
    elif words.take("SET TAG"):
        _set_tags(words, entry, column, account, session)
    elif words.take("UNSET TAG"):
        _detach(account, entry, column, "TAG", account.full("TAG", words.name(), session))
    elif words.take("SET MASKING POLICY"):
        _mask(words, entry, column, account, session)
    elif words.take("UNSET MASKING POLICY"):
        _detach(account, entry, column, "MASKING POLICY")
    else:
        raise words.wrong()


def _set_body(words: Words, entry: Entry) -> bool:
    if not words.take("SET BODY ->"):
        return False
    entry.state["body"] = words.rest()
    entry.text = f"{entry.text.partition('->')[0]}-> {entry.state['body']}"
    return True


def _set_tags(words: Words, entry: Entry, column: str, account: Account, session: Session) -> None:
    while True:
        tag = account.need("TAG", words.name(), session)
        words.need("=")
        value = words.text()
        _check_value(tag, value)
        _attach(account, Attached("TAG", tag.name, entry.kind, entry.name, column, value))
        if not words.take(","):
            return


def _mask(words: Words, entry: Entry, column: str, account: Account, session: Session) -> None:
    policy = account.need("MASKING POLICY", words.name(), session)
    columns = tuple(words.names()) if words.take("USING") else ()
    forced = words.take("FORCE")
    masked = [one for one in _of(account, entry) if (one.kind, one.column) == (policy.kind, column)]
    if masked and not forced:
        raise answers.invalid(f"Specified column {column} already attached to another masking policy.")
    _detach(account, entry, column, policy.kind, some=False)
    _attach(account, Attached(policy.kind, policy.name, entry.kind, entry.name, column, "", columns))


def _add_row_access(words: Words, entry: Entry, account: Account, session: Session) -> None:
    policy = account.need("ROW ACCESS POLICY", words.name(), session)
    words.need("ON")
    columns = words.names()
    for column in columns:
        _need_column(entry, column, account)
    if any(one.kind == policy.kind for one in _of(account, entry)):
        raise answers.invalid(f"Object {entry.full_name} already has a ROW_ACCESS_POLICY.")
    _attach(account, Attached(policy.kind, policy.name, entry.kind, entry.name, columns=tuple(columns)))


def found(one: Hung, entry: Entry, account: Account, session: Session) -> Attached:
    """What a definition hangs on an object: it must be there, and a tag's value allowed."""
    kind, name, column, value, columns = one
    what = account.need(kind, name, session)
    if kind == "TAG":
        _check_value(what, value)
    return Attached(kind, what.name, entry.kind, entry.name, column, value, columns)


def _check_value(tag: Entry, value: str) -> None:
    allowed = tag.options.get("ALLOWED_VALUES")
    if allowed and value not in allowed:
        raise answers.invalid(f"Tag value '{value}' is not allowed for tag '{tag.full_name}'.")


def _of(account: Account, entry: Entry) -> list[Attached]:
    return [one for one in account.registry.attached if (one.on_kind, one.on) == (entry.kind, entry.name)]


def _attach(account: Account, new: Attached) -> None:
    same = (new.kind, new.what, new.on_kind, new.on, new.column)
    kept = [
        one
        for one in account.registry.attached
        if (one.kind, one.what, one.on_kind, one.on, one.column) != same
    ]
    account.registry.attached = [*kept, new]


def _detach(
    account: Account, entry: Entry, column: str, kind: str, what: Name | None = None, some: bool = True
) -> None:
    """Take away what is of a kind; with `some` there must be something of it."""
    gone = [
        one
        for one in _of(account, entry)
        if (one.kind, one.column) == (kind, column) and what in (None, one.what)
    ]
    if some and not gone:
        raise answers.missing(kind, ".".join(what or (column,)))
    account.registry.attached = [one for one in account.registry.attached if one not in gone]


def comment_column(entry: Entry, column: str, text: str, account: Account) -> None:
    """Say what a column is."""
    _need_column(entry, column, account)
    entry.state.setdefault("comments", {})[column] = text


def _need_column(entry: Entry, column: str, account: Account) -> None:
    if column not in (name for name, _ in account.engine.columns(entry.name)):
        raise answers.missing("COLUMN", column)
