"""What commands share: settings and connections, made once and handed to the rooms as plain values.

Belongs here: composing `config` with the other rooms. Does not: any command.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from pyiceberg.catalog.rest import RestCatalog
from rich.console import Console

from config.settings import Settings, load_settings
from lakehouse.catalog import connect
from lakehouse.tables import ensure_tables
from local.stack import Endpoints, require_up, up
from streaming.topic_plan import Topic
from streaming.topics import ensure_topics, payments_topic

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def catalog_of(settings: Settings) -> RestCatalog:
    """Connect to the catalog that the settings name; raises StackDown if that is a stack that is not up."""
    require_up(settings)
    return connect(settings.catalog_properties())


def bring_up(
    settings: Settings, log: Console, brokers: int | None = None
) -> tuple[Settings, Endpoints | None]:
    """Start the stack (local profile only), create topic and tables; all of it idempotent."""
    endpoints = None
    if settings.is_local:
        endpoints = up(settings, brokers, report=lambda said: log.print(said, style="dim"))
        # Again, now with the addresses and keys that the stack wrote down.
        settings = load_settings(home=settings.home, profile=settings.profile)
    ensure_topics(settings.kafka_properties(), topic_of(settings))
    ensure_tables(catalog_of(settings), settings.tables.buckets)
    return settings, endpoints


def spark_of(settings: Settings, app: str) -> SparkSession:
    """Start Spark for a job; what the JVM says goes to the home's log folder."""
    from streaming.session import start_spark  # loads pyspark: not for commands that only read

    return start_spark(app, settings.spark_conf(), settings.home / "logs" / f"spark-{app}.log")


def topic_of(settings: Settings) -> Topic:
    """The topic that the settings ask for."""
    kafka = settings.kafka
    return payments_topic(
        kafka.topic,
        kafka.partitions,
        kafka.replication_factor,
        kafka.min_insync_replicas,
        kafka.retention_days,
    )


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Call `stop` on SIGTERM and SIGINT: the batch at hand is finished first."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
