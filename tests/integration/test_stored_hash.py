"""The content hash of tables in the catalog: one value per partition, whichever of three engines reads."""

from __future__ import annotations

from typing import Any

import pytest

from lakehouse.catalog import CATALOG_NAME
from lakehouse.content_hash import Sums, combine
from lakehouse.definitions import BY_NAME, PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.refs import read_head
from lakehouse.stored_hash import buckets_of, stored_sums
from lakehouse.table_hash import of_arrow, shape_of
from streaming.table_sums import spark_sums
from tests.commands import paywave
from tests.pipeline import Pipeline, dirty

pytestmark = pytest.mark.integration


def by_engine(pipeline: Pipeline, name: str, snapshot_id: int) -> dict[str, dict[tuple[int, ...], Sums]]:
    table, properties = pipeline.catalog.load_table(name), pipeline.settings.catalog_properties()
    rows = pipeline.spark.read.option("versionAsOf", snapshot_id).table(f"{CATALOG_NAME}.{name}")
    return {
        "duckdb": stored_sums(table, snapshot_id, properties, "duckdb"),
        "pyiceberg": stored_sums(table, snapshot_id, properties, "pyiceberg"),
        "spark": spark_sums(rows, BY_NAME[name], buckets_of(table.spec())),
    }


def test_three_engines_give_one_hash_per_partition_of_every_table(pipeline: Pipeline) -> None:
    lines = list(dirty(700, 21).lines())
    snapshots: list[dict[str, int]] = []
    for part in (lines[:400], lines[400:]):  # the second batch merges: rows that are deleted must not count
        pipeline.send_lines(part)
        pipeline.run()
        names = (RAW, VERSIONS, PAYMENTS, QUARANTINE)
        snapshots.append({n: read_head(pipeline.catalog, n).snapshot.snapshot_id for n in names})
    for name in snapshots[0]:
        table, wholes = pipeline.catalog.load_table(name), []
        for at in snapshots:
            found = by_engine(pipeline, name, at[name])
            assert found["duckdb"] == found["pyiceberg"] == found["spark"], name
            wholes.append(combine(found["duckdb"].values()).fingerprint(shape_of(BY_NAME[name])))
            stored = table.scan(snapshot_id=at[name]).to_arrow()
            assert wholes[-1] == of_arrow(BY_NAME[name], stored)
            assert len(found["duckdb"]) > 1 or name in (RAW, QUARANTINE)
        assert wholes[0] != wholes[1]
    check_the_command(pipeline)


def check_the_command(pipeline: Pipeline) -> None:
    """Now and then, whole and by partition, by both readers that need no Spark."""
    home = {"PAYWAVE_HOME": str(pipeline.settings.home)}

    def ask(*arguments: str) -> dict[str, Any]:
        done = paywave("hash", PAYMENTS, "--output", "json", *arguments, **home)
        assert done.code == 0, done.stderr
        return done.json

    now = ask("--by-partition")
    assert now["rows"] == len(pipeline.rows(PAYMENTS)) == sum(p["rows"] for p in now["partitions"].values())
    assert ask("--by-partition", "--reader", "pyiceberg", "--snapshot", now["snapshot"]) == now
    birth = pipeline.catalog.load_table(PAYMENTS).snapshots()[0].snapshot_id
    assert ask("--snapshot", str(birth))["rows"] == 0
    unknown = paywave("hash", "curated.payment", **home)
    assert unknown.code == 1
    assert PAYMENTS in unknown.stderr
