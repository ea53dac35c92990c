"""Audit exports as the retention plan finds them: by the date in each manifest."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from lakehouse.maintenance.old_exports import exports_in
from lakehouse.retention_plan import Export


def test_exports_are_listed_with_the_date_of_their_manifest(tmp_path: Path) -> None:
    for name, text in (
        ("dated", json.dumps({"created": "2026-01-02T03:04:05+00:00"})),
        ("broken", "{"),
        ("naive", json.dumps({"created": "2026-01-02T03:04:05"})),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(text)
    (tmp_path / "no-export").mkdir()
    (tmp_path / "file").touch()
    found = sorted(exports_in(str(tmp_path), {}), key=lambda export: export.name)
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert found == [Export("broken", None), Export("dated", at), Export("naive", None)]
    assert exports_in(str(tmp_path / "nowhere"), {}) == []
