"""The Spark session of the jobs: started with the settings it is given, its own noise in a file.

Belongs here: starting Spark. Does not: its settings (`config/`), what the jobs do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

_LOGGING = Path(__file__).with_name("log4j2.properties")
# What the JVM must know before it runs. All else is set when it does: a command line is for all to see,
# and settings hold keys.
_AT_LAUNCH = ("spark.driver.memory", "spark.driver.extraClassPath", "spark.jars.packages")
_DAEMON = "streaming.python_daemon"  # by name: it sees to its path before anything is imported


def start_spark(app: str, conf: Mapping[str, str], log: Path) -> SparkSession:
    """Start this process's Spark session, or return the one that runs.

    Args:
        app: name of the application.
        conf: all of Spark's own settings, secrets included.
        log: file that the JVM's output is appended to.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if conf.get("spark.driver.bindAddress") == "127.0.0.1":
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    settings = SparkConf(loadDefaults=False).setAppName(app).setAll(list(conf.items()))
    if conf.get("spark.master", "").startswith("local"):  # elsewhere we may not be installed
        settings.setIfMissing("spark.python.daemon.module", _DAEMON)
    if SparkContext._active_spark_context is None:
        SparkContext(conf=settings, gateway=SparkContext._gateway or _launch(conf, log))
    return SparkSession.Builder().getOrCreate()


def _launch(conf: Mapping[str, str], log: Path) -> object:
    log.parent.mkdir(parents=True, exist_ok=True)
    launch = SparkConf(loadDefaults=False)
    launch.setAll([(name, conf[name]) for name in _AT_LAUNCH if name in conf])
    options = (
        f"{conf.get('spark.driver.extraJavaOptions', '')} -Dlog4j2.configurationFile={_LOGGING.as_uri()}"
    )
    launch.set("spark.driver.extraJavaOptions", options.strip())
    with log.open("ab") as output:
        return launch_gateway(launch, {"stdout": output, "stderr": output})  # type: ignore[no-untyped-call]
