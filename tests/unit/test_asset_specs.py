"""Every asset as it was reviewed; `python -m tests.unit.test_asset_specs` renews the snapshot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.definitions import build_defs
from assets.lake import Lake
from assets.tables import key_of, table_of
from lakehouse.definitions import BY_NAME

MOST_SECONDS = 5.0
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
            "blocking_checks": sorted(_checks(defs, spec.key, blocking=True)),
        }
        for spec in sorted(defs.resolve_all_asset_specs(), key=lambda spec: spec.key)
    }


def _columns(metadata: Any) -> list[str]:
    schema = metadata.get("dagster/column_schema")
    columns = (schema.value if hasattr(schema, "value") else schema).columns if schema is not None else []
    return [f"{c.name} {c.type}{'' if c.constraints.nullable else ' not null'}" for c in columns]


def _checks(defs: dg.Definitions, key: dg.AssetKey, blocking: bool = False) -> list[str]:
    """Name an asset's checks, or those only that keep what is made of it from being made."""
    specs = [spec for checks in defs.asset_checks or () for spec in checks.check_specs]
    specs += [spec for asset in defs.assets or () for spec in getattr(asset, "check_specs", ())]
    return [spec.name for spec in specs if spec.asset_key == key and (spec.blocking or not blocking)]


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


def test_checks_whose_gate_blocks_are_blocking_and_no_others() -> None:
    found = {(key, check) for key, spec in rendered().items() for check in spec["blocking_checks"]}
    assert found == {
        ("curated/event_versions", "conservation"),
        ("curated/event_versions", "unique_key"),
        ("curated/payments", "unique_key"),
    }


def test_definitions_load_in_a_fresh_process_within_seconds(capfd: pytest.CaptureFixture[str]) -> None:
    """By the processor's clock: a machine that does other things too takes longer by the wall's."""
    code = (
        "import time; from assets.location import defs; defs.resolve_all_asset_specs(); "
        "print(time.process_time())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds = float(done.stdout.split()[-1])
    with capfd.disabled():
        print(f"\ndefinitions load in {seconds:.1f} s of processor time")
    assert seconds < MOST_SECONDS


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(rendered(), indent=1, sort_keys=True) + "\n")
