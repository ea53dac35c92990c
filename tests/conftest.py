"""Fixtures for every test: one stack per test run, in a folder of its own, stopped at the end.

Nothing of the caller's settings reaches a test: the environment is cleared of them first.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import hypothesis
import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from cli.context import topic_of
from config.errors import ConfigError
from config.settings import Settings, load_settings
from lakehouse.catalog import connect
from local.stack import down, up
from streaming.session import start_spark
from streaming.topics import ensure_topics
from tests.pipeline import Pipeline
from tests.stacks import quick_home

# Where jars are cached and pictures go, how long fault tests run and on what seed, and which account of
# Snowflake tests may use, is for the caller to say.
_KEPT = {"PAYWAVE_CACHE", "PAYWAVE_LONG_FAULTS", "PAYWAVE_SCREENSHOTS", "PAYWAVE_TEST_SEED"}
_LIVE = "PAYWAVE_LIVE_SNOWFLAKE_"
_GIVEN = {name for name in os.environ if name.startswith("PAYWAVE_") and not name.startswith(_LIVE)}
for _name in _GIVEN - _KEPT:
    del os.environ[_name]

# A loaded machine is slow: no property is judged by the time it takes. A failure says how to repeat it.
hypothesis.settings.register_profile(
    "paywave",
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("paywave")

# A run that is told to end takes its servers and jobs along, as one that is interrupted does.
signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what takes long, unless `make test-faults` asks for it."""
    if os.environ.get("PAYWAVE_LONG_FAULTS"):
        return
    for item in items:
        if "long" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="long: `make test-faults` runs it"))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what the workers of an interrupted run (xdist) left: they are ended in the midst of a test."""
    folder = getattr(config, "_tmp_path_factory", None)
    if hasattr(config, "workerinput") or folder is None:
        return
    for run in folder.getbasetemp().glob("popen-*/*/run"):
        with suppress(ConfigError):  # a home that a test broke on purpose; no server was started there
            down(load_settings(home=run.parent))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a running stack with the topic `payments.events`; the tables are not created."""
    home = quick_home(tmp_path_factory.mktemp("stack"))
    try:
        up(load_settings(home=home))
        settings = load_settings(home=home)
        ensure_topics(settings.kafka_properties(), topic_of(settings))
        yield settings
    finally:
        down(load_settings(home=home))


@pytest.fixture(scope="session")
def spark(stack: Settings) -> Iterator[SparkSession]:
    """The one Spark session of the test run, on the stack."""
    session = start_spark("paywave-tests", stack.spark_conf(), stack.home / "logs" / "spark.log")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def catalog(stack: Settings) -> RestCatalog:
    """A connection to the stack's catalog."""
    return connect(stack.catalog_properties())


@pytest.fixture
def pipeline(stack: Settings, catalog: RestCatalog, spark: SparkSession) -> Pipeline:
    """The main job with new tables and a topic of its own."""
    return Pipeline(stack, catalog, spark)
