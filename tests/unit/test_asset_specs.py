"""Every asset as it was reviewed; `python -m tests.unit.test_asset_specs` renews the snapshot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.definitions import build_defs
from assets.lake import Lake
from assets.tables import key_of, table_of
from lakehouse.definitions import BY_NAME

SNAPSHOT = Path(__file__).parent.parent / "data" / "asset_specs.json"


def rendered() -> dict[str, Any]:
    """Everything that a person reads in the graph about an asset."""
    defs = build_defs()
    return {
        spec.key.to_user_string(): {
            "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
            "description": spec.description,
            "group": spec.group_name,
            "owners": list(spec.owners),
            "tags": {name: value for name, value in spec.tags.items() if not name.startswith("dagster/")},
            "kinds": sorted(spec.kinds),
            "partitioned": spec.partitions_def is not None,
            "automation": spec.automation_condition is not None,
            "columns": _columns(spec.metadata),
            "checks": sorted(_checks(defs, spec.key)),
        }
        for spec in sorted(defs.resolve_all_asset_specs(), key=lambda spec: spec.key)
    }


def _columns(metadata: Any) -> list[str]:
    schema = metadata.get("dagster/column_schema")
    columns = (schema.value if hasattr(schema, "value") else schema).columns if schema is not None else []
    return [f"{c.name} {c.type}{'' if c.constraints.nullable else ' not null'}" for c in columns]


def _checks(defs: dg.Definitions, key: dg.AssetKey) -> list[str]:
    keys = defs.resolve_asset_graph().asset_check_keys
    return [check.name for check in keys if check.asset_key == key]


def test_the_graph_is_as_it_was_reviewed() -> None:
    assert rendered() == json.loads(SNAPSHOT.read_text()), (
        "the graph has changed: look at the difference, then `python -m tests.unit.test_asset_specs` keeps it"
    )


def test_every_table_is_in_the_graph_with_its_columns() -> None:
    graph = rendered()
    for name, table in BY_NAME.items():
        columns = graph[key_of(name).to_user_string()]["columns"]
        assert [column.split()[0] for column in columns] == [column.name for column in table.columns]
        assert table_of(key_of(name)) == name


def test_every_asset_has_an_owner_a_description_and_a_layer() -> None:
    for key, spec in rendered().items():
        assert spec["owners"], key
        assert spec["description"], key
        assert spec["tags"].get("layer"), key


def test_whatever_reads_the_lake_can_be_given_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Lake(home="/nowhere")
    assert build_defs({"lake": mine}).resources["lake"] is mine


def test_definitions_can_be_run() -> None:
    dg.Definitions.validate_loadable(build_defs())


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(rendered(), indent=1, sort_keys=True) + "\n")
