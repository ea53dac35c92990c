"""Exports on the real stack while maintenance works between two of their parts: no byte changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from config.settings import Settings
from lakehouse.definitions import PAYMENTS, RAW, VERSIONS
from lakehouse.exports.export import Done
from lakehouse.exports.pins import EXPORTED, release, tag_of
from lakehouse.log_keeper import keep_log
from lakehouse.maintenance.compact import Compactor
from lakehouse.maintenance.expire import Expirer, ExpireSettings
from lakehouse.maintenance.orphans import remove_orphans
from lakehouse.maintenance.reachable import files_of as rows_of
from lakehouse.maintenance.reachable import known_files, lists_of, manifests_of, plain
from tests.aged import AgedPipeline, lines_of
from tests.offices import Desk, Killed, files_of, request
from tests.pipeline import ANY_HOUR
from tests.stacks import object_store

pytestmark = pytest.mark.integration
DAYS = tuple(datetime(2020, 1, day, 12, tzinfo=UTC) for day in (10, 11))
NEW = datetime.now(UTC)
NO_TIME = timedelta(0)
Work = Callable[[], None]


class Lake:
    """A pipeline of old days and of today, and the maintenance of its tables that keeps as little as it may.

    Only the pins of an export under way keep the snapshots that it reads: `forget` what earlier ones pinned.
    """

    def __init__(self, pipeline: AgedPipeline) -> None:
        self.pipeline, self.catalog = pipeline, pipeline.catalog
        self.spark = pipeline.spark.newSession()
        self._store = object_store(pipeline.settings)
        self._sent = 0
        for moment in DAYS:
            pipeline.send_at(moment, lines_of(moment, 20, moment.day))
            pipeline.run_raw()
        self.take_new()
        self.take_new()
        self.compact()

    def take_new(self) -> None:
        """Take in records of the same event hour, each time of the same partitions."""
        self._sent += 1
        self.pipeline.send_at(datetime.now(UTC), lines_of(NEW, 40, 100 + self._sent))
        self.pipeline.run()

    def compact(self) -> None:
        properties = self.pipeline.settings.catalog_properties()
        compactor = Compactor(self.catalog, lambda: self.spark, properties, ANY_HOUR)
        assert all(compactor.run(table).done > 0 for table in (VERSIONS, PAYMENTS))

    def expire(self) -> None:
        settings = ExpireSettings(1, NO_TIME)
        Expirer(self.catalog, lambda: keep_log(self.catalog, self.spark), settings).run(EXPORTED)

    def rewrite_and_expire(self) -> None:
        """Take in new data, compact, and forget all that may be forgotten, of what was just written too."""
        self.take_new()
        self.compact()
        self.expire()

    def drop_and_clean(self) -> None:
        """Drop the oldest day of raw that is there; expire and rewrite; remove what no snapshot knows."""
        self.take_new()
        self.compact()
        self.pipeline.count()
        retention = self.pipeline.retention(datetime.now(UTC))
        oldest = retention.look().days[0].day
        assert retention.drop(oldest + timedelta(days=1), "it is old", "J. Doe", "me").due.records > 0
        assert all(row["kafka_ts"].date() > oldest for row in self.pipeline.rows(RAW))
        self.expire()
        stray = f"{plain(self.catalog.load_table(RAW).location())}/data/stray.parquet"
        with self._store.open_output_stream(stray) as stream:
            stream.write(b"left by a writer that died")
        removed = {path for name in EXPORTED for path in remove_orphans(self.catalog, name, NO_TIME).paths}
        assert stray in removed

    def known(self) -> set[str]:
        """Every file that the exported tables know of."""
        return set().union(*(known_files(self.catalog.load_table(name)) for name in EXPORTED))

    def read_by(self, export_id: str) -> set[str]:
        """The files that the pinned snapshots of an export need."""
        found: set[str] = set()
        for name in EXPORTED:
            table = self.catalog.load_table(name)
            pinned = table.metadata.snapshot_by_id(table.metadata.refs[tag_of(export_id)].snapshot_id)
            manifests = manifests_of(table, [pinned])
            found |= rows_of(table, manifests.values()) | set(manifests) | lists_of([pinned])
        return found

    def gone(self, paths: set[str]) -> set[str]:
        """Those of some files that the store does not have."""
        infos = self._store.get_file_info([plain(path) for path in sorted(paths)])
        return {info.path for info in infos if not info.is_file}

    def forget(self, done: Done) -> None:
        assert release(self.catalog, done.manifest.id) == list(EXPORTED)


@pytest.fixture(scope="module")
def lake(stack: Settings, catalog: RestCatalog, spark: SparkSession) -> Lake:
    return Lake(AgedPipeline(stack, catalog, spark))


class Beside:
    """What an exporter reports to: once its first part is done, other work is done. It may die of it."""

    def __init__(self, lake: Lake, work: Work, *, dies: bool = False) -> None:
        self._lake, self._work, self._dies = lake, work, dies
        self.parts: list[str] = []
        self.removed: set[str] = set()

    def __call__(self, _done: float, _total: float, part: str) -> None:
        self.parts.append(part)
        if len(self.parts) == 1:
            before = self._lake.known()
            self._work()
            self.removed = self._lake.gone(before)
            if self._dies:
                raise Killed


def undisturbed(lake: Lake, folder: Path) -> Done:
    """Export while nothing else happens, and keep nothing of it in the lake."""
    folder.mkdir()
    done = Desk(lake.catalog, folder).export(name="it")
    assert done.manifest.breaks == []
    lake.forget(done)
    return done


def told(done: Done) -> dict[str, Any]:
    """What a manifest says that follows from the pinned snapshots."""
    value, own = done.manifest.value, ("export", "request", "created", "files", "tool", "pinned")
    pinned = {key: value["pinned"][key] for key in value["pinned"] if key != "tables"}  # which name the tag
    return {**{key: value[key] for key in value if key not in own}, "pinned": pinned}


def check(lake: Lake, desk: Desk, done: Done, alone: Done, beside: Beside) -> None:
    """See that an export is the one that was made alone, though files were removed, by virtue of its pins."""
    assert len(beside.parts) > 3 and beside.removed, "nothing happened between two parts"
    assert any(path.endswith(".parquet") for path in beside.removed), "no file of rows was removed"
    assert done.manifest.snapshots == alone.manifest.snapshots
    assert files_of(done) == files_of(alone)
    assert told(done) == told(alone)
    assert desk.against_lake() == []
    independent = desk.independent(done)
    assert (independent.returncode, independent.stderr) == (0, "")
    needed = lake.read_by(done.manifest.id)
    assert not lake.gone(needed)
    lake.forget(done)
    lake.expire()
    assert lake.gone(needed), "the pins kept nothing that would not have stayed without them"


@pytest.mark.slow  # beside the export that died, below, which goes through both
@pytest.mark.parametrize("work", [Lake.rewrite_and_expire, Lake.drop_and_clean])
def test_maintenance_between_two_parts_changes_no_byte(
    lake: Lake, tmp_path: Path, work: Callable[[Lake], None]
) -> None:
    alone = undisturbed(lake, tmp_path / "alone")
    desk, beside = Desk(lake.catalog, tmp_path), Beside(lake, lambda: work(lake))
    done = desk.exporter(beside).run(request(), "it")
    check(lake, desk, done, alone, beside)


def test_an_export_that_died_goes_on_after_maintenance_as_if_there_had_been_none(
    lake: Lake, tmp_path: Path
) -> None:
    alone = undisturbed(lake, tmp_path / "alone")
    desk, beside = Desk(lake.catalog, tmp_path), Beside(lake, lake.drop_and_clean, dies=True)
    with pytest.raises(Killed):
        desk.exporter(beside).run(request(), "it")
    done = desk.exporter(beside).run(request(), "it")
    assert done.went_on
    check(lake, desk, done, alone, beside)
