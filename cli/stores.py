"""The stores that keep something, gathered for the retention plan: Kafka, raw, the curated tables, exports.

Belongs here: asking each of them. Does not: what is said of it (`lakehouse/retention_plan.py`), printing it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pyiceberg.catalog.rest import RestCatalog

from assets.export_store import export_store
from cli.context import topic_of
from config.settings import Settings
from lakehouse.definitions import RAW
from lakehouse.exports.listing import DONE, UNREADABLE, listed_in
from lakehouse.hold_log import HoldLog
from lakehouse.refs import read_head
from lakehouse.retention_plan import Export, Store, curated_store, exports_store, kafka_store, raw_store
from streaming.topic_state import BRIEF_SECONDS, topic_if_it_answers
from streaming.topics import check_topic


def stores_of(
    settings: Settings,
    catalog: RestCatalog,
    due: Mapping[str, Any],
    months: int,
    curated: Mapping[str, Any] | None,
) -> Iterator[Store]:
    """Gather what the plan says of each store.

    Args:
        due: what may go of raw, kept for `months`.
        curated: what may go of the curated tables; None where they are kept for good.
    """
    now, kept = datetime.now(UTC), settings.retention
    yield kafka_store(settings.kafka.topic, settings.kafka.retention_days, *_kafka(settings, catalog))
    yield raw_store(due, months)
    yield curated_store(kept.curated_months, curated)
    holds = HoldLog(catalog).in_force()
    yield exports_store(_exports(settings), settings.audit.retention_years, now, holds)


def _exports(settings: Settings) -> Iterator[Export]:
    """List the exports that are there, also those of which nobody can tell."""
    for one in listed_in(export_store(settings)):
        if one.state in (DONE, UNREADABLE):
            yield Export(one.name, one.made_at, one.request.get("scope"))


def _kafka(settings: Settings, catalog: RestCatalog) -> tuple[list[str] | None, int | None]:
    """Ask what of the topic is not as the settings say, and how many of its records raw lacks."""
    properties = settings.kafka_properties()
    state = topic_if_it_answers(properties, settings.kafka.topic)
    if state is None:
        return None, None
    raw = read_head(catalog, RAW).offsets
    unread = raw.records_to(raw.advanced(state.topic_id, state.latest))
    return check_topic(properties, topic_of(settings), BRIEF_SECONDS), unread
