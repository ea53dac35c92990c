"""The integrity audit of raw on the real store: what somebody does to a file of it is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from cli.main import paywave
from config.settings import Settings
from lakehouse.catalog import connect
from lakehouse.chain import EMPTY, Tail
from lakehouse.definitions import FILE_DIGESTS, RAW
from lakehouse.errors import LakehouseError
from lakehouse.integrity.check import Checked, Selection, check
from lakehouse.integrity.inventory import wanted_files
from lakehouse.integrity.keeper import DigestKeeper
from lakehouse.integrity.verdict import ALTERED, GROWN, MISSING, TRUNCATED, UNREADABLE, Wanted
from lakehouse.maintenance.expire import Expirer, ExpireSettings
from lakehouse.maintenance.reachable import plain
from lakehouse.tables import ensure_tables
from tests.events import wire_now
from tests.pipeline import Pipeline

pytestmark = pytest.mark.integration
EVERYTHING, NO_AGE = Selection(), timedelta(0)


class Kept:
    """A filled raw table, its files on disk, and the keeper of their digests."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.catalog = pipeline, pipeline.catalog
        for batch in range(3):
            pipeline.send_lines([wire_now(f"{batch}-{n}") for n in range(5)])
            pipeline.run_raw()

    def files(self, kind: str) -> list[Wanted]:
        table = self.catalog.load_table(RAW)
        return [file for file in wanted_files(table, lambda *_: None) if file.kind == kind]

    def on_disk(self, path: str) -> Path:
        """Where the embedded store keeps a file."""
        (found,) = [at for at in self.pipeline.settings.home.rglob(Path(path).name) if path_ends(at, path)]
        return found

    def look(self, selection: Selection = EVERYTHING) -> Checked:
        """Check as another process would: what pyiceberg keeps of manifests is not to help."""
        return check(connect(self.pipeline.settings.catalog_properties()), selection)

    def run(self, *arguments: str) -> Result:
        """Run the command in this process."""
        return CliRunner().invoke(paywave, ["integrity", *arguments, "--output", "json"])


def path_ends(at: Path, path: str) -> bool:
    return at.is_file() and str(at).endswith(plain(path))


@pytest.fixture(scope="module")
def kept(stack: Settings, catalog: RestCatalog, spark: SparkSession) -> Kept:
    return Kept(Pipeline(stack, catalog, spark))


def test_what_was_recorded_is_found_again_and_nothing_is_recorded_twice(kept: Kept) -> None:
    with pytest.raises(LakehouseError, match="is empty"):
        kept.look()
    first = DigestKeeper(kept.catalog).run()
    wanted = {f.path for kind in ("data", "manifest", "manifest-list") for f in kept.files(kind)}
    assert first.is_whole and first.files == len(wanted)
    rows = kept.pipeline.rows(FILE_DIGESTS)
    assert {row["path"] for row in rows} == wanted
    for row in rows:
        assert kept.on_disk(row["path"]).stat().st_size == row["bytes"]
    assert sum(row["rows"] for row in rows if row["kind"] == "data") == len(kept.pipeline.rows(RAW)) == 15
    again = DigestKeeper(kept.catalog).run()
    assert (again.files, again.tail) == (0, first.tail)
    found = kept.look(Selection(noted=(first.tail,)))
    assert found.is_whole and not found.unrecorded
    assert found.files == found.read == len(wanted)
    assert found.bytes == sum(row["bytes"] for row in rows)


def test_files_that_came_since_are_named_apart(kept: Kept) -> None:
    DigestKeeper(kept.catalog).run()
    kept.pipeline.send_lines([wire_now("new")])
    kept.pipeline.run_raw()
    found = kept.look()
    assert found.is_whole and found.unrecorded >= 3
    recorded = {row["path"] for row in kept.pipeline.rows(FILE_DIGESTS)}
    assert set(found.unrecorded_named).isdisjoint(recorded)
    assert kept.look(Selection(sample=2)).files == 2
    assert DigestKeeper(kept.catalog).run().files == found.unrecorded


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def added_to(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"x")


