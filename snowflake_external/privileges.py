"""Who may do what: privileges of our roles, and anybody's on what is sealed.

Belongs here: SHOW GRANTS, and making grants of its rows. Does not: which should be (`estate.py`), objects
(`existing.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from snowflake_external.ddl import GRANTED_ON
from snowflake_external.errors import Missing
from snowflake_external.existing import Ask
from snowflake_external.resources import Grant, Key, Kind
from snowflake_external.sql import identifier

_BROADER = {"INTEGRATION": Kind.CATALOG, "TABLE": Kind.ICEBERG_TABLE, "VOLUME": Kind.VOLUME}
Row = Mapping[str, Any]


@dataclass
class Held:
    """Grants that there are; `strange` are privileges that we have no REVOKE for, as text."""

    grants: set[Grant] = field(default_factory=set)
    strange: set[str] = field(default_factory=set)


def held(ask: Ask, roles: Iterable[str], sealed: Sequence[Key]) -> Held:
    """Read what roles have, now and of objects to come, and what anybody has on sealed objects.

    Ownership is another matter. What is yet to be made has no grants.
    """
    found = Held()
    for role in roles:
        for row in _rows(ask, f"GRANTS TO ROLE {identifier(role)}"):
            _add(found, row, role)
        _add_future(found, _rows(ask, f"FUTURE GRANTS TO ROLE {identifier(role)}"), f"ROLE {role}")
    for key in sealed:
        name = f"{GRANTED_ON.get(key.kind, key.kind)} {identifier(*key.name)}"
        for row in _rows(ask, f"GRANTS ON {name}"):
            _add_sealed(found, row, key)
    schemas = {key for key in sealed if key.kind is Kind.SCHEMA}
    for within in sorted({Key(Kind.DATABASE, key.name[:1]) for key in schemas} | schemas, key=str):
        rows = _rows(ask, f"FUTURE GRANTS IN {within.kind} {identifier(*within.name)}")
        _add_future(found, rows)
    return found


def _rows(ask: Ask, what: str) -> list[dict[str, Any]]:
    try:
        return [row for row in ask(f"SHOW {what}") if row["privilege"] != "OWNERSHIP"]
    except Missing:
        return []


def _add(found: Held, row: Row, role: str) -> None:
    kind = _kind(row["granted_on"])
    if kind is None:
        found.strange.add(f"{row['privilege']} ON {row['granted_on']} {row['name']} FROM ROLE {role}")
    else:
        found.grants.add(Grant(row["privilege"], Key(kind, _parts(row["name"])), role))


def _add_sealed(found: Held, row: Row, key: Key) -> None:
    """A role's privilege on a sealed object can be revoked; a share's takes other words."""
    if row["granted_to"] == "ROLE":
        found.grants.add(Grant(row["privilege"], key, _parts(row["grantee_name"])[-1]))
    else:
        found.strange.add(f"{row['privilege']} ON {key} FROM {row['granted_to']} {row['grantee_name']}")


def _add_future(found: Held, rows: Iterable[Row], grantee: str = "") -> None:
    for row in rows:
        to = grantee or f"{row['grant_to']} {row['grantee_name']}"
        found.strange.add(f"{row['privilege']} ON FUTURE {row['grant_on']} {row['name']} FROM {to}")


def _kind(granted_on: str) -> Kind | None:
    said = granted_on.replace("_", " ")
    return _BROADER.get(said) or next((kind for kind in Kind if kind.value == said), None)


def _parts(name: str) -> tuple[str, ...]:
    """Take a qualified name apart: parts are quoted where they have to be."""
    found = re.findall(r'"((?:[^"]|"")*)"|([^."]+)', name)
    return tuple(quoted.replace('""', '"') if quoted else plain for quoted, plain in found)
