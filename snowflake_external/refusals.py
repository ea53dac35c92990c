"""What Snowflake refused, in our words: a message that names the object, and what grant or setting mends it.

Belongs here: judging by number, text and statement. Does not: the connector (`session.py`).
"""

from __future__ import annotations

import re

from snowflake_external.ddl import GRANTED_ON
from snowflake_external.errors import CatalogUnreachable, Denied, Missing, NoWarehouse, SnowflakeError

_MISSING = frozenset({2003, 2043})
_DENIED = frozenset({3001, 3003})
_NO_CATALOG = frozenset({4140})
_NO_WAREHOUSE = {
    606: "set snowflake.warehouse, and GRANT USAGE ON WAREHOUSE {warehouse} TO ROLE {role}",
    608: "ALTER WAREHOUSE {warehouse} RESUME; the role needs OPERATE ON WAREHOUSE {warehouse} for that",
    90073: "its month's credits are used up: raise snowflake.credits_per_month and apply; "
    "that takes MODIFY ON RESOURCE MONITOR",
}
_QUOTED = re.compile(r"'[^']*'")
_INTEGRATION = re.compile(r"catalog integration '?\"?([\w$.]+)", re.IGNORECASE)
_PART = r'"(?:[^"]|"")+"'
_NAME = rf"(?P<name>{_PART}(?:\.{_PART})*)"
# What a statement takes, by how it begins; the first that fits. Names are those of `sql.identifier`.
_TAKES = tuple(
    (re.compile(pattern.replace("NAME", _NAME), re.DOTALL | re.IGNORECASE), takes)
    for pattern, takes in (
        (r"ALTER ICEBERG TABLE NAME REFRESH", "OWNERSHIP ON TABLE {name}"),
        (r"(?:WITH|SELECT)\b.*?NAME", "SELECT ON TABLE {name}"),
        (r"CREATE RESOURCE MONITOR ", "ROLE ACCOUNTADMIN"),  # no privilege is enough
        (r"CREATE (?:OR REPLACE )?(?:SECURE )?(?P<kind>[A-Z ]+?) (?:IF NOT EXISTS )?NAME", ""),
        (r"(?:ALTER|DROP) (?P<kind>[A-Z ]+?) (?:IF EXISTS )?NAME", "OWNERSHIP ON {kind} {name}"),
        (r"COMMENT ON (?P<kind>[A-Z ]+?) NAME", "OWNERSHIP ON {kind} {name}"),
        (r"(?:GRANT|REVOKE) .* ON (?P<kind>[A-Z ]+?) NAME", "OWNERSHIP ON {kind} {name}"),
        (r"(?:GRANT|REVOKE) ", "MANAGE GRANTS ON ACCOUNT"),
        (r"SHOW (?:FUTURE )?GRANTS ", "MANAGE GRANTS ON ACCOUNT"),
        (r"SHOW [A-Z ]+ IN (?P<kind>DATABASE|SCHEMA) NAME", "USAGE ON {kind} {name}"),
        (r"DESCRIBE (?P<kind>[A-Z ]+?) NAME", "USAGE ON {kind} {name}"),
    )
)
# Where something is made: it takes CREATE on what it will be in.
_WITHIN = ("ON ACCOUNT", "ON DATABASE {within}", "ON SCHEMA {within}")
# What Snowflake says was refused, maybe another object than the statement's own; and what that takes.
_REFUSED = re.compile(r"operate on ([a-z _]+?) '([^']+)'", re.IGNORECASE)
_USES = {
    **dict.fromkeys(("INTEGRATION", "EXTERNAL VOLUME", "WAREHOUSE", "DATABASE", "SCHEMA"), "USAGE"),
    **dict.fromkeys(("MASKING POLICY", "ROW ACCESS POLICY", "TAG"), "APPLY"),
    **dict.fromkeys(("TABLE", "VIEW"), "SELECT"),
}
_PARTS = {"SCHEMA": 2} | dict.fromkeys(("MASKING POLICY", "ROW ACCESS POLICY", "TAG", "TABLE", "VIEW"), 3)


