"""What the graph is told of tables that publish each few seconds: seldom, but what matters at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from pyiceberg.table.snapshots import Operation, Snapshot, Summary

from assets import observe
from assets.lake import Lake
from assets.metadata import of_arrivals
from assets.tables import TOPIC, key_of
from config.settings import Settings, load_settings
from lakehouse.arrivals import MAX_HOURS, Arrivals
from lakehouse.definitions import PAYMENTS, RAW
from lakehouse.errors import LakehouseError
from lakehouse.offsets import OffsetVector
from lakehouse.refs import Head
from lakehouse.stamp import Stamp
from streaming.topic_state import TopicState

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


class NoCatalog(Lake):
    """A lake whose tables are what a test says (`heads`)."""

    def settings(self) -> Settings:
        return load_settings(home=self.home, kafka={"bootstrap_servers": "nowhere:1"})

    def catalog(self) -> Any:
        return None

    def properties(self) -> dict[str, str]:
        return {}


class World:
    """Tables and topic as a test has them."""

    def __init__(self) -> None:
        self.heads: dict[str, Head] = {}
        self.topic: TopicState | None = None
        self.cursor: str | None = None
        self.told: dict[dg.AssetKey, Any] = {}

    def publish(self, name: str, snapshot: int, is_ours: bool = True, **stamp: Any) -> None:
        found = Stamp(f"token {snapshot}", "raw", OffsetVector({"id": {0: snapshot}}), **stamp)
        properties = {"total-records": "5", **(found.properties() if is_ours else {})}
        head = Snapshot(
            snapshot_id=snapshot,
            manifest_list="",
            timestamp_ms=1,
            summary=Summary(Operation.APPEND, **properties),
        )
        table: Any = SimpleNamespace(name=lambda: tuple(name.split(".")))
        self.heads[name] = Head(table, head, found)

    def tick(self, lake: Lake) -> list[dg.AssetKey]:
        """Tell what a tick of the sensor observes, and keep its cursor."""
        with dg.build_sensor_context(cursor=self.cursor, resources={"lake": lake}) as context:
            result: Any = observe.new_snapshots(context)
        self.cursor = result.cursor
        self.told |= {event.asset_key: event.metadata for event in result.asset_events}
        return [event.asset_key for event in result.asset_events]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World()

    def head_of(_catalog: Any, name: str) -> Head:
        if name not in made.heads:
            raise LakehouseError("no such table", "make it")
        return made.heads[name]

    monkeypatch.setattr(observe, "read_head", head_of)
    monkeypatch.setattr(observe, "topic_if_it_answers", lambda *_: made.topic)
    yield made


@pytest.fixture
def lake(tmp_path: Any) -> Lake:
    return NoCatalog(home=str(tmp_path))


def test_a_table_that_publishes_each_tick_is_observed_once_in_a_while(
    world: World, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed = 0
    for snapshot in range(1, 6):
        world.publish(RAW, snapshot)
        observed += len(world.tick(lake))
    assert observed == 1
    monkeypatch.setattr(observe, "EVERY", timedelta(0))
    assert world.tick(lake) == [key_of(RAW)], "its newest snapshot is told of in the end"
    assert not world.tick(lake), "and once"


def test_each_table_has_a_time_of_its_own(world: World, lake: Lake) -> None:
    world.publish(RAW, 1)
    assert world.tick(lake) == [key_of(RAW)]
    world.publish(RAW, 2)
    world.publish(PAYMENTS, 1)
    assert world.tick(lake) == [key_of(PAYMENTS)]


@pytest.mark.parametrize(
    "news", [{"contract_version": 2}, {"contract_version": 1, "code_version": "2.0"}, {"is_ours": False}]
)
def test_what_people_act_on_is_observed_at_once(world: World, lake: Lake, news: dict[str, Any]) -> None:
    world.publish(RAW, 1, contract_version=1, code_version="1.0")
    world.tick(lake)
    world.publish(RAW, 2, contract_version=1, code_version="1.0")
    assert not world.tick(lake)
    world.publish(RAW, 3, **news)
    assert world.tick(lake) == [key_of(RAW)]


def test_a_topic_that_loses_a_replica_is_observed_at_once(world: World, lake: Lake) -> None:
    def topic(offset: int, in_sync: int) -> TopicState:
        return TopicState("payments.events", "id", {0: 0}, {0: offset}, NOW, 3, in_sync)

    world.topic = topic(5, 3)
    assert world.tick(lake) == [TOPIC]
    world.topic = topic(6, 3)
    assert not world.tick(lake)
    world.topic = topic(6, 2)
    assert world.tick(lake) == [TOPIC]


def test_a_table_that_follows_kafka_says_the_watermark(
    world: World, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "p99_delay", lambda *_: timedelta(minutes=3))
    world.publish(RAW, 1, complete_to=NOW)
    world.publish(PAYMENTS, 1)
    world.tick(lake)
    assert world.told[key_of(RAW)]["watermark"].value == (NOW - timedelta(minutes=3)).timestamp()
    assert "watermark" not in world.told[key_of(PAYMENTS)], "it does not say how far it is"

    def no_log(*_: Any) -> None:
        raise LakehouseError("no such table", "make it")

    monkeypatch.setattr(observe, "p99_delay", no_log)
    world.publish(RAW, 2, complete_to=NOW, contract_version=1)
    assert world.tick(lake) == [key_of(RAW)]
    assert "watermark" not in world.told[key_of(RAW)]


def test_a_cursor_of_an_earlier_release_is_read(world: World, lake: Lake) -> None:
    world.publish(RAW, 7)
    world.cursor = f'{{"{RAW}": "7"}}'
    world.tick(lake)
    world.publish(RAW, 8)
    assert not world.tick(lake)


def test_of_arrivals_the_largest_hours_are_shown() -> None:
    arrivals = [Arrivals(hour, hour * 7 % MAX_HOURS, 10, 5) for hour in range(MAX_HOURS)]
    shown = of_arrivals(arrivals)
    records = [row.data["records"] for row in shown["arrivals"].records]
    assert records == [*range(MAX_HOURS - 1, MAX_HOURS - 11, -1)]
    assert shown["arrival_hours"] == MAX_HOURS
    assert of_arrivals([]) == {}
