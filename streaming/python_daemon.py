"""The process that Spark forks its Python workers from, without Spark's own archives on its path.

Belongs here: that path. Does not: what workers do (`decode.py` and others), starting Spark (`session.py`).

Before each task Spark 4.1 has Python forget what it knows of the places that it imports from. Python then
reads the index of every archive among them anew: of `pyspark.zip` and of Spark's largest jar, some 50 ms of
CPU, which is most of what a task on few records costs. Spark 4.2 does so only if a job brings files of its
own (SPARK-54744); then this module can go.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder

_ARCHIVES = (".zip", ".jar")
_NEEDED = ("pyspark", "py4j")


def without_archives(path: list[str]) -> list[str]:
    """Leave archives out of a path of imports; all of it stays where Spark can only be imported from them."""
    kept = [place for place in path if not place.endswith(_ARCHIVES)]
    return kept if all(PathFinder.find_spec(name, kept) for name in _NEEDED) else path


if __name__ == "__main__":
    sys.path[:] = without_archives(sys.path)
    for place in set(sys.path_importer_cache) - set(sys.path):
        if place.endswith(_ARCHIVES):
            del sys.path_importer_cache[place]
    from pyspark.daemon import manager

    manager()  # type: ignore[no-untyped-call]
