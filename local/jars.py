"""The jars of the servers and of Spark: fetched once, checked against the lock at every start.

Belongs here: the cache and the sets. Does not: how Ivy is driven (`ivy.py`), the lock's form (`lockfile.py`).
Run as a program: `python -m local.jars fetch [SET…]` fills the cache, `lock` resolves jars.toml anew.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from local import ivy
from local.errors import JarError, StackError
from local.lockfile import LOCK, Coordinate, Jar, parse_lock, render_lock, sha256_of

ROOTS = Path(__file__).with_name("jars.toml")
KINDS = ("spark", "kafka", "catalog", "s3proxy")
TEST_KINDS = ("registry",)  # servers that only tests start
_LANES = 4  # downloads wait for the network, not for the processor


def cache_dir(cache: Path | None = None) -> Path:
    """Where jars are kept: the setting `cache` (PAYWAVE_CACHE), else the user's cache folder."""
    given = cache or os.environ.get("PAYWAVE_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(given).expanduser() if given else base / "paywave").absolute() / "jars"


def ensure_jars(kind: str, cache: Path | None = None) -> tuple[Path, ...]:
    """The verified jars of one set; see `ensure_sets`."""
    return ensure_sets((kind,), cache)[kind]


def ensure_sets(kinds: Sequence[str] = KINDS, cache: Path | None = None) -> dict[str, tuple[Path, ...]]:
    """The verified jars of some sets, downloading what is absent; no network when all are there.

    Raises JarError if a jar's sha256 is not the locked one or it cannot be downloaded.
    """
    locked = locked_sets(kinds)
    wanted = {jar for jars in locked.values() for jar in jars}
    folder = cache_dir(cache)
    folder.mkdir(parents=True, exist_ok=True)
    if any(not (folder / jar.file_name).exists() for jar in wanted):
        with _only_one(folder):
            _fetch([jar for jar in sorted(wanted) if not (folder / jar.file_name).exists()], folder)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda jar: verify(jar, folder / jar.file_name), wanted))
    return {kind: tuple(folder / jar.file_name for jar in jars) for kind, jars in locked.items()}


def locked_sets(kinds: Sequence[str] = KINDS) -> dict[str, tuple[Jar, ...]]:
    """What the lock says about some sets. Raises JarError for a set it does not have."""
    sets = parse_lock(LOCK.read_text(encoding="utf-8"))
    unknown = set(kinds) - set(sets)
    if unknown:
        raise JarError(f"the jar lock has no set {', '.join(sorted(unknown))}", hint="`make lock` writes it")
    return {kind: sets[kind] for kind in kinds}


def verify(jar: Jar, path: Path) -> None:
    """Raise JarError unless the file's sha256 is the locked one."""
    found = sha256_of(path)
    if found != jar.sha256:
        raise JarError(
            f"{path} is not the locked {jar.coordinate}:\n  expected sha256 {jar.sha256}\n  found    {found}",
            hint="delete that file and run it again; if that does not help, find out who changed it",
        )


def _fetch(missing: Sequence[Jar], folder: Path) -> None:
    if not missing:
        return
    print(f"downloading {len(missing)} jars to {folder}", file=sys.stderr, flush=True)
    lanes = [missing[start::_LANES] for start in range(_LANES) if missing[start::_LANES]]
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary,
        ThreadPoolExecutor(len(lanes)) as pool,
    ):
        work = [Path(temporary) / str(number) for number in range(len(lanes))]
        list(pool.map(lambda lane, place: _fetch_lane(lane, place, folder), lanes, work))


def _fetch_lane(jars: Sequence[Jar], work: Path, folder: Path) -> None:
    files = ivy.retrieve([jar.coordinate for jar in jars], work, transitive=False)
    for jar in jars:
        if jar.coordinate not in files:
            raise JarError(f"{jar.coordinate} was not found in the repository")
        verify(jar, files[jar.coordinate])
        files[jar.coordinate].replace(folder / jar.file_name)  # atomic: never half a jar under its name


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """One process downloads; a second one waits and then finds everything there."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in folder.glob(".fetch-*"):  # of a process that was killed: the lock is ours now
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def resolve(kind: str) -> tuple[Jar, ...]:
    """Resolve one set of jars.toml with all it depends on, over the network."""
    said = tomllib.loads(ROOTS.read_text(encoding="utf-8"))[kind]
    roots = [Coordinate.parse(text) for text in said["roots"]]
    with tempfile.TemporaryDirectory() as temporary:
        found = ivy.retrieve(
            roots, Path(temporary), transitive=said.get("transitive", True), exclude=said.get("exclude", ())
        )
        kept = _not_shipped(found) if said.get("shipped") else found
        return tuple(Jar(coordinate, sha256_of(found[coordinate])) for coordinate in sorted(kept))


def _not_shipped(found: Iterable[Coordinate]) -> list[Coordinate]:
    shipped = {path.name.rsplit("-", 1)[0] for path in ivy.pyspark_jars().glob("*.jar")}
    return [coordinate for coordinate in found if coordinate.name not in shipped]


def main(arguments: Sequence[str]) -> int:
    """Run `fetch` or `lock`; returns the exit code."""
    kinds = (*KINDS, *TEST_KINDS)
    try:
        if arguments and arguments[0] == "fetch":
            ensure_sets(arguments[1:] or KINDS)
        elif list(arguments) == ["lock"]:
            with ThreadPoolExecutor(_LANES) as pool:
                LOCK.write_text(render_lock(dict(zip(kinds, pool.map(resolve, kinds), strict=True))))
        else:
            print("usage: python -m local.jars fetch [SET...] | lock", file=sys.stderr)
            return 2
    except StackError as error:
        print(f"error: {error}\nnext:  {error.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
