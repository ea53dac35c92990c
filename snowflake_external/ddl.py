"""The statements that make, change and drop objects.

Belongs here: Snowflake's grammar, kind by kind. Does not: which objects there are (`estate.py`), what to do
(`plan.py`), sending (`session.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from snowflake_external.resources import UNCOMMENTED, Grant, Key, Kind, Resource, unlisted
from snowflake_external.sql import Group, Secret, Value, identifier, literal, properties, written

# What ALTER … SET takes. Whatever else differs, the object has to be dropped and made again.
_ALTERABLE: Mapping[Kind, frozenset[str]] = {
    Kind.MONITOR: frozenset({"CREDIT_QUOTA", "FREQUENCY", "NOTIFY_AT", "SUSPEND_AT"}),
    Kind.WAREHOUSE: frozenset({"WAREHOUSE_SIZE", "AUTO_SUSPEND", "AUTO_RESUME", "RESOURCE_MONITOR"}),
    Kind.VOLUME: frozenset({"ALLOW_WRITES"}),
    Kind.CATALOG: frozenset({"REFRESH_INTERVAL_SECONDS"}),
    Kind.ICEBERG_TABLE: frozenset({"AUTO_REFRESH"}),
}
_LINKED = "LINKED_CATALOG"
_WRITES, _SYNC = f"{_LINKED}.ALLOWED_WRITE_OPERATIONS", f"{_LINKED}.SYNC_INTERVAL_SECONDS"
_NAMESPACES = f"{_LINKED}.ALLOWED_NAMESPACES"
_UPDATED = frozenset({_WRITES, _SYNC, _NAMESPACES})  # what ALTER DATABASE … UPDATE LINKED_CATALOG takes
_TRIGGERS = (("NOTIFY_AT", "NOTIFY"), ("SUSPEND_AT", "SUSPEND"))
_COMMENTED = {Kind.ICEBERG_TABLE: "TABLE"}  # the other way to set one: COMMENT ON
_ALTER_COMMENT = frozenset({Kind.VOLUME, Kind.CATALOG, Kind.ROLE, Kind.TAG})
_LAST = frozenset({"CATALOG_CASE_SENSITIVITY"})  # after the comment, as the grammar has it
_BODIES = frozenset({Kind.MASKING_POLICY, Kind.ROW_POLICY})


@dataclass(frozen=True)
class Statement:
    """A statement, and the same as it may be shown and kept: without secrets."""

    text: str
    shown: str


def create(resource: Resource) -> list[Statement]:
    """Make an object; nothing happens where it is there already, but for a view, which is made anew."""
    return [Statement(*(_create(resource, reveal) for reveal in (True, False)))]


def alter(resource: Resource, changed: Mapping[str, tuple[str, str]]) -> list[Statement] | None:
    """Change an object in place; None where Snowflake cannot, and it would have to be made again.

    Args:
        changed: by name of what differs, what was found and what is wanted.
    """
    kind = resource.key.kind
    if kind is Kind.VIEW:
        return create(resource)
    settable = _ALTERABLE.get(kind, frozenset())
    if set(changed) - settable - {"COMMENT"} - ({"BODY"} if kind in _BODIES else set()) - _UPDATED:
        return None
    where = f"ALTER {kind} {name_of(resource.key)}"
    statements = [_comment(resource)] if "COMMENT" in changed else []
    if "BODY" in changed:
        statements.append(f"{where} SET BODY -> {resource.body.split('->', 1)[1].strip()}")
    statements += [f"{where} UPDATE {_LINKED} {update}" for update in _updates(changed)]
    settings = tuple((name, value) for name, value in resource.properties if name in settable & set(changed))
    if kind is Kind.MONITOR and settings:
        statements.append(f"{where} {_altered_monitor(resource, set(changed))}")
    elif settings:
        statements.append(f"{where} SET {_settings(kind, settings)}")
    return [Statement(text, text) for text in statements]


def drop(key: Key) -> Statement:
    """Drop an object, if it is there."""
    text = f"DROP {key.kind} IF EXISTS {name_of(key)}"
    return Statement(text, text)


def close(database: Key) -> Statement:
    """Let nothing be written through a database that follows its catalog.

    While it may be written to, Snowflake passes drops of tables on to the catalog, which deletes their data.
    """
    where = f"ALTER {database.kind} {name_of(database)}"
    text = f"{where} UPDATE {_LINKED} SET ALLOWED_WRITE_OPERATIONS = NONE"  # noqa: S608  # no query
    return Statement(text, text)


def renew(resource: Resource) -> Statement | None:
    """Tell a catalog integration its secret again; None where it has none. No plan sees one that is stale."""
    group = dict(resource.properties).get("REST_AUTHENTICATION")
    if not isinstance(group, Group):
        return None
    secrets = Group(tuple(one for one in group.items if isinstance(one[1], Secret)))
    where = f"ALTER {resource.key.kind} {name_of(resource.key)} SET REST_AUTHENTICATION = "
    told = [f"{where}{written(secrets, reveal)}" for reveal in (True, False)]
    return Statement(*told) if secrets.items else None


def grant(given: Grant) -> Statement:
    """Give a role what it should have."""
    text = f"GRANT {_privilege(given)} TO ROLE {identifier(given.role)}"
    return Statement(text, text)


def revoke(given: Grant) -> Statement:
    """Take from a role what it should not have."""
    text = f"REVOKE {_privilege(given)} FROM ROLE {identifier(given.role)}"
    return Statement(text, text)


def name_of(key: Key) -> str:
    """The quoted name of an object."""
    return identifier(*key.name)


def _create(resource: Resource, reveal: bool) -> str:
    kind, name = resource.key.kind, name_of(resource.key)
    if kind is Kind.VIEW:
        return f"CREATE OR REPLACE SECURE VIEW {name} {resource.body}"
    is_linked = any(one == _LINKED for one, _ in resource.properties)  # whose grammar lacks IF NOT EXISTS
    parts = [f"CREATE {kind} {'' if is_linked else 'IF NOT EXISTS '}{name}"]
    parts += ["WITH"] if kind is Kind.MONITOR else []
    if kind in _BODIES:
        parts.append(resource.body)
    first = tuple(one for one in resource.properties if one[0] not in _LAST)
    parts += [_settings(kind, first, reveal)] if first else []
    if kind not in UNCOMMENTED:
        parts.append(f"COMMENT = {literal(resource.comment)}")
    parts += properties(one for one in resource.properties if one[0] in _LAST)
    return " ".join(parts)


def _settings(kind: Kind, items: tuple[tuple[str, Value], ...], reveal: bool = False) -> str:
    if kind is Kind.MONITOR:
        return " ".join([*_monitor(dict(items)), *_triggers(dict(items))])
    if kind is Kind.TAG:
        (_, allowed), *_ = items
        assert isinstance(allowed, tuple)
        return "ALLOWED_VALUES " + ", ".join(literal(str(one)) for one in allowed)
    told = properties(items, reveal)
    if kind is Kind.DATABASE:  # whose catalog ends with a comma, and nothing else does
        told[0] += ","
    return " ".join(told)


def _monitor(items: Mapping[str, Value]) -> list[str]:
    """A monitor's settings, without its triggers."""
    plain = [(name, items[name]) for name in ("CREDIT_QUOTA", "FREQUENCY") if name in items]
    return properties(plain) + (["START_TIMESTAMP = IMMEDIATELY"] if "FREQUENCY" in items else [])


