"""The statements that make, change and drop objects.

Belongs here: Snowflake's grammar, kind by kind. Does not: which objects there are (`estate.py`), what to do
(`plan.py`), sending (`session.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from snowflake_external.resources import UNCOMMENTED, Grant, Key, Kind, Resource
from snowflake_external.sql import Value, identifier, literal, properties

# What ALTER … SET takes. Whatever else differs, the object has to be dropped and made again.
_ALTERABLE: Mapping[Kind, frozenset[str]] = {
    Kind.MONITOR: frozenset({"CREDIT_QUOTA", "FREQUENCY", "NOTIFY_AT", "SUSPEND_AT"}),
    Kind.WAREHOUSE: frozenset({"WAREHOUSE_SIZE", "AUTO_SUSPEND", "AUTO_RESUME", "RESOURCE_MONITOR"}),
    Kind.VOLUME: frozenset({"ALLOW_WRITES"}),
    Kind.CATALOG: frozenset({"REFRESH_INTERVAL_SECONDS"}),
    Kind.ICEBERG_TABLE: frozenset({"AUTO_REFRESH"}),
}
_LINKED = "LINKED_CATALOG"
_SYNC = f"{_LINKED}.SYNC_INTERVAL_SECONDS"
_COMMENTED = {Kind.ICEBERG_TABLE: "TABLE"}  # the other way to set one: COMMENT ON
_ALTER_COMMENT = frozenset({Kind.VOLUME, Kind.CATALOG, Kind.ROLE, Kind.TAG})
_BODIES = frozenset({Kind.MASKING_POLICY, Kind.ROW_POLICY})


@dataclass(frozen=True)
class Statement:
    """A statement, and the same as it may be shown and kept: without secrets."""

    text: str
    shown: str


def create(resource: Resource) -> list[Statement]:
    """Make an object; nothing happens where it is there already, but for a view, which is made anew."""
    return [Statement(*(_create(resource, reveal) for reveal in (True, False)))]


def alter(resource: Resource, changed: Collection[str]) -> list[Statement] | None:
    """Change an object in place; None where Snowflake cannot, and it would have to be made again."""
    kind, names = resource.key.kind, set(changed)
    if kind is Kind.VIEW:
        return create(resource)
    statements = []
    if "COMMENT" in names:
        statements.append(_comment(resource))
        names.remove("COMMENT")
    if "BODY" in names and kind in {Kind.MASKING_POLICY, Kind.ROW_POLICY}:
        expression = resource.body.split("->", 1)[1].strip()
        statements.append(f"ALTER {kind} {name_of(resource.key)} SET BODY -> {expression}")
        names.remove("BODY")
    if _SYNC in names:
        interval = f"SYNC_INTERVAL_SECONDS = {resource.facts()[_SYNC]}"
        where = f"ALTER {kind} {name_of(resource.key)}"
        statements.append(f"{where} UPDATE {_LINKED} SET {interval}")  # noqa: S608  # no query
        names.remove(_SYNC)
    if names - _ALTERABLE.get(kind, frozenset()):
        return None
    if names:
        settings = tuple((name, value) for name, value in resource.properties if name in names)
        statements.append(f"ALTER {kind} {name_of(resource.key)} SET {_settings(kind, settings)}")
    return [Statement(text, text) for text in statements]


def drop(key: Key) -> Statement:
    """Drop an object, if it is there."""
    text = f"DROP {key.kind} IF EXISTS {name_of(key)}"
    return Statement(text, text)


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
    parts += [_settings(kind, resource.properties, reveal)] if resource.properties else []
    if kind not in UNCOMMENTED:
        parts.append(f"COMMENT = {literal(resource.comment)}")
    return " ".join(parts)


def _settings(kind: Kind, items: tuple[tuple[str, Value], ...], reveal: bool = False) -> str:
    if kind is Kind.MONITOR:
        return _monitor(dict(items))
    if kind is Kind.TAG:
        (_, allowed), *_ = items
        assert isinstance(allowed, tuple)
        return "ALLOWED_VALUES " + ", ".join(literal(str(one)) for one in allowed)
    told = properties(items, reveal)
    if kind is Kind.DATABASE:  # whose catalog ends with a comma, and nothing else does
        told[0] += ","
    return " ".join(told)


def _monitor(items: Mapping[str, Value]) -> str:
    """A monitor's triggers are all set anew, whichever of its settings changes."""
    plain = [("CREDIT_QUOTA", items.get("CREDIT_QUOTA")), ("FREQUENCY", items.get("FREQUENCY"))]
    parts = properties((name, value) for name, value in plain if value is not None)
    parts += ["START_TIMESTAMP = IMMEDIATELY"] if "FREQUENCY" in items else []
    triggers = [("NOTIFY_AT", "NOTIFY"), ("SUSPEND_AT", "SUSPEND")]
    told = [
        f"ON {str(items[name]).rstrip('%')} PERCENT DO {what}" for name, what in triggers if name in items
    ]
    return " ".join([*parts, *(["TRIGGERS", *told] if told else [])])


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
