"""The contract history inside Spark: which version judges a record, and what another one would change."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from quality.errors import UnknownContract
from streaming.contract_diff import contract_changes
from streaming.decode import decode
from tests.events import wire

pytestmark = pytest.mark.integration

START = datetime(2027, 1, 1, tzinfo=UTC)
BEFORE = START - timedelta(microseconds=1)
_HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
_SCHEMA = pa.schema(
    [
        ("topic_id", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("kafka_ts", pa.timestamp("us", "UTC")),
        ("headers", _HEADERS),
        ("value", pa.binary()),
    ]
)


def event(**changes: Any) -> bytes:
    return wire(event_ts=BEFORE.isoformat(), ingest_ts=BEFORE.isoformat(), **changes)


@pytest.fixture(scope="module")
def raw(spark: SparkSession) -> DataFrame:
    """Records on both sides of the moment from which a refund must be more than 0, as rows of raw."""
    refund = event(event_type="REFUND", amount="0", currency="EUR", transaction_ref="T-1")
    chargeback = event(event_type="CHARGEBACK", amount="0")
    told = [(BEFORE, refund)] * 4 + [(START, refund), (BEFORE, chargeback), (BEFORE, event()), (START, b"{]")]
    rows = [
        {"topic_id": "t", "topic": "t", "partition": 0, "offset": n, "kafka_ts": at, "value": value}
        for n, (at, value) in enumerate(told)
    ]
    return spark.createDataFrame(pa.Table.from_pylist(rows, _SCHEMA))


def test_the_contract_changes_with_the_microsecond(raw: DataFrame) -> None:
    rows = decode(raw).select("offset", "contract_version", "event_type", "violations.rule").collect()
    found = {row[0]: tuple(row[1:]) for row in rows}
    assert found[0] == (1, "REFUND", None)
    assert found[4] == (2, None, ["range"])
    assert decode(raw, 2).where("violations IS NULL").count() == 1
    assert decode(raw, 1).where("violations IS NULL").count() == 7


def test_workers_import_from_no_archive_which_they_would_read_anew_before_each_task(raw: DataFrame) -> None:
    def path(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        list(batches)
        yield pa.record_batch({"place": [*sys.path, *sys.path_importer_cache]})

    places = {row.place for row in raw.mapInArrow(path, "place string").collect()}
    assert places
    assert not [place for place in places if place.endswith((".jar", "pyspark.zip", "-src.zip"))]


def test_what_another_contract_would_change(raw: DataFrame) -> None:
    found = [tuple(row) for row in contract_changes(raw, 2).collect()]
    nothing = Decimal("0.0000")
    assert found == [
        ("rejected", "range amount", "REFUND", "EUR", 4, nothing, [("t", 0, n) for n in range(3)]),
        ("rejected", "range amount", "CHARGEBACK", "USD", 1, nothing, [("t", 0, 5)]),
    ]
    (back,) = contract_changes(raw, 1).collect()
    assert tuple(back)[:5] == ("accepted", "range amount", "REFUND", "EUR", 1)


def test_an_unknown_contract_is_refused_before_anything_is_read(raw: DataFrame) -> None:
    for judging in (decode, contract_changes):
        with pytest.raises(UnknownContract, match="no contract version 99"):
            judging(raw, 99)
