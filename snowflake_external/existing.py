"""What Snowflake has now, in the same words as what it should have.

Belongs here: SHOW and DESCRIBE, and making facts of their rows. Does not: grants (`privileges.py`), comparing
(`plan.py`), the connection (`session.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Protocol

from snowflake_external.errors import Missing, NoWarehouse
from snowflake_external.resources import MARK, Key, Kind, hung, listed, normal, tagged
from snowflake_external.sql import identifier, literal

Row = Mapping[str, Any]


class Ask(Protocol):
    """Runs a statement, with values for its placeholders, and returns rows by lower-case column name."""

    def __call__(self, text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]: ...


_PLURAL = {Kind.MASKING_POLICY: "MASKING POLICIES", Kind.ROW_POLICY: "ROW ACCESS POLICIES"}
_PAIR = re.compile(r"(\w+)\s*[=:]\s*\"?([^,}\"]*)")


class Account:
    """Reads the objects of an account; each list is asked for once."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._listed = cache(self._list)

    def facts(self, key: Key) -> dict[str, str] | None:
        """The facts of an object, as far as Snowflake tells them; None where there is none."""
        row = next((row for row in self._rows(key) if _name(row) == key.name[-1]), None)
        if row is None:
            return None
        told = _READ[key.kind](self, key, row) if key.kind in _READ else {}
        return {**told, "COMMENT": str(row.get("comment") or "")}

    def ours(self, kinds: Iterable[Key]) -> Iterator[Key]:
        """Every object that carries our mark, of the kinds and in the containers that some keys name."""
        seen = {(key.kind, key.name[:-1]) for key in kinds}
        for kind, container in sorted(seen, key=str):
            for row in self._rows(Key(kind, (*container, ""))):
                if str(row.get("comment") or "").endswith(MARK):
                    yield Key(kind, (*container, _name(row)))

    def property_rows(self, key: Key) -> dict[str, str]:
        """What DESCRIBE says of an object that it describes by properties."""
        rows = self._ask(f"DESCRIBE {key.kind} {identifier(*key.name)}")
        return {str(row["property"]).upper(): str(row["property_value"] or "") for row in rows}

    def described(self, key: Key) -> Row:
        """The one row that DESCRIBE has of a policy."""
        return self._ask(f"DESCRIBE {key.kind} {identifier(*key.name)}")[0]

    def hung_on(self, view: Key) -> dict[str, str]:
        """The policies and tags of ours that are on a view, whatever its text says.

        It takes a warehouse. Where none runs, that is the fact: such a view differs, and is made over.
        """
        name = literal(identifier(*view.name))
        tables = f"{identifier(view.name[0])}.INFORMATION_SCHEMA"
        try:
            policies = self._ask(
                "SELECT policy_db, policy_schema, policy_name, policy_status, ref_column_name, "  # noqa: S608
                f"ref_arg_column_names FROM TABLE({tables}.POLICY_REFERENCES("
                f"REF_ENTITY_NAME => {name}, REF_ENTITY_DOMAIN => 'VIEW'))"
            )
            tags = self._ask(
                "SELECT tag_database, tag_schema, tag_name, tag_value, level, column_name "  # noqa: S608
                f"FROM TABLE({tables}.TAG_REFERENCES({name}, 'TABLE'))"  # so for views too
            )
        except NoWarehouse as error:
            return dict.fromkeys(("POLICIES", "TAGS"), f"not to be seen: {error}")
        own = view.name[:1]
        return {
            "POLICIES": listed(_policy_on(row) for row in policies if _is_active(row, own)),
            "TAGS": listed(_tag_on(row) for row in tags if _is_direct(row, own)),
        }

    def linked(self, database: str) -> dict[str, Any]:
        """How a database follows its catalog; empty where it does not."""
        call = f"SELECT SYSTEM$GET_CATALOG_LINKED_DATABASE_CONFIG({literal(database)}) AS config"
        (row,) = self._ask(call)
        found: dict[str, Any] = json.loads(row["config"] or "{}")
        return found

    def _rows(self, key: Key) -> list[dict[str, Any]]:
        return self._listed(key.kind, key.name[:-1])

    def _list(self, kind: Kind, container: tuple[str, ...]) -> list[dict[str, Any]]:
        plural = _PLURAL.get(kind, f"{kind}S")
        within = "" if not container else f" IN {'DATABASE' if len(container) == 1 else 'SCHEMA'} "
        try:
            return self._ask(f"SHOW {plural}{within}{identifier(*container) if container else ''}")
        except Missing:  # what it would be in is yet to be made
            return []


def _policy_on(row: Row) -> str:
    """One row of POLICY_REFERENCES: a mask is on a column, a row access policy takes some."""
    columns = [row["ref_column_name"]] if row["ref_column_name"] else json.loads(row["ref_arg_column_names"])
    return hung((row["policy_db"], row["policy_schema"], row["policy_name"]), ", ".join(columns))


def _is_active(row: Row, database: tuple[str, ...]) -> bool:
    return (row["policy_db"],) == database and row["policy_status"] == "ACTIVE"


def _tag_on(row: Row) -> str:
    return tagged((row["tag_database"], row["tag_schema"], row["tag_name"]), row["tag_value"])


def _is_direct(row: Row, database: tuple[str, ...]) -> bool:
    """Whether a tag is one of ours, and on the view itself: its database's and schema's are told too."""
    return (row["tag_database"],) == database and row["level"] in ("TABLE", "VIEW") and not row["column_name"]


