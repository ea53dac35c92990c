"""The Spark session of the jobs: started with the settings it is given, quiet, on loopback where they say so.

Belongs here: starting Spark. Does not: its settings (`config/`), what the jobs do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pyspark.sql import SparkSession

_QUIET_LOGS = Path(__file__).with_name("log4j2.properties")


def start_spark(app: str, conf: Mapping[str, str]) -> SparkSession:
    """Start (or return) this process's Spark session; `conf` is all of Spark's own settings."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if conf.get("spark.driver.bindAddress") == "127.0.0.1":
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    options = (
        f"{conf.get('spark.driver.extraJavaOptions', '')} -Dlog4j2.configurationFile={_QUIET_LOGS.as_uri()}"
    )
    builder = SparkSession.Builder().appName(app)
    for name, value in {**conf, "spark.driver.extraJavaOptions": options.strip()}.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()