def refusal(
    number: int | None, said: str, statement: str, role: str | None, warehouse: str | None = None
) -> SnowflakeError:
    """Say what was refused, to whom, of which object, and what mends it.

    Args:
        number: of Snowflake's error; `said` is its text, in one line.
        role: that asked; None is the user's default role. `warehouse` is the session's, if one was named.
    """
    who = f"role {role}" if role else "the user's default role"
    takes = _refused(said, statement) or grant_for(statement)
    grant = (
        f"GRANT {takes} TO ROLE {role or '…'}" if takes else f"grant it what this takes: {_shown(statement)}"
    )
    if number in _NO_WAREHOUSE:
        hint = _NO_WAREHOUSE[number].format(warehouse=warehouse or "…", role=role or "…")
        return NoWarehouse(f"no warehouse runs for {who}: {said}", hint)
    if number in _NO_CATALOG:
        found = _INTEGRATION.search(said)
        name = found[1] if found else "…"
        return CatalogUnreachable(
            f"Snowflake does not get to the lake's catalog: {said}",
            f"SELECT SYSTEM$VERIFY_CATALOG_INTEGRATION('{name}') says more; see snowflake.catalog_uri "
            f"and the catalog's credentials; the role needs USAGE ON INTEGRATION {name}",
        )
    if number in _MISSING:
        return Missing(
            f"{who} finds no such object: {said}",
            f"`paywave snowflake plan` says whether it is missing; else {grant}, and USAGE on what it is in",
        )
    if number in _DENIED or "nsufficient privileges" in said:
        return Denied(f"{who} may not: {said}", grant)
    return SnowflakeError(f"Snowflake refused a statement: {said}", f"it was: {_shown(statement)}")


def grant_for(statement: str) -> str | None:
    """Say which privilege on which object a statement takes; None where its beginning does not tell."""
    for pattern, takes in _TAKES:
        if found := pattern.match(statement.strip()):
            parts = found.groupdict()
            kind = str(parts.get("kind")).upper()
            if not takes:
                return _creating(kind, parts["name"])
            return takes.format_map(parts | {"kind": GRANTED_ON.get(kind, kind)})
    return None


def _refused(said: str, statement: str) -> str | None:
    """The privilege on the object that Snowflake refused; None where that is the one the statement tells."""
    found = _REFUSED.search(said)
    kind = found[1].upper().replace("_", " ") if found else ""
    kind = GRANTED_ON.get(kind, kind)
    if found is None or kind not in _USES:
        return None
    name = _full_name(kind, found[2], statement)
    if (grant_for(statement) or "").endswith(f" ON {kind} {name}"):
        return None
    is_own = re.match(rf"CREATE [A-Z ]*{kind} (IF NOT EXISTS )?{re.escape(name)}", statement.strip())
    return f"{'OWNERSHIP' if is_own else _USES[kind]} ON {kind} {name}"


def _full_name(kind: str, said: str, statement: str) -> str:
    """An object's quoted name: Snowflake leaves out what it is in, the statement does not."""
    last, size = said.rpartition(".")[2].strip('"'), _PARTS.get(kind, 1)
    for found in re.finditer(_NAME, statement):
        parts = re.findall(_PART, found["name"])
        if len(parts) >= size and parts[size - 1] == f'"{last}"':
            return ".".join(parts[:size])
    return f'"{last}"'


def _creating(kind: str, name: str) -> str:
    """The privilege to make an object, on what it will be in."""
    parts = re.findall(_PART, name)
    kind = kind.replace("CATALOG INTEGRATION", "INTEGRATION")
    return f"CREATE {kind} " + _WITHIN[len(parts) - 1].format(within=".".join(parts[:-1]))


def _shown(statement: str) -> str:
    """The beginning of a statement, without the values in it."""
    return _QUOTED.sub("…", statement)[:120]
