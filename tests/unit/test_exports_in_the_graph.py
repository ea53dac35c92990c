"""Audit exports as the graph is told of them: the newest that is finished, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.lake import Lake
from assets.new_exports import new_exports
from assets.tables import AUDIT_EXPORTS
from lakehouse.definitions import PAYMENTS, RAW
from lakehouse.exports.chain import link_of
from lakehouse.exports.manifest import FORMAT, MANIFEST, Manifest
from lakehouse.exports.store import FolderStore

ASKED = ("scope", "from", "to", "as_of", "tag", "reason", "requested_by", "csv", "standing")


def manifest(number: int) -> Manifest:
    files = [{"path": "a.parquet", "bytes": 300, "sha256": "00"}, {"path": "b", "bytes": 50, "sha256": "01"}]
    pinned = {
        "tables": {PAYMENTS: {"snapshot": 2**60 + 1}, RAW: {"snapshot": 8}},
        "remarks": [],
        "offsets": {},
    }
    return Manifest.made(
        {
            "format": FORMAT,
            "export": {"id": f"id{number}", "name": f"export-{number}"},
            "sequence": number,
            "previous": None,
            "root": "",
            "files": files,
            "rows": {PAYMENTS: 7, RAW: 11},
            "money": [],
            "schemas": {},
            "pinned": pinned,
            "tool": {"pyarrow": "1"},
            "created": "2026-11-26T12:00:00+00:00",
            "contract_version": 1,
            "request": dict.fromkeys(ASKED) | {"scope": "all", "standing": True},
            "reconciliation": {"exported": {"breaks": [], "statement": []}, "lake": {"breaks": []}},
        }
    )


class Exports:
    """A home with exports."""

    def __init__(self, home: Path) -> None:
        self.lake = Lake(home=str(home))
        self.store = FolderStore(home / "exports")

    def claim(self, number: int) -> None:
        self.store.put(link_of(number), manifest(number).data)

    def finish(self, number: int) -> None:
        self.store.put(f"export-{number}/{MANIFEST}", manifest(number).data)

    def tick(self, cursor: str | None) -> Any:
        with dg.build_sensor_context(cursor=cursor, resources={"lake": self.lake}) as context:
            return new_exports(context)


@pytest.fixture
def exports(tmp_path: Path) -> Exports:
    return Exports(tmp_path)


def test_the_newest_export_is_told_of_once(exports: Exports) -> None:
    assert isinstance(exports.tick(None), dg.SkipReason), "no export, and no folder of them"
    for number in (1, 2):
        exports.claim(number)
        exports.finish(number)
    found = exports.tick(None)
    (event,) = found.asset_events
    assert event.asset_key == AUDIT_EXPORTS
    told = {name: value.value for name, value in event.metadata.items() if name != "tables"}
    assert told.items() >= {"number": 2, "name": "export-2", "files": 2, "bytes": 350}.items()
    assert told["dagster/row_count"] == 18
    assert told["manifest_sha256"] == manifest(2).sha256
    assert told["verify"].startswith(f"`paywave audit verify {exports.store}/export-2 ")
    rows = [row.data for row in event.metadata["tables"].records]
    assert rows == [
        {"table": PAYMENTS, "snapshot_id": str(2**60 + 1), "rows": 7},
        {"table": RAW, "snapshot_id": "8", "rows": 11},
    ]
    assert isinstance(exports.tick(found.cursor), dg.SkipReason)


def test_one_that_is_not_finished_or_unreadable_is_left_for_later(exports: Exports) -> None:
    exports.claim(1)
    exports.finish(1)
    first = exports.tick(None)
    exports.claim(2)
    assert isinstance(exports.tick(first.cursor), dg.SkipReason), "its files are on their way"
    exports.claim(3)
    exports.finish(3)
    exports.store.put(link_of(4), b"{}")
    (event,) = exports.tick(first.cursor).asset_events
    assert event.metadata["number"].value == 3
    exports.finish(2)
    exports.claim(4)
    exports.finish(4)
    (event,) = exports.tick("3").asset_events
    assert event.metadata["number"].value == 4
