"""The jar lock and the cache: what is accepted, what is refused, and that a full cache needs no network."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

import pytest

from local import ivy, jars
from local.errors import JarError
from local.lockfile import LOCK, Coordinate, Jar, parse_lock, render_lock

BYTES = b"a jar"
SHA = hashlib.sha256(BYTES).hexdigest()
ONE = Jar(Coordinate("g", "a", "1"), SHA)
TESTS = Jar(Coordinate("g", "a", "1", "tests"), SHA)
ZIP = Jar(Coordinate("g", "a", "1", "all", ext="zip"), SHA)


def test_a_lock_reads_as_it_was_written() -> None:
    sets = {"kafka": (ONE, TESTS), "registry": (ZIP,), "spark": (ONE,)}
    assert parse_lock(render_lock(sets)) == sets


@pytest.mark.parametrize(
    "text",
    [
        "g:a:1 abc",
        f"g:a:1 {SHA}",
        f"[kafka]\ng:a {SHA}",
        "[kafka]\ng:a:1",
        f"[kafka]\ng:a:1:t:x {SHA}",
        f"[kafka]\ng:a:1@ {SHA}",
    ],
)
def test_what_is_no_lock_is_refused(text: str) -> None:
    with pytest.raises(JarError):
        parse_lock(text)


def test_the_committed_lock_holds_every_set_once() -> None:
    sets = parse_lock(LOCK.read_text())
    assert set(sets) == {*jars.KINDS, *jars.TEST_KINDS}
    for kind, locked in sets.items():
        names = [(jar.coordinate.group, jar.coordinate.name, jar.coordinate.classifier) for jar in locked]
        assert len(names) == len(set(names)), kind
    hashes: dict[str, str] = {}
    for jar in (jar for locked in sets.values() for jar in locked):
        assert hashes.setdefault(jar.file_name, jar.sha256) == jar.sha256


def test_another_file_than_a_jar_keeps_its_extension() -> None:
    assert (str(ZIP.coordinate), ZIP.file_name) == ("g:a:1:all@zip", "g-a-1-all.zip")
    assert (str(TESTS.coordinate), TESTS.file_name) == ("g:a:1:tests", "g-a-1-tests.jar")
    (artifact,) = ET.fromstring(ivy.module_xml([ZIP.coordinate], transitive=False)).iter("artifact")
    assert (artifact.get("type"), artifact.get("ext")) == ("zip", "zip")


def test_spark_gets_nothing_that_pyspark_ships() -> None:
    shipped = {path.name.rsplit("-", 1)[0] for path in ivy.pyspark_jars().glob("*.jar")}
    assert shipped.isdisjoint(jar.coordinate.name for jar in parse_lock(LOCK.read_text())["spark"])


def test_a_classifier_is_asked_for_beside_the_plain_jar() -> None:
    root = ET.fromstring(
        ivy.module_xml([TESTS.coordinate, ONE.coordinate], transitive=False, exclude=["org.x*:*"])
    )
    (dependency,) = root.iter("dependency")
    asked = [artifact.get("{http://ant.apache.org/ivy/maven}classifier") for artifact in dependency]
    assert asked == [None, "tests"]
    assert [rule.get("org") for rule in root.iter("exclude")] == ["org.x*"]


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "jars.lock"
    path.write_text(render_lock({"kafka": [ONE]}))
    monkeypatch.setattr(jars, "LOCK", path)
    return path


class Repository:
    """Stands for Ivy: serves the given bytes and counts the downloads."""

    def __init__(self, content: bytes) -> None:
        self.content, self.downloads = content, 0

    def __call__(
        self, wanted: Iterable[Coordinate], work: Path, *, transitive: bool
    ) -> dict[Coordinate, Path]:
        work.mkdir(parents=True)
        found = {}
        for coordinate in wanted:
            self.downloads += 1
            found[coordinate] = work / f"{coordinate.name}.jar"
            found[coordinate].write_bytes(self.content)
        return found


def test_jars_are_downloaded_once(lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository(BYTES)
    monkeypatch.setattr(ivy, "retrieve", repository)
    for _ in range(2):
        (path,) = jars.ensure_jars("kafka", tmp_path / "cache")
        assert path.read_bytes() == BYTES
    assert repository.downloads == 1
    assert sorted(p.name for p in path.parent.iterdir()) == [".lock", "g-a-1.jar"]


def test_a_download_with_another_hash_is_never_kept(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivy, "retrieve", Repository(b"something else"))
    with pytest.raises(JarError, match=SHA):
        jars.ensure_jars("kafka", tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_an_altered_jar_stops_the_start(lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ivy, "retrieve", Repository(BYTES))
    (path,) = jars.ensure_jars("kafka", tmp_path / "cache")
    path.write_bytes(b"altered")
    with pytest.raises(JarError, match="g:a:1") as caught:
        jars.ensure_jars("kafka", tmp_path / "cache")
    assert "delete that file" in caught.value.hint


def test_an_unknown_set_is_an_error(lock: Path) -> None:
    with pytest.raises(JarError, match="spark"):
        jars.ensure_jars("spark")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PAYWAVE_CACHE": "/c"}, "/c/jars"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/paywave/jars"),
        ({}, "/home/me/.cache/paywave/jars"),
    ],
)
def test_where_the_cache_is(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PAYWAVE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert jars.cache_dir() == Path(expected)
    assert jars.cache_dir(Path("/given")) == Path("/given/jars")
