"""What the streaming jobs do, told to the graph: they run outside, and their tables' snapshots say enough.

Belongs here: the sensor that looks for new snapshots and at the topic. Does not: judging them (`checks/`).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any, NamedTuple

import dagster as dg
from pyiceberg.exceptions import NoSuchTableError

from assets.lake import Lake
from assets.metadata import of_head
from assets.tables import TOPIC, key_of
from lakehouse.complete import p99_delay
from lakehouse.definitions import BY_NAME, PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.errors import LakehouseError
from lakehouse.offsets import OffsetVector
from lakehouse.refs import Head, read_head, stamp_of
from streaming.topic_state import TopicState, topic_if_it_answers

_FOLLOW_RAW = (VERSIONS, PAYMENTS, QUARANTINE)
# Dagster keeps every observation for good, 10 to 20 KB each, and the jobs publish each few seconds. The
# checks judge freshness and completeness no oftener; what a person acts on is observed at once (`matters`).
EVERY = timedelta(minutes=10)


class Seen(NamedTuple):
    """What the graph was last told of a table or the topic: which version, when, and what mattered of it."""

    version: str
    told_at: float
    matters: str

    def is_news(self, version: str, matters: str, now: float) -> bool:
        """Tell whether to observe it again: something else matters, or it is new and due."""
        is_due = now - self.told_at >= EVERY.total_seconds()
        return matters != self.matters or (version != self.version and is_due)


_NEVER = Seen("", 0.0, "")


@dg.sensor(
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Observes each table that has a new snapshot, and the topic: size, offsets, watermark, lag.",
)
def new_snapshots(context: dg.SensorEvaluationContext, lake: Lake) -> dg.SensorResult:
    """Observe what has changed since the cursor says it was told of (`Seen`, by table)."""
    seen = _read(context.cursor)
    settings = lake.settings()
    catalog = lake.catalog()
    heads = {}
    for name in BY_NAME:
        try:
            heads[name] = read_head(catalog, name)
        except (LakehouseError, NoSuchTableError) as error:  # a person must look at it; the others go on
            context.log.error(f"table {name}: {error}")
    topic = topic_if_it_answers(settings.kafka_properties(), settings.kafka.topic)
    delay = cache(partial(_delay, lake))  # one look at the log, whichever tables say how far they are
    now = datetime.now(UTC).timestamp()
    found = list(_observations(heads, topic, seen, now, partial(_watermark, delay)))
    told = {name: now_seen for name, now_seen, _ in found}
    return dg.SensorResult(
        asset_events=[observation for _, _, observation in found], cursor=json.dumps(seen | told)
    )


def _read(cursor: str | None) -> dict[str, Seen]:
    """Read the cursor. One of before has snapshots only: when it was told of them is long ago."""
    found: dict[str, Any] = json.loads(cursor or "{}")
    return {name: Seen(one, 0.0, "") if isinstance(one, str) else Seen(*one) for name, one in found.items()}


def _observations(
    heads: Mapping[str, Head],
    topic: TopicState | None,
    seen: Mapping[str, Seen],
    now: float,
    watermark: Callable[[Head], dict[str, Any]],
) -> Iterator[tuple[str, Seen, dg.AssetObservation]]:
    for name, head in heads.items():
        version, matters = str(head.snapshot.snapshot_id), _matters(head)
        if seen.get(name, _NEVER).is_news(version, matters, now):
            metadata = of_head(head) | _lag(name, heads, topic) | watermark(head)
            yield name, Seen(version, now, matters), _observation(key_of(name), version, metadata)
    if topic is not None:
        version = OffsetVector({topic.topic_id: topic.latest}).to_json()
        matters = f"{topic.topic_id}, {len(topic.latest)} partitions, {topic.in_sync} in sync"
        if seen.get(topic.topic, _NEVER).is_news(version, matters, now):
            metadata = _of_topic(topic, heads.get(RAW))
            yield topic.topic, Seen(version, now, matters), _observation(TOPIC, version, metadata)


def _watermark(delay_of: Callable[[], timedelta | None], head: Head) -> dict[str, Any]:
    """Show up to which event time nearly all has come, where the table says how far it is; see `complete`."""
    complete_to = head.progress.complete_to
    if complete_to is None or (delay := delay_of()) is None:
        return {}
    return {"watermark": dg.MetadataValue.timestamp(complete_to - delay)}


def _delay(lake: Lake) -> timedelta | None:
    try:
        return p99_delay(lake.catalog(), lake.properties())
    except (LakehouseError, NoSuchTableError):  # the log that it is told by is not there yet
        return None


def _matters(head: Head) -> str:
    """Say what people act on: another contract, another release, a snapshot that is none of ours."""
    stamp = stamp_of(head.snapshot)
    if stamp is None:
        return f"snapshot {head.snapshot.snapshot_id} is not one of ours"
    return f"contract {head.progress.contract_version}, release {head.progress.code_version}"


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
