"""What removes files or locks the bucket leaves a trace before it begins, and does nothing without one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from pyiceberg.catalog.sql import SqlCatalog

from cli.commands import integrity, maintain
from cli.main import paywave
from lakehouse.access_log import AccessLog
from lakehouse.errors import OutcomeUnknown, TrailUnwritable
from lakehouse.immutability.policy import Change

DONE: list[str] = []
COMMANDS = {
    "maintain expire": ["maintain", "expire", "--table", "curated.payments"],
    "maintain orphans": ["maintain", "orphans", "--table", "curated.payments"],
    "integrity bucket apply": ["integrity", "bucket", "apply"],
}


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A lake with a trail, and work that only says that it was done."""
    made: Any = SqlCatalog("lake", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}")
    monkeypatch.setenv("PAYWAVE_HOME", str(tmp_path))
    monkeypatch.setenv("PAYWAVE_IMMUTABILITY__MODE", "governance")
    monkeypatch.setenv("PAYWAVE_IMMUTABILITY__BUCKET", "raw-lake")
    DONE.clear()

    def work(*_: Any, **__: Any) -> Any:
        DONE.extend(e.result for e in AccessLog(made).entries())
        return SimpleNamespace(table="t", snapshots=1, files=7, listed=9, bytes=1, young=0, paths=(),
                               as_json=dict, before=None, after=None)  # fmt: skip

    class Expirer:
        def __init__(self, *_: Any) -> None: ...

        def run(self, *_: Any) -> Any:
            return [work()]

    changes = (Change("versioning", "is off", False),)
    bucket = SimpleNamespace(name="raw-lake", plan=lambda: SimpleNamespace(changes=changes), apply=work)
    monkeypatch.setattr("lakehouse.maintenance.expire.Expirer", Expirer)
    monkeypatch.setattr("lakehouse.maintenance.orphans.remove_orphans", work)
    monkeypatch.setattr(integrity, "_bucket", lambda _settings: bucket)
    monkeypatch.setattr(maintain, "_show", lambda *_: None)
    for module in (integrity, maintain):
        monkeypatch.setattr(module, "catalog_of", lambda _settings: made)
    return made


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_recorded_before_it_begins_and_with_what_came_out(catalog: Any, command: str) -> None:
    done = CliRunner().invoke(paywave, COMMANDS[command])
    assert done.exit_code == 0, done.output
    assert DONE == ["begun"]
    begun, ended = AccessLog(catalog).entries()
    assert begun.action == ended.action == command
    assert ended.result == ("done: versioning" if "bucket" in command else "done: 7 files gone")


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_not_begun_unrecorded(catalog: Any, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unanswered(*_: object) -> None:
        raise OutcomeUnknown("the catalog is silent")

    monkeypatch.setattr(AccessLog, "append", unanswered)
    refused = CliRunner().invoke(paywave, COMMANDS[command])
    assert isinstance(refused.exception, TrailUnwritable) and not DONE


@pytest.mark.parametrize("command", list(COMMANDS)[:2])
def test_a_dry_run_that_removes_nothing_leaves_no_trace(catalog: Any, command: str) -> None:
    assert CliRunner().invoke(paywave, [*COMMANDS[command], "--dry-run"]).exit_code == 0
    assert not list(AccessLog(catalog).entries())
