"""The same objects for Terraform, as JSON: those whose resources the provider calls stable.

Belongs here: the provider's words for them. Does not: which objects there are (`estate.py`).

Volume, catalog integration, Iceberg tables and a linked database stay with `apply`: the provider has them as
previews, or not at all. So do views and policies, whose text it writes in its own way: plans would not agree;
and grants on what stays with `apply`, which is not there yet when Terraform runs first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from snowflake_external.resources import Estate, Grant, Key, Kind, Resource
from snowflake_external.sql import Word

_PROVIDER = {"source": "snowflakedb/snowflake", "version": "~> 2.0"}
_TYPES: Mapping[Kind, str] = {
    Kind.MONITOR: "snowflake_resource_monitor",
    Kind.WAREHOUSE: "snowflake_warehouse",
    Kind.ROLE: "snowflake_account_role",
    Kind.DATABASE: "snowflake_database",
    Kind.SCHEMA: "snowflake_schema",
    Kind.TAG: "snowflake_tag",
}
_ON_ACCOUNT = frozenset({Kind.WAREHOUSE, Kind.DATABASE})


def configuration(estate: Estate) -> dict[str, Any]:
    """Render a root module: `terraform.required_providers` and `resource`, as `main.tf.json` has them.

    Objects name each other by references: so Terraform makes each after what it stands on.
    """
    stable = {resource.key for resource in estate.resources if is_stable(resource)}
    found: dict[str, dict[str, Any]] = {}
    for resource in estate.resources:
        if resource.key in stable:
            arguments = _arguments(resource, stable)
            found.setdefault(_TYPES[resource.key.kind], {})[_label(resource.key.name)] = arguments
    for given in estate.grants:
        if given.on in stable:
            kind, arguments = _grant(given)
            found.setdefault(kind, {})[_label([given.role, given.privilege, *given.on.name])] = arguments
    return {"terraform": {"required_providers": {"snowflake": _PROVIDER}}, "resource": found}


def is_stable(resource: Resource) -> bool:
    """Tell whether Terraform takes a resource."""
    is_linked = any(name == "LINKED_CATALOG" for name, _ in resource.properties)
    return resource.key.kind in _TYPES and not is_linked


def _arguments(resource: Resource, stable: Iterable[Key]) -> dict[str, Any]:
    kind, name = resource.key.kind, resource.key.name
    given = {key.lower(): _value(value) for key, value in resource.properties}
    if kind is Kind.MONITOR:
        notify, suspend = (int(str(given.pop(at)).rstrip("%")) for at in ("notify_at", "suspend_at"))
        # The provider takes a frequency only with a time to start at; monthly is what there is without.
        assert given.pop("frequency") == "MONTHLY"
        return {"name": name[0], **given, "notify_triggers": [notify], "suspend_trigger": suspend}
    where = {key.kind.value.lower(): _reference(key, "name") for key in resource.stands_on if key in stable}
    if kind is Kind.WAREHOUSE:
        (monitor,) = resource.on
        given["resource_monitor"], where = _reference(monitor, "fully_qualified_name"), {}
    return {**where, "name": name[-1], **given, "comment": resource.comment}


def _grant(given: Grant) -> tuple[str, dict[str, Any]]:
    role = _reference(Key(Kind.ROLE, (given.role,)), "name")
    if given.on.kind is Kind.ROLE:
        return "snowflake_grant_account_role", {
            "role_name": _reference(given.on, "name"),
            "parent_role_name": role,
        }
    return "snowflake_grant_privileges_to_account_role", {
        "account_role_name": role,
        "privileges": [given.privilege],
        **_on(given.on),
    }


def _on(key: Key) -> dict[str, Any]:
    name = _reference(key, "fully_qualified_name")
    if key.kind in _ON_ACCOUNT:
        return {"on_account_object": {"object_type": key.kind.value, "object_name": name}}
    if key.kind is Kind.SCHEMA:
        return {"on_schema": {"schema_name": name}}
    return {"on_schema_object": {"object_type": key.kind.value, "object_name": name}}


def _reference(key: Key, attribute: str) -> str:
    return f"${{{_TYPES[key.kind]}.{_label(key.name)}.{attribute}}}"


def _value(value: object) -> object:
    if isinstance(value, Word):
        return value.strip('"')
    return list(value) if isinstance(value, tuple) else value


def _label(parts: Iterable[str]) -> str:
    return "_".join(parts).lower()
