"""`make bench-rules`: what judging a record costs on top of decoding it.

Belongs here: a decoder that makes the same event and looks at nothing, and both measured in turns: in one
Python process, and as the curated job's first step in Spark. Does not: what a whole batch costs (`fold.py`).
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from statistics import median
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame

from bench.lake import Lake, running_lake
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import RAW
from quality.canonical import canonical_json, encode_fields, parse_json
from quality.contract import HISTORY, Event
from quality.judge import judge, micros
from streaming import decode
from streaming.simulate import PRESETS, Plan, Simulation

MOST = 15.0  # percent
_SEED = 5
_TURNS = 9
_SPARK_WARM, _SPARK_TURNS = 3, 7
_HOUR = timedelta(hours=1)
_SCALE = Decimal("0.0001")
_OPTIONAL = ("original_event_id", "transaction_ref")


def main() -> int:
    """Run; returns 1 where the rules take a larger share in Spark than was asked for."""
    parser = argparse.ArgumentParser(prog="bench-rules")
    parser.add_argument("--events", type=int, default=100_000)
    events = parser.parse_args().events
    now = datetime.now(UTC)
    load = os.getloadavg()[0]
    print(f"{now:%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load average {load:.1f} before, ", end="")
    print(f"Python {platform.python_version()}; medians of CPU time, both in turns")
    _in_python(events // 5, now)
    with running_lake() as lake:
        return int(_in_spark(lake, events) > MOST)


def _in_python(events: int, now: datetime) -> float:
    lines = _valid_lines(events, now)
    assert all(judge(line, now, HISTORY[-1]) == decoded(line) for line in lines), "both make the same event"
    decoding, judging = [], []
    for _ in range(_TURNS):
        decoding.append(_seconds(lines, decoded))
        judging.append(_seconds(lines, lambda line: judge(line, now, HISTORY[-1])))
    return _report("one process", len(lines), decoding, judging)


def _in_spark(lake: Lake, events: int) -> float:
    lake.fill_raw(events, _SEED, PRESETS["clean"])
    raw = lake.spark.table(f"{CATALOG_NAME}.{RAW}")
    decoding, judging = list[float](), list[float]()
    for turn in range(_SPARK_WARM + _SPARK_TURNS):
        for rows, found in ((_undiscerning(raw), decoding), (decode.decode(raw), judging)):
            with lake.costs(events) as costs:
                rows.write.format("noop").mode("overwrite").save()
            if turn >= _SPARK_WARM:
                found.append(costs[0].spent.job)
    return _report("Spark, from raw to columns", events, decoding, judging)


def _report(where: str, events: int, decoding: list[float], judging: list[float]) -> float:
    base, whole = (median(found) / events * 1e6 for found in (decoding, judging))
    more = (whole / base - 1) * 100
    print(f"{where}, {events:,} events: decoding {base:.1f} us each, judging too {whole:.1f} us: ", end="")
    print(f"the rules take {more:.1f} % more", flush=True)
    return more


def _undiscerning(raw: DataFrame) -> DataFrame:
    return decode.to_judge(raw).mapInArrow(_decode_batches, decode.SCHEMA)


def _decode_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        yield decode.judged_batch(
            columns, [(1, *decoded(value), None) for value in columns["value"].to_pylist()]
        )


def decoded(line: bytes) -> Event:
    """Make the event of a record that is known to be valid, as a job without a contract would."""
    f = parse_json(line)
    amount = Decimal(f["amount"]).quantize(_SCALE)
    event_ts, attributes = _moment(f["event_ts"]), canonical_json(f["attributes"])
    names = "account_id", "card_id", "merchant_id", "network", "currency"
    business = (f["event_type"], *(f[n] for n in names), format(amount, "f"), str(micros(event_ts)))
    revision = f.get("revision") or None
    rest = f["status"], revision and str(revision), *(f.get(n) for n in _OPTIONAL), attributes
    what = encode_fields(business)
    content = encode_fields((f["event_id"],)) + what + encode_fields(rest)
    return Event(
        f["event_id"], f["event_type"], event_ts, _moment(f["ingest_ts"]), f["account_id"], f["card_id"],
        f["merchant_id"], amount, f["currency"], f["network"], f["status"], revision,
        f.get("original_event_id"), f.get("transaction_ref"), attributes,
        sha256(content).hexdigest(), sha256(what).hexdigest(),
    )  # fmt: skip


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _valid_lines(count: int, now: datetime) -> list[bytes]:
    lines = Simulation(Plan(count, _SEED, now - _HOUR, _HOUR)).lines()
    return [line for line in lines if isinstance(judge(line, now, HISTORY[-1]), Event)]


def _seconds(lines: list[bytes], work: Callable[[bytes], Any]) -> float:
    started = time.process_time()
    for line in lines:
        work(line)
    return time.process_time() - started


if __name__ == "__main__":
    sys.exit(main())
