"""The path that Spark's Python workers import from: no archive is on it where Spark is installed."""

from __future__ import annotations

from pathlib import Path

import pyspark

from streaming.python_daemon import without_archives

INSTALLED = str(Path(pyspark.__file__).parents[1])
ARCHIVES = ["/spark/python/lib/pyspark.zip", "/spark/python/lib/py4j-0.10.9.9-src.zip", "/spark/core.jar"]


def test_archives_are_left_out_and_the_rest_stays_in_order() -> None:
    assert without_archives(["", *ARCHIVES, "/ours", INSTALLED]) == ["", "/ours", INSTALLED]


def test_all_stays_where_spark_is_in_its_archives_alone(tmp_path: Path) -> None:
    path = [*ARCHIVES, str(tmp_path)]
    assert without_archives(path) == path
