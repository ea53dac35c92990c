"""The list of exports: each of the chain once, with its date, also where its manifest cannot be read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from assets.export_store import export_store
from cli.stores import _exports
from config.settings import Settings
from lakehouse.exports.chain import link_of
from lakehouse.exports.listing import DONE, MISSING, UNREADABLE, listed_in
from lakehouse.exports.manifest import FORMAT, MANIFEST, Manifest
from lakehouse.exports.store import FolderStore, S3Store
from lakehouse.retention_plan import Export

_ASKED = ("scope", "from", "to", "as_of", "tag", "reason", "requested_by", "csv", "standing")
AT = "2026-01-02T03:04:05+00:00"


def fill(root: Path) -> None:
    """Four exports: one there, one gone, one without a time zone, one whose manifest is none."""
    for number, (name, created) in enumerate({"there": AT, "gone": AT, "naive": AT[:19]}.items(), start=1):
        value: dict[str, Any] = {
            "format": FORMAT, "export": {"name": name, "id": f"{number}"}, "sequence": number,
            "previous": None, "root": "", "files": [], "rows": {"raw": 1}, "created": created,
            "request": dict.fromkeys(_ASKED, "all"), "money": [], "schemas": {}, "contract_version": 1,
            "pinned": {"remarks": [], "offsets": {}, "tables": {}}, "tool": {"pyarrow": "1"},
            "reconciliation": {of: {"breaks": [], "statement": ""} for of in ("exported", "lake")},
        }  # fmt: skip
        data = Manifest.made(value).data
        FolderStore(root).put(link_of(number), data)
        if name != "gone":
            FolderStore(root).put(f"{name}/{MANIFEST}", data)
    FolderStore(root).put(link_of(4), b"{")


def test_every_export_of_the_chain_is_listed_with_its_state_and_date(tmp_path: Path) -> None:
    assert listed_in(FolderStore(tmp_path / "nowhere")) == []
    fill(tmp_path)
    found = listed_in(FolderStore(tmp_path))
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert [(one.name, one.state, one.made_at) for one in found] == [
        ("there", DONE, at), ("gone", MISSING, at), ("naive", DONE, None), (link_of(4), UNREADABLE, None),
    ]  # fmt: skip


def test_the_retention_plan_counts_what_is_there_or_cannot_be_told(tmp_path: Path) -> None:
    fill(tmp_path / "exports")
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert list(_exports(Settings(home=tmp_path))) == [
        Export("there", at, "all"), Export("naive", None, "all"), Export(link_of(4), None),
    ]  # fmt: skip


def test_the_store_is_where_the_settings_or_the_caller_say_and_locks_what_is_written(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert str(export_store(settings)) == str(tmp_path / "exports")
    assert str(export_store(settings, str(tmp_path / "other"))) == str(tmp_path / "other")
    asked = {"exports": "s3://bucket/exports", "object_lock": "governance"}
    keys = {"access_key": SecretStr("x"), "secret_key": SecretStr("x")}
    locked = settings.model_copy(
        update={"audit": settings.audit.model_copy(update=asked), "s3": settings.s3.model_copy(update=keys)}
    )
    written, read = export_store(locked, locks=True), export_store(locked)
    assert isinstance(written, S3Store) and isinstance(read, S3Store)
    assert (written.lock.mode, read.lock.mode) == ("governance", "none")
    assert str(read) == "s3://bucket/exports"
