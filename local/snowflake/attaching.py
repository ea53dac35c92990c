"""What is hung on objects: grants, tags, policies. Belongs here: their statements.

None of it changes what a SELECT returns, but for row access policies (`functions.py`): it is there to be set,
shown and taken away again.
"""

from __future__ import annotations

import time

from local.snowflake import answers
from local.snowflake.account import Account, Session
from local.snowflake.answers import Answer, status
from local.snowflake.definitions import Hung, checked_body
from local.snowflake.kinds import ACCOUNT_PRIVILEGES, ALIASES, KINDS
from local.snowflake.registry import Attached, Entry, Grant
from local.snowflake.words import Name, Words

_DONE = status("Statement executed successfully.")


def grant(words: Words, account: Account, session: Session) -> Answer:
    """`GRANT privileges ON object TO ROLE r [WITH GRANT OPTION]`, `GRANT ROLE r TO ROLE|USER x`."""
    found = _grants(words, account, session, "TO")
    option = words.take("WITH GRANT OPTION")
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
    if words.take("ROLE"):
        privileges, on = ["USAGE"], ("ROLE", account.need("ROLE", words.name(), session).name)
    else:
        privileges, on = _privileges(words, account, session)
    words.need(to)
    kind = words.one_of(("ROLE", "USER")) or "ROLE"
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
    """Take away what hangs on a view, set its tag, or give a policy another body; false if it is neither.

    Policies of a view are in its definition: there is no other way to hang them here.
    """
    if entry.kind.endswith("POLICY"):
        return _set_body(words, entry)
    if entry.kind != "VIEW":
        return False
    if words.take("SET TAG"):
        _set_tag(words, entry, account, session)
    elif words.take("UNSET TAG"):
        _detach(account, entry, "", "TAG", account.full("TAG", words.name(), session))
    elif words.take("DROP ROW ACCESS POLICY"):
        policy = account.full("ROW ACCESS POLICY", words.name(), session)
        _detach(account, entry, "", "ROW ACCESS POLICY", policy)
    elif words.one_of(("ALTER COLUMN", "MODIFY COLUMN")):
        column = words.name()[0]
        words.need("UNSET MASKING POLICY")
        _detach(account, entry, column, "MASKING POLICY")
    else:
        return False
    return True


def _set_tag(words: Words, entry: Entry, account: Account, session: Session) -> None:
    name = words.name()
    words.need("=")
    new = found(("TAG", name, "", words.text(), ()), entry, account, session)
    key = ("TAG", new.what, new.on, "")
    kept = [one for one in account.registry.attached if (one.kind, one.what, one.on, one.column) != key]
    account.registry.attached = [*kept, new]


def _set_body(words: Words, entry: Entry) -> bool:
    if not words.take("SET BODY ->"):
        return False
    entry.state["body"] = checked_body(words.rest(), entry.state["arguments"])
    return True


def found(one: Hung, entry: Entry, account: Account, session: Session) -> Attached:
    """What a definition hangs on an object: it must be there, and a tag's value allowed."""
    kind, name, column, value, columns = one
    what = account.need(kind, name, session)
    if kind == "TAG":
        _check_value(what, value)
    if kind == "ROW ACCESS POLICY" and len(columns) != len(what.state["arguments"]):
        raise answers.invalid(f"Row access policy {what.full_name} takes {what.state['signature']}.")
    return Attached(kind, what.name, entry.kind, entry.name, column, value, columns)


def _check_value(tag: Entry, value: str) -> None:
    allowed = tag.options.get("ALLOWED_VALUES")
    if allowed and value not in allowed:
        raise answers.invalid(f"Tag value '{value}' is not allowed for tag '{tag.full_name}'.")


def _detach(account: Account, entry: Entry, column: str, kind: str, what: Name | None = None) -> None:
    """Take away what is of a kind on an object or a column of it; there must be something."""
    gone = [
        one
        for one in account.registry.attached
        if (one.on_kind, one.on, one.kind, one.column) == (entry.kind, entry.name, kind, column)
        and what in (None, one.what)
    ]
    if not gone:
        raise answers.missing(kind, ".".join(what or (column,)))
    account.registry.attached = [one for one in account.registry.attached if one not in gone]
