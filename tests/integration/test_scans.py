"""What a batch reads: files of the partitions that it has rows for, no others; the benchmark would notice."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from bench.scans import Scans, files_by_partition, read_too_much
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import PAYMENTS, VERSIONS
from lakehouse.refs import read_head
from streaming.partitions import Partition
from streaming.simulate import Mix, Plan, default_start
from tests.pipeline import Pipeline
from tests.streams import SPAN, steady

pytestmark = pytest.mark.integration
SOILED = Mix(duplicates=0.1, business_duplicates=0.1, reversals=0.1, corrections=0.1)


@pytest.mark.slow
def test_a_batch_reads_no_file_of_a_partition_that_it_does_not_touch(pipeline: Pipeline) -> None:
    start = default_start(SPAN)
    run(pipeline, Plan(200, 1, start - timedelta(hours=48), timedelta(hours=8), SOILED))
    run(pipeline, Plan(200, 2, start, SPAN, SOILED))
    before, scans = files(pipeline, VERSIONS), Scans(pipeline.spark)
    run(pipeline, Plan(200, 3, start, SPAN, SOILED))  # it finds the other one's files in its partitions
    touched = {p for p, count in files(pipeline, VERSIONS).items() if count > before[p]}
    read = scans.read()
    for table in (VERSIONS, PAYMENTS):
        assert read[table]
        assert max(read[table]) > 0
        assert read_too_much(read[table], files(pipeline, table), touched) is None
    pipeline.spark.table(f"{CATALOG_NAME}.{PAYMENTS}").select("event_id").collect()
    problem = read_too_much(scans.read()[PAYMENTS], files(pipeline, PAYMENTS), touched)
    assert problem is not None, "reading the whole table would not have been noticed"


def run(pipeline: Pipeline, plan: Plan) -> None:
    pipeline.send_lines(steady(plan).lines())
    pipeline.run()


def files(pipeline: Pipeline, table: str) -> Counter[Partition]:
    """Data files of a table by partition."""
    head = read_head(pipeline.catalog, table)
    return files_by_partition(head.table, head.snapshot)