@pytest.mark.parametrize("kind", ["data", "manifest", "manifest-list"])
@pytest.mark.parametrize(
    ("damage", "problem"),
    [(flipped, ALTERED), (cut_off, TRUNCATED), (added_to, GROWN), (Path.unlink, MISSING)],
)
def test_whatever_is_done_to_a_file_is_named(
    kept: Kept, tmp_path: Path, kind: str, damage: Callable[[Path], None], problem: str
) -> None:
    DigestKeeper(kept.catalog).run()
    path = kept.files(kind)[0].path
    file, copy = kept.on_disk(path), tmp_path / "copy"
    shutil.copy2(file, copy)
    try:
        damage(file)
        found = kept.look()
    finally:
        shutil.copy2(copy, file)
    named = {f.path: f.problem for f in found.findings}
    assert named.pop(path) == problem
    assert set(named.values()) <= {UNREADABLE}, "what a broken manifest lists cannot be told, no more"
    assert kept.look().is_whole


def test_a_file_that_never_was_what_the_metadata_says_is_not_recorded(kept: Kept, tmp_path: Path) -> None:
    kept.pipeline.send_lines([wire_now("cut off before it was seen")])
    kept.pipeline.run_raw()
    recorded = {row["path"] for row in kept.pipeline.rows(FILE_DIGESTS)}
    path = next(file.path for file in kept.files("data") if file.path not in recorded)
    file, copy = kept.on_disk(path), tmp_path / "copy"
    shutil.copy2(file, copy)
    cut_off(file)
    done = DigestKeeper(kept.catalog).run()
    assert [(f.path, f.problem) for f in done.findings] == [(path, TRUNCATED)]
    assert path not in {row["path"] for row in kept.pipeline.rows(FILE_DIGESTS)}
    shutil.copy2(copy, file)
    assert DigestKeeper(kept.catalog).run().files == 1


def test_a_ledger_that_was_changed_or_cut_off_is_told(kept: Kept) -> None:
    tail = DigestKeeper(kept.catalog).run().tail
    table = kept.catalog.load_table(FILE_DIGESTS)
    rows = sorted(kept.pipeline.rows(FILE_DIGESTS), key=lambda row: row["seq"])
    other = Tail(tail.seq, "f" * 64)
    assert [b.seq for b in kept.look(Selection(noted=(other,))).breaks] == [tail.seq]
    table.delete(f"seq = {rows[3]['seq']}")
    found = kept.look()
    assert not found.is_whole and [b.seq for b in found.breaks] == [4]
    assert found.unrecorded == 1
    table.delete(f"seq = {tail.seq}")
    assert tail.seq in {b.seq for b in kept.look().breaks}
    kept.catalog.drop_table(FILE_DIGESTS)  # and begun anew
    ensure_tables(kept.catalog, kept.pipeline.settings.tables.buckets)
    DigestKeeper(kept.catalog).run()
    assert kept.look().is_whole
    assert not kept.look(Selection(noted=(tail,))).is_whole


def test_the_commands_name_it_and_exit_1(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in kept.pipeline.environment().items():
        monkeypatch.setenv(name, value)
    recorded = kept.run("record")
    assert recorded.exit_code == 0, recorded.output
    head = json.loads(recorded.stdout)["chain_head"]
    assert Tail.parse(head) != EMPTY
    checked = kept.run("check", "--head", head)
    assert checked.exit_code == 0 and json.loads(checked.stdout)["whole"]
    path = kept.files("data")[0].path
    kept.on_disk(path).unlink()
    checked = kept.run("check", "--one-in", "1000000")
    assert checked.exit_code == 1
    assert [f["path"] for f in json.loads(checked.stdout)["damaged"]] == [path]
    shown: Any = CliRunner().invoke(paywave, ["integrity", "check"])
    assert f"missing: {path} (data)" in shown.output


def test_what_has_expired_meanwhile_is_no_damage(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that goes with its snapshot while one looks is not missing."""
    from lakehouse.integrity import check as module

    original = module._look

    def expire_first(*arguments: Any) -> Any:
        Expirer(kept.catalog, lambda: None, ExpireSettings(1, NO_AGE)).run([RAW])
        return original(*arguments)

    DigestKeeper(kept.catalog).run()
    broken = {f.path for f in kept.look().findings}  # by the test before
    monkeypatch.setattr(module, "_look", expire_first)
    before = len(kept.catalog.load_table(RAW).metadata.snapshots)
    assert {f.path for f in kept.look().findings} <= broken
    assert len(kept.catalog.load_table(RAW).metadata.snapshots) < before