def _triggers(items: Mapping[str, Value]) -> list[str]:
    told = [f"ON {str(items[name]).rstrip('%')} PERCENT DO {what}" for name, what in _TRIGGERS]
    return ["TRIGGERS", *told]


def _altered_monitor(resource: Resource, changed: Collection[str]) -> str:
    """TRIGGERS takes the place of all triggers that there are: whichever differs, all are told.

    They are told after the quota, which they are shares of: not every parser takes them alone.
    """
    items = dict(resource.properties)
    triggers = _triggers(items) if any(name in changed for name, _ in _TRIGGERS) else []
    names = {*changed, *(["CREDIT_QUOTA"] if triggers else [])}
    settings = _monitor({name: value for name, value in items.items() if name in names})
    return " ".join(["SET", *settings, *triggers])


def _updates(changed: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """What is to be said of how a database follows its catalog; that nothing is written through it, first."""
    for name in (_WRITES, _SYNC):
        if name in changed:
            yield f"SET {name.removeprefix(f'{_LINKED}.')} = {changed[name][1]}"
    if _NAMESPACES in changed:
        found, wanted = (set(unlisted(one)) for one in changed[_NAMESPACES])
        # None at all would mean every namespace: so what is wanted is added before others are removed.
        for sign, names, link in (("ADD", wanted - found, "TO"), ("REMOVE", found - wanted, "FROM")):
            if names:
                told = ", ".join(literal(one) for one in sorted(names))
                yield f"{sign} ({told}) {link} ALLOWED_NAMESPACES"


def _comment(resource: Resource) -> str:
    kind = resource.key.kind
    text, name = literal(resource.comment), name_of(resource.key)
    if kind in _ALTER_COMMENT:
        return f"ALTER {kind} {name} SET COMMENT = {text}"
    return f"COMMENT ON {_COMMENTED.get(kind, kind)} {name} IS {text}"


def _privilege(given: Grant) -> str:
    if given.on.kind is Kind.ROLE:
        return f"ROLE {name_of(given.on)}"
    kind = GRANTED_ON.get(given.on.kind, given.on.kind)
    return f"{given.privilege} ON {kind} {name_of(given.on)}"


# Privileges are granted on the broader kind.
GRANTED_ON: Mapping[str, str] = {Kind.CATALOG: "INTEGRATION", Kind.ICEBERG_TABLE: "TABLE"}
