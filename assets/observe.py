"""What the streaming jobs do, told to the graph: they run outside, and their tables' snapshots say enough.

Belongs here: the sensor that looks for new snapshots and at the topic. Does not: judging them (`checks/`).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from pyiceberg.exceptions import NoSuchTableError

from assets.lake import Lake
from assets.metadata import of_head
from assets.tables import TOPIC, key_of
from lakehouse.definitions import BY_NAME, PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.errors import LakehouseError
from lakehouse.offsets import OffsetVector
from lakehouse.refs import Head, read_head
from streaming.topic_state import TopicState, topic_if_it_answers

_FOLLOW_RAW = (VERSIONS, PAYMENTS, QUARANTINE)


@dg.sensor(
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Observes each table that has a new snapshot, and the topic: size, offsets, watermark, lag.",
)
def new_snapshots(context: dg.SensorEvaluationContext, lake: Lake) -> dg.SensorResult:
    """Observe what changed since the cursor: table to snapshot id."""
    seen: dict[str, str] = json.loads(context.cursor or "{}")
    settings = lake.settings()
    catalog = lake.catalog()
    heads = {}
    for name in BY_NAME:
        try:
            heads[name] = read_head(catalog, name)
        except (LakehouseError, NoSuchTableError) as error:  # a person must look at it; the others go on
            context.log.error(f"table {name}: {error}")
    topic = topic_if_it_answers(settings.kafka_properties(), settings.kafka.topic)
    found = list(_observations(heads, topic, seen))
    return dg.SensorResult(
        asset_events=[observation for _, observation in found],
        cursor=json.dumps(seen | {name: version for (name, version), _ in found}),
    )


def _observations(
    heads: Mapping[str, Head], topic: TopicState | None, seen: Mapping[str, str]
) -> Iterator[tuple[tuple[str, str], dg.AssetObservation]]:
    for name, head in heads.items():
        version = str(head.snapshot.snapshot_id)
        if seen.get(name) != version:
            metadata = of_head(head) | _lag(name, heads, topic)
            yield (name, version), _observation(key_of(name), version, metadata)
    if topic is not None:
        version = OffsetVector({topic.topic_id: topic.latest}).to_json()
        if seen.get(topic.topic) != version:
            yield (topic.topic, version), _observation(TOPIC, version, _of_topic(topic, heads.get(RAW)))


def _observation(key: dg.AssetKey, version: str, metadata: dict[str, Any]) -> dg.AssetObservation:
    return dg.AssetObservation(key, metadata=metadata, tags={"dagster/data_version": version})


def _lag(name: str, heads: Mapping[str, Head], topic: TopicState | None) -> dict[str, int]:
    """Count the records that the table's source has beyond it."""
    if name == RAW and topic is not None:
        return {"lag_records": _behind(topic, heads[RAW])}
    if name in _FOLLOW_RAW and RAW in heads:
        return {"lag_records": heads[name].offsets.records_to(heads[RAW].offsets)}
    return {}


def _of_topic(topic: TopicState, raw: Head | None) -> dict[str, Any]:
    kept = sum(topic.latest[p] - topic.earliest[p] for p in topic.latest)
    lag = {} if raw is None else {"records_not_yet_in_raw": _behind(topic, raw)}
    return {
        "topic_id": topic.topic_id,
        "partitions": len(topic.latest),
        "records_kept": kept,
        "replicas_in_sync": topic.in_sync,
        "offsets": dg.MetadataValue.json({str(p): offset for p, offset in sorted(topic.latest.items())}),
        **lag,
    }


def _behind(topic: TopicState, raw: Head) -> int:
    return raw.offsets.records_to(raw.offsets.advanced(topic.topic_id, topic.latest))
