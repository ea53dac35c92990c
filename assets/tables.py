"""What the graph shows of every table: owner, description, tags, columns, and what it is made of.

Belongs here: specs, made from the tables' own definitions, and of what lies outside.
Does not: what materializes them (`hours.py`, `maintenance.py`), what they hold now (`metadata.py`).
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from pyiceberg.types import ListType, StructType

from lakehouse.definitions import (
    BY_NAME,
    DRIFT,
    FILE_DIGESTS,
    GATE_LOG,
    PARTNER_FILES,
    PARTNER_HOURS,
    PAYMENTS,
    PUBLISH_LOG,
    QUARANTINE,
    RAW,
    RECONCILIATION,
    RETENTION_LOG,
    TRANSACTIONS,
    VERSIONS,
    Table,
)
from snowflake_external.estate import EXPOSED

OWNER = "team:data-engineering"
TOPIC = dg.AssetKey(["kafka", "payments_events"])
AUDIT_EXPORTS = dg.AssetKey(["audit", "exports"])


def schema_of(*columns: tuple[str, str, str]) -> dg.TableSchema:
    """Say the columns of what is no table of ours: name, type and meaning of each; none is null."""
    always = dg.TableColumnConstraints(nullable=False)
    return dg.TableSchema([dg.TableColumn(name, kind, meaning, always) for name, kind, meaning in columns])


# An export as the chain has it, one after another; its files have the columns of the tables themselves.
_EXPORT = schema_of(
    ("number", "long", "Its number in the chain, from 1."),
    ("name", "string", "Its folder below audit.exports."),
    ("id", "string", "Its tables carry the tag audit-ID."),
    ("created", "timestamptz", "When it was begun."),
    ("scope", "string", "What was asked for, e.g. account:ID."),
    ("standing", "boolean", "Late data have it made again."),
    ("rows", "long", "Rows of all its tables."),
    ("files", "long", "Files that its manifest names."),
    ("bytes", "long", "Their size."),
    ("manifest_sha256", "string", "What is signed, and what the next one names."),
)
# Tables whose rows are money or identity: a person who changes one knows what follows.
_TIER_1 = frozenset({RAW, VERSIONS, PAYMENTS, TRANSACTIONS, QUARANTINE})
_MADE_OF: Mapping[str, tuple[str, ...]] = {
    VERSIONS: (RAW,),
    PAYMENTS: (VERSIONS,),
    TRANSACTIONS: (PAYMENTS,),
    QUARANTINE: (RAW,),
    DRIFT: (RAW,),
    PARTNER_HOURS: (RAW,),
    GATE_LOG: (PARTNER_HOURS,),
    PUBLISH_LOG: (VERSIONS, PAYMENTS, QUARANTINE),
    RETENTION_LOG: (RAW,),
    FILE_DIGESTS: (RAW,),
    RECONCILIATION: (RAW, VERSIONS, PAYMENTS, QUARANTINE, TRANSACTIONS, PARTNER_FILES),
}


def key_of(name: str) -> dg.AssetKey:
    """The key of a table: `curated.payments` is curated/payments."""
    return dg.AssetKey(name.split("."))


def table_of(key: dg.AssetKey) -> str:
    """The table that a key names."""
    return ".".join(key.path)


def spec_of(name: str) -> dg.AssetSpec:
    """What the graph shows of a table."""
    table = BY_NAME[name]
    layer = name.split(".")[0]
    return dg.AssetSpec(
        key_of(name),
        deps=[*map(key_of, _MADE_OF.get(name, ())), *([TOPIC] if name == RAW else [])],
        description=table.meaning,
        group_name=layer,
        owners=[OWNER],
        tags={"layer": layer, "tier": "1" if name in _TIER_1 else "2"},
        kinds={"iceberg"},
        metadata={
            "dagster/table_name": name,
            "dagster/column_schema": columns_of(table),
            "key": ", ".join(table.key),
            "partitions": ", ".join(_partitions(table)) or "none",
        },
    )


def outside_specs() -> list[dg.AssetSpec]:
    """What others write: the topic, the exports of audits, and what Snowflake shows."""
    topic = dg.AssetSpec(
        TOPIC,
        description="Events as partners and services send them, acknowledged by all replicas in sync.",
        group_name="kafka",
        owners=[OWNER],
        tags={"layer": "kafka", "tier": "1"},
        kinds={"kafka"},
    )
    exports = dg.AssetSpec(
        AUDIT_EXPORTS,
        deps=[key_of(name) for name in (RAW, PAYMENTS, TRANSACTIONS, QUARANTINE, RECONCILIATION)],
        description="Extracts for auditors, pinned to the snapshots that they were made from.",
        group_name="audit",
        owners=[OWNER],
        tags={"layer": "audit", "tier": "1"},
        metadata={"dagster/column_schema": _EXPORT},
    )
    return [topic, exports, *map(_in_snowflake, EXPOSED)]


def snowflake_key(name: str) -> dg.AssetKey:
    """The key of what Snowflake shows of a table."""
    return dg.AssetKey(["snowflake", *name.split(".")])


def columns_of(table: Table) -> dg.TableSchema:
    """A table's columns with their meaning, as the pages show them."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                column.name,
                _type(column.type),
                column.meaning,
                dg.TableColumnConstraints(nullable=not column.required),
            )
            for column in table.columns
        ]
    )


def _in_snowflake(name: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        snowflake_key(name),
        deps=[key_of(name)],
        description=f"{name} as Snowflake reads it in place, through the catalog integration.",
        group_name="snowflake",
        owners=[OWNER],
        tags={"layer": "snowflake", "tier": "1"},
        kinds={"snowflake"},
        metadata={"dagster/column_schema": columns_of(BY_NAME[name])},
    )


def _partitions(table: Table) -> list[str]:
    hours = [f"hours({table.hour_of})"] if table.hour_of else []
    return hours + ([f"bucket({table.bucket_of})"] if table.bucket_of else [])


def _type(kind: Any) -> str:
    """Name a type on one line; a struct by its fields."""
    if isinstance(kind, ListType):
        return f"list<{_type(kind.element_type)}>"
    if isinstance(kind, StructType):
        return f"struct<{', '.join(field.name for field in kind.fields)}>"
    return str(kind)
