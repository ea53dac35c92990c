"""Event hours as partitions: what is known of one once it is closed, and again when late data reach it.

Belongs here: the partitions, the asset that states a closed hour, and the sensor that follows the watermark.
Does not: folding an hour again (`backfill.py`).
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import dagster as dg

from assets.exports import audit_renewal, renewal_of
from assets.lake import Lake
from assets.metadata import of_hour
from assets.notify import Notifier
from assets.tables import OWNER, key_of, schema_of
from lakehouse.arrivals_sql import ARRIVALS_VIEW, CLOSED_AFTER, HOUR
from lakehouse.changes import changes_of_hour
from lakehouse.content_hash import combine
from lakehouse.definitions import BY_NAME, PAYMENTS, VERSIONS
from lakehouse.moments import Moment
from lakehouse.query import run_query
from lakehouse.refs import read_head
from lakehouse.stored_hash import stored_sums
from lakehouse.table_hash import shape_of
from streaming.backfill.hours import write_hour
from streaming.partitions import hour_of

KEY_FORMAT = "%Y-%m-%dT%H"
EVENT_HOURS = dg.AssetKey(["curated", "event_hours"])
CLOSED_HOURS = dg.AssetKey(["quality", "closed_hours"])
SOUND = dg.AssetCheckSpec(
    "sound", asset=CLOSED_HOURS, description="No two payments of the hour share their key."
)
_COLUMNS = schema_of(
    ("payments", "long", "Payments of the hour."),
    ("content_hash", "string", "Their content, blind to order."),
    ("snapshot_id", "string", "Snapshot of curated.payments that was read."),
    ("late_versions", "long", "Versions that came after the hour had closed."),
    ("payments_changed_late", "long", "Payments that these changed."),
    ("money", "list<struct<type, currency, payments, amount>>", "Sums of what was not reversed."),
)
# A tick tells of so many hours; the next one goes on. Late records of one hour are told of this seldom: each
# time the hour is stated again, and people are told.
MOST_HOURS = 200
QUIET = timedelta(minutes=15)


def hourly(first: datetime) -> dg.HourlyPartitionsDefinition:
    """The event hours that there are, in UTC."""
    return dg.HourlyPartitionsDefinition(first, fmt=KEY_FORMAT, timezone="UTC")


def start_of(key: str) -> datetime:
    """The start of the hour that a partition key names."""
    return datetime.strptime(key, KEY_FORMAT).replace(tzinfo=UTC)


def event_hours_spec(hours: dg.HourlyPartitionsDefinition) -> dg.AssetSpec:
    """The hours as the streaming jobs fill and time closes them: nothing here makes one."""
    return dg.AssetSpec(
        EVENT_HOURS,
        deps=[key_of(VERSIONS), key_of(PAYMENTS)],
        partitions_def=hours,
        description="Event hours that have closed; one is reported again when late records reach it.",
        group_name="curated",
        owners=[OWNER],
        tags={"layer": "curated", "tier": "1"},
    )


def closed_hours_asset(hours: dg.HourlyPartitionsDefinition) -> dg.AssetsDefinition:
    """Make the asset that states what a closed hour holds; late data make it due again, however old it is."""

    @dg.asset(
        key=CLOSED_HOURS,
        deps=[EVENT_HOURS, key_of(PAYMENTS)],
        partitions_def=hours,
        automation_condition=_due(),
        check_specs=[SOUND],
        description="What a closed event hour holds: rows, money, content hash, and what came late.",
        group_name="quality",
        owners=[OWNER],
        tags={"layer": "quality", "tier": "1"},
        metadata={"dagster/column_schema": _COLUMNS},
        pool="hours",
        retry_policy=dg.RetryPolicy(max_retries=3, delay=20, backoff=dg.Backoff.EXPONENTIAL),
    )
    def closed_hours(
        context: dg.AssetExecutionContext, lake: Lake, notifier: Notifier
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # with arguments Dagster misses the check's result
        """State one hour, read by DuckDB from its own partitions."""
        key = context.partition_key
        stated = _state(lake, start_of(key))
        if stated.doubled:  # the run itself ends well: it has stated what there is
            notifier.tell(
                "closed_hours",
                f"payments of the closed hour {key} stand twice, the first of them: {stated.doubled[0]}",
                run_id=context.run.run_id,
                next=f"paywave backfill run --hour {key} --reason … --approver … puts the hour right",
            )
        return _shown(stated, start_of(key))

    return closed_hours


def _due() -> Any:
    """When an hour is to be stated: it has closed, and it never was, or it changed or was folded again since.

    `AutomationCondition.eager()` would look at the latest hour only, and what is late is never in that one;
    and it would leave out what was there before its first look.
    """
    condition = dg.AutomationCondition
    return (
        (condition.newly_missing() | condition.any_deps_updated()).since(
            condition.newly_requested() | condition.newly_updated()
        )
        & ~condition.any_deps_missing().ignore(dg.AssetSelection.assets(key_of(PAYMENTS)))
        & ~condition.any_deps_in_progress()
        & ~condition.in_progress()
    ).with_label("closed and not stated, or changed since")


class _Stated(NamedTuple):
    """What a closed hour holds at a snapshot of payments.

    `money`: type, currency, payments, amount; `doubled`: the first keys that two payments share; `late`:
    versions that came after the close, and payments that they changed.
    """

    snapshot_id: int
    payments: int
    content_hash: str
    money: list[tuple[Any, ...]]
    doubled: list[tuple[Any, ...]]
    late: tuple[int, int]


def _state(lake: Lake, hour: datetime) -> _Stated:
    catalog, properties = lake.catalog(), lake.properties()
    head = read_head(catalog, PAYMENTS)
    sums = stored_sums(head.table, head.snapshot.snapshot_id, properties, hours=[hour_of(hour)])
    whole = combine(sums.values()).fingerprint(shape_of(BY_NAME[PAYMENTS]))
    pinned = Moment(snapshots={PAYMENTS: head.snapshot.snapshot_id})
    within = f"{PAYMENTS} WHERE event_ts >= getvariable('start') AND event_ts < getvariable('until')"
    variables = {"start": hour, "until": hour + HOUR}
    money = run_query(
        catalog,
        properties,
        f"SELECT event_type, currency, count(*), sum(amount) FROM {within} "  # noqa: S608
        "AND status <> 'REVERSED' GROUP BY ALL ORDER BY ALL",
        pinned,
        variables=variables,
    ).rows
    key = ", ".join(BY_NAME[PAYMENTS].key)
    doubled = run_query(
        catalog,
        properties,
        f"SELECT {key} FROM {within} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 10",  # noqa: S608
        pinned,
        variables=variables,
    ).rows
    changes = changes_of_hour(catalog, properties, hour, hour + HOUR + CLOSED_AFTER)
    late = len(changes.late), len(changes.changes)
    return _Stated(head.snapshot.snapshot_id, whole.rows, whole.hash, money, doubled, late)


def _shown(stated: _Stated, hour: datetime) -> dg.MaterializeResult[Any]:
    records = [
        dg.TableRecord({"type": kind, "currency": currency, "payments": count, "amount": str(amount)})
        for kind, currency, count, amount in stated.money
    ]
    said = f"payments that stand twice: {stated.doubled}" if stated.doubled else "no payment stands twice"
    versions, changed = stated.late
    return dg.MaterializeResult(
        asset_key=CLOSED_HOURS,
        metadata={
            "payments": stated.payments,
            "content_hash": stated.content_hash,
            **of_hour(PAYMENTS, stated.snapshot_id, hour),
            "late_versions": versions,
            "payments_changed_late": changed,
            **({"money": dg.MetadataValue.table(records)} if records else {}),
        },
        data_version=dg.DataVersion(stated.content_hash),
        check_results=[
            dg.AssetCheckResult(
                passed=not stated.doubled,
                check_name=SOUND.name,
                asset_key=CLOSED_HOURS,
                description=said,
            )
        ],
    )


class _Hour(NamedTuple):
    """A closed hour: its key, valid records, those among them that came after the close."""

    key: str
    records: int
    late: int


@dg.sensor(
    job=audit_renewal,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells the graph which event hours have closed, and again when late data reach one of them; "
    "then standing exports of it are made again.",
)
def hours_that_close(
    context: dg.SensorEvaluationContext, lake: Lake, notifier: Notifier
) -> dg.SensorResult | dg.SkipReason:
    """Report each closed hour once, and once more whenever late records were added to it.

    The cursor: key of the newest hour that was told of; of hours with late records, how many, and when.
    """
    seen, now = _Cursor.of(context.cursor), datetime.now(UTC)
    first = lake.settings().conductor.first_hour.strftime(KEY_FORMAT)
    news = [hour for hour in _closed(lake) if seen.is_news(hour, now)]
    known = [hour for hour in news if hour.key >= first][:MOST_HOURS]
    # Hours before the first partition cannot be stated, but late data of them are not passed over either.
    # At the first look all of them are there at once, and none is late.
    older = [hour for hour in news if hour.key < first][: MOST_HOURS if seen.newest else None]
    if not known and not older:
        return dg.SkipReason("no hour has closed, and nothing came late")
    late = {hour.key: seen.more(hour) for hour in (*older, *known) if hour.key <= seen.newest}
    if late:
        unknown = sum(key < first for key in late)
        notifier.tell(
            "late_data",
            f"{sum(late.values()):,} records came for {len(late):,} closed hours: {', '.join([*late][:10])}"
            + (f"; {unknown:,} of these are before conductor.first_hour and not stated" if unknown else ""),
            next=f"paywave changes --hour {min(late)}:00Z; standing exports of them are made again",
        )
    return dg.SensorResult(
        run_requests=[renewal_of([f"{key}:00:00Z" for key in late], f"late {now.isoformat()}")]
        if late
        else [],
        asset_events=[_told(hour) for hour in known],
        cursor=seen.after([*older, *known], now.timestamp()).text(),
    )


def _told(hour: _Hour) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        EVENT_HOURS,
        partition=hour.key,
        description="the hour has closed" if not hour.late else "late records came for this closed hour",
        metadata={"records": hour.records, "late_records": hour.late},
    )


def _closed(lake: Lake) -> list[_Hour]:
    found = run_query(
        lake.catalog(),
        lake.properties(),
        f"SELECT epoch(hour)::BIGINT // 3600, records, late_records FROM {ARRIVALS_VIEW} "  # noqa: S608
        "WHERE hour IS NOT NULL AND closed_at IS NOT NULL ORDER BY hour",
    )
    return [_Hour(write_hour(number), records, late) for number, records, late in found.rows]


class _Cursor(NamedTuple):
    newest: str
    late: dict[str, tuple[int, float]]

    @classmethod
    def of(cls, text: str | None) -> "_Cursor":
        return cls(**json.loads(text)) if text else cls("", {})

    def is_news(self, hour: _Hour, now: datetime) -> bool:
        """Tell whether it has closed since, or late records came and any were told of long ago."""
        _, told_at = self.late.get(hour.key, (0, 0.0))
        is_quiet = now.timestamp() - told_at < QUIET.total_seconds()
        return hour.key > self.newest or (self.more(hour) > 0 and not is_quiet)

    def more(self, hour: _Hour) -> int:
        """Count the late records that were not told of."""
        return hour.late - self.late.get(hour.key, (0, 0.0))[0]

    def after(self, news: list[_Hour], now: float) -> "_Cursor":
        newest = max(self.newest, *(hour.key for hour in news))
        return _Cursor(newest, self.late | {hour.key: (hour.late, now) for hour in news if hour.late})

    def text(self) -> str:
        return json.dumps(self._asdict())
