"""`make bench-bloom`: what Bloom filters cost where they are written: CPU time and bytes.

Belongs here: the same rows of raw and of versions, written by turns with the filters and without. Does not:
what they save (`paywave investigate` says how many files they spared each time).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from statistics import median

from pyspark.sql import DataFrame

from bench.lake import Lake, running_lake
from bench.telling import machine, remark
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import BY_NAME, RAW, VERSIONS
from lakehouse.tables import ensure_tables

_SEED = 17
_WARM, _TURNS = 2, 7
_WAYS = ("without", "with")


def main() -> None:
    """Fill raw and the versions, write both again and again; print a line for each."""
    parser = argparse.ArgumentParser(prog="bench-bloom")
    parser.add_argument("--events", type=int, default=100_000)
    events = parser.parse_args().events
    print(machine(), flush=True)
    with running_lake() as lake:
        remark(f"{events:,} events through Kafka and the fold")
        lake.fill_raw(events, _SEED)
        lake.job(events).run(once=True)
        for table in (RAW, VERSIONS):
            _measure(lake, table)


def _measure(lake: Lake, table: str) -> None:
    rows = lake.spark.table(f"{CATALOG_NAME}.{table}").cache()
    count = rows.count()
    targets = {way: _copy_of(lake, table, way) for way in _WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in _WAYS}
    sizes: dict[str, int] = {}
    for turn in range(_WARM + _TURNS):
        for way, target in targets.items():
            with lake.costs(count) as costs:
                _write(rows, target)
            if turn >= _WARM:
                seconds[way].append(costs[0].spent.job)
            sizes[way] = costs[0].written[".parquet"]
    rows.unpersist()
    base, more = (median(seconds[way]) for way in _WAYS)
    print(
        f"{table}, {count:,} rows: written in {base:.2f} CPU-s without and {more:.2f} with, "
        f"{more / base:.3f} times; "
        f"{sizes['without'] / 1e6:.2f} and {sizes['with'] / 1e6:.2f} MB, "
        f"{sizes['with'] / sizes['without']:.3f} times",
        flush=True,
    )


def _copy_of(lake: Lake, table: str, way: str) -> str:
    """Make an empty table like another one, with its Bloom filters or without."""
    found = BY_NAME[table]
    kept = {n: v for n, v in found.properties.items() if way == "with" or "bloom-filter" not in n}
    name = f"bench.{table.split('.')[1]}_{way}"
    ensure_tables(lake.catalog, lake.settings.tables.buckets, [replace(found, name=name, properties=kept)])
    return f"{CATALOG_NAME}.{name}"


def _write(rows: DataFrame, target: str) -> None:
    rows.repartition(2).writeTo(target).option("fanout-enabled", "true").append()


if __name__ == "__main__":
    main()
