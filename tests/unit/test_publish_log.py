"""What a table's metadata tells the publish log: one row each time that main was set."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from lakehouse.arrivals import Arrivals
from lakehouse.publish_log import rows_of
from lakehouse.stamp import Stamp
from tests.history import NAME, History, offsets


def test_a_publish_is_told_with_its_stamp() -> None:
    history = History()
    moment = datetime(2026, 11, 20, 12, tzinfo=UTC)
    stamp = Stamp("token", "w", offsets(7), 3, 99, moment, (Arrivals(5, 2, 30, 20),), {"records": 7})
    history.add(1, None, stamp)
    history.branch("main", 1)
    table = history.table()
    (row,) = rows_of(table)
    assert row == {
        "table_name": NAME,
        "table_uuid": str(table.metadata.table_uuid),
        "snapshot_id": 1,
        "published_at": datetime.fromtimestamp(1, UTC),
        "operation": "append",
        "writer": "w",
        "token": "token",
        "offsets": offsets(7).to_json(),
        "complete_to": moment,
        "contract_version": 3,
        "source_snapshot": 99,
        "totals": json.dumps({"records": 7}),
        "code_version": None,
        "arrivals": [{"hour": 5, "records": 2, "max_delay_ms": 30, "p99_delay_ms": 20}],
    }


def test_what_was_seen_is_told_and_what_was_not_is_not() -> None:
    history = History()
    history.publish(1, None, 0)
    history.publish(2, 1, 10)
    step = Stamp("two-steps", "w", offsets(20))
    history.add(3, 2, step)
    history.add(4, 3, step)
    history.branch("main", 4)
    history.add(5, 4, replace(step, token="unpublished"))
    history.publish(6, 4, None, writer="compact")
    history.add(7, 6)
    history.branch("main", 7)
    told = [(r["snapshot_id"], r["published_at"].timestamp(), r["writer"]) for r in rows_of(history.table())]
    assert told == [(1, 1, "w"), (2, 2, "w"), (4, 3, "w"), (6, 4, "compact"), (7, 5, None)]
    stood = [json.loads(r["offsets"]).get("topic", {}).get("0") for r in rows_of(history.table())]
    assert stood == [0, 10, 20, 20, 20]


def test_a_rollback_is_seen_too() -> None:
    history = History()
    history.publish(1, None, 0)
    history.publish(2, 1, 10)
    history.branch("main", 1)
    told = [(r["snapshot_id"], r["published_at"].timestamp(), r["offsets"]) for r in rows_of(history.table())]
    assert told == [(1, 1, offsets(0).to_json()), (2, 2, offsets(10).to_json()), (1, 3, offsets(0).to_json())]


def test_expired_snapshots_are_not_told_again() -> None:
    history = History()
    history.publish(1, None, 0)
    history.publish(2, 1, 10)
    history.expire()
    assert [row["snapshot_id"] for row in rows_of(history.table())] == [2]