def _name(row: Row) -> str:
    return str(row["name"])


def _flag(value: object) -> str:
    return "TRUE" if str(value).strip().lower() in {"true", "y", "yes", "on"} else "FALSE"


def _monitor(_account: Account, _key: Key, row: Row) -> dict[str, str]:
    quota = row["credit_quota"]  # which one that was made by hand may lack
    return {
        "CREDIT_QUOTA": "None" if quota is None else str(int(float(quota))),
        "FREQUENCY": str(row["frequency"]).upper(),
        "NOTIFY_AT": str(row["notify_at"]),
        "SUSPEND_AT": str(row["suspend_at"]),
    }


def _warehouse(_account: Account, _key: Key, row: Row) -> dict[str, str]:
    return {
        "WAREHOUSE_SIZE": str(row["size"]).upper().replace("-", ""),
        "AUTO_SUSPEND": str(row["auto_suspend"]),
        "AUTO_RESUME": _flag(row["auto_resume"]),
        "RESOURCE_MONITOR": identifier(str(row["resource_monitor"] or "null")).upper(),
    }


def _volume(account: Account, key: Key, _row: Row) -> dict[str, str]:
    told = account.property_rows(key)
    facts = {"ALLOW_WRITES": _flag(told["ALLOW_WRITES"])} if "ALLOW_WRITES" in told else {}
    places = [value for name, value in sorted(told.items()) if re.fullmatch(r"STORAGE_LOCATION_\d+", name)]
    for number, place in enumerate(places, start=1):
        facts |= {f"STORAGE_LOCATIONS.{number}.{name}": value for name, value in _object(place).items()}
    return facts


def _catalog(account: Account, key: Key, _row: Row) -> dict[str, str]:
    told = account.property_rows(key)
    plain = ["CATALOG_SOURCE", "TABLE_FORMAT", "REFRESH_INTERVAL_SECONDS"]
    facts = {name: told[name] for name in plain if name in told}
    facts |= {"ENABLED": _flag(told["ENABLED"])} if "ENABLED" in told else {}
    for group in ("REST_CONFIG", "REST_AUTHENTICATION"):
        facts |= {f"{group}.{name}": value for name, value in _object(told.get(group, "")).items()}
    return facts


def _database(account: Account, key: Key, row: Row) -> dict[str, str]:
    if "LINKED" not in str(row.get("kind") or "").upper():
        return {"LINKED": "FALSE"}
    told = account.linked(key.name[0])
    named = {"CATALOG": "catalog_integration", "SYNC_INTERVAL_SECONDS": "sync_interval_seconds"}
    named |= {"ALLOWED_WRITE_OPERATIONS": "allowed_write_operations"}
    facts = {f"LINKED_CATALOG.{ours}": str(told[name]) for ours, name in named.items() if name in told}
    if "allowed_namespaces" in told:  # null is all of them
        facts["LINKED_CATALOG.ALLOWED_NAMESPACES"] = listed(told["allowed_namespaces"] or [])
    if "catalog_case_sensitivity" in told:
        facts["CATALOG_CASE_SENSITIVITY"] = str(told["catalog_case_sensitivity"])
    return facts | {"LINKED": "TRUE", "EXTERNAL_VOLUME": str(told.get("external_volume") or "")}


def _tag(_account: Account, _key: Key, row: Row) -> dict[str, str]:
    allowed = json.loads(row["allowed_values"] or "[]")
    return {"ALLOWED_VALUES": listed(allowed)}


def _iceberg_table(_account: Account, _key: Key, row: Row) -> dict[str, str]:
    facts = {
        "EXTERNAL_VOLUME": str(row["external_volume_name"]),
        "CATALOG": str(row["catalog_name"]),
        "CATALOG_TABLE_NAME": str(row["catalog_table_name"]),
        "CATALOG_NAMESPACE": str(row["catalog_namespace"]),
    }
    if "auto_refresh_status" in row:
        facts["AUTO_REFRESH"] = str(bool(row["auto_refresh_status"])).upper()
    return facts


def _policy(account: Account, key: Key, _row: Row) -> dict[str, str]:
    return {"BODY": normal(str(account.described(key)["body"]))}


def _view(account: Account, key: Key, row: Row) -> dict[str, str]:
    text = str(row["text"])
    body = normal(text[text.find("(") :])
    return {"BODY": body, "SECURE": _flag(row["is_secure"]), **account.hung_on(key)}


def _object(text: str) -> dict[str, str]:
    """Read a value that is an object: as JSON, or as `{NAME=value, …}`."""
    try:
        found = json.loads(text)
    except ValueError:
        told = {name.upper(): value.strip() for name, value in _PAIR.findall(text)}
        return {name: value for name, value in told.items() if value[:1] not in "[("}  # no lists
    if not isinstance(found, dict):
        return {}
    return {str(name).upper(): _value(value) for name, value in found.items()}


def _value(value: object) -> str:
    return listed(map(str, value)) if isinstance(value, list) else str(value)


_READ: Mapping[Kind, Callable[[Account, Key, Row], dict[str, str]]] = {
    Kind.MONITOR: _monitor,
    Kind.WAREHOUSE: _warehouse,
    Kind.VOLUME: _volume,
    Kind.CATALOG: _catalog,
    Kind.DATABASE: _database,
    Kind.TAG: _tag,
    Kind.ICEBERG_TABLE: _iceberg_table,
    Kind.MASKING_POLICY: _policy,
    Kind.ROW_POLICY: _policy,
    Kind.VIEW: _view,
}
